"""What is told of a user's module that cannot be loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tq.errors import ConfigError
from tq.worker.loading import load_told


@pytest.mark.parametrize(
    ("text", "last"), [("import nowhere_at_all\n", "ModuleNotFoundError"), ("x = (\n", "SyntaxError")]
)
def test_it_is_told_from_its_own_lines_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, last: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "fails_to_load.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_told("fails_to_load:app")
    told = caught.value.message.splitlines()
    assert told[0] == "module 'fails_to_load' cannot be loaded:"
    assert told[-1].startswith(last)
    assert [line for line in told if "importlib" in line or "handlers.py" in line] == []
    assert f'File "{tmp_path}/fails_to_load.py", line 1' in caught.value.message


def test_what_we_say_ourselves_needs_no_traceback() -> None:
    with pytest.raises(ConfigError) as caught:
        load_told("nowhere_at_all")
    assert caught.value.message.startswith("there is no module 'nowhere_at_all'")
