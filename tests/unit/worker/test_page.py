"""What docs/worker.md shows is so: its modules are loaded and their handlers run."""

from __future__ import annotations

import re
import sys
import types
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.worker.jobs import a_context
from tq.verdicts import Snooze
from tq.worker.frame import acall, call
from tq.worker.handlers import Loaded, load
from tq.worker.middleware import check, dressed
from tq.worker.outcomes import COMPLETE, SNOOZE
from tq.worker.resources import make, plan

PAGE = (Path(__file__).parents[3] / "docs" / "worker.md").read_text(encoding="utf-8")
MODULES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def loaded(folder: Path, name: str) -> Loaded:
    (folder / f"{name}.py").write_text(MODULES[name])
    found = load(name)
    check(found.middleware, found.handlers)
    plan(found.handlers, found.resources)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_each_module_can_be_run_by_a_worker(name: str, folder: Path) -> None:
    assert loaded(folder, name).handlers.types


def test_the_modules_are_there() -> None:
    assert set(MODULES) == {"mail", "shop", "traced"}


def test_the_database_is_given_and_closed(folder: Path) -> None:
    found = loaded(folder, "shop")
    with ExitStack() as stack:
        values = make(["db"], found.resources, stack)
        values["db"].execute("create table orders (id)")
        handler = dressed(found.handlers, [], values, child=False).get("count")
        assert handler is not None
        assert call(handler, b"", a_context()) == (COMPLETE, [handler.content_type, b"0"])
    with pytest.raises(Exception, match="closed"):
        values["db"].execute("select 1")


async def test_the_layers_tell_and_snooze(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = loaded(folder, "traced")
    handler: Any = dressed(found.handlers, found.middleware, {}, child=False).get("report")
    assert (await acall(handler, b"in", a_context(type="report"), trio.Cancelled))[0] == COMPLETE
    assert re.fullmatch(r"report [\d.e-]+\n", capsys.readouterr().out)
    module = sys.modules["traced"]
    noon = types.SimpleNamespace(localtime=lambda: types.SimpleNamespace(tm_hour=12), monotonic=lambda: 0.0)
    monkeypatch.setattr(module, "time", noon)
    later = a_context(headers={"when": "night"})
    assert await acall(handler, b"in", later, trio.Cancelled) == (SNOOZE, round(Snooze(600).seconds * 1000))
