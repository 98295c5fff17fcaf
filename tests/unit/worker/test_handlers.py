"""Tables of handlers, and how they are found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tq import limits
from tq.errors import ConfigError
from tq.worker.asked import resource
from tq.worker.context import Context
from tq.worker.handlers import Handlers, load


def plain(payload: bytes, ctx: Context) -> bytes:
    return payload


async def coroutine(payload: bytes, ctx: Context) -> bytes:
    return payload


def test_the_executor_follows_from_the_function() -> None:
    handlers = Handlers()
    handlers.register("plain", plain)
    handlers.register("async", coroutine)
    handlers.register("process", plain, executor="process", content_type="text/plain")
    found = {handler.type: (handler.executor, handler.content_type) for handler in handlers}
    octets = "application/octet-stream"
    assert found == {"plain": ("thread", octets), "async": ("async", octets), "process": ("process", "text/plain")}
    assert handlers.types == ["async", "plain", "process"]
    assert len(handlers) == 3
    assert handlers.get("other") is None


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    handlers = Handlers()
    assert handlers.handler("t")(plain) is plain
    handler = handlers.get("t")
    assert handler is not None
    assert handler.function is plain


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("", plain, None), "1 to 128 characters"),
        (("x" * (limits.NAME_CHARS_MAX + 1), plain, None), "1 to 128 characters"),
        (("taken", plain, None), "has two handlers"),
        (("t", "not callable", None), "cannot be called"),
        (("t", plain, "fibre"), 'use "thread", "process", "async" or "asyncio"'),
        (("t", coroutine, "thread"), 'async def: its executor is "async" or "asyncio"'),
        (("t", plain, "async"), 'def: its executor is "thread" or "process"'),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[Any, Any, Any], match: str) -> None:
    handlers = Handlers()
    handlers.register("taken", plain)
    type_, function, executor = arguments
    with pytest.raises(ConfigError, match=match):
        handlers.register(type_, function, executor=executor)


TABLE = (
    "from tq.worker.handlers import Handlers\n{name} = Handlers()\n{name}.register('t', lambda payload, ctx: payload)\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize(("name", "target"), [("HANDLERS", ""), ("app", ""), ("mine", ":mine")])
def test_a_module_of_the_present_directory_is_found(folder: Path, name: str, target: str) -> None:
    (folder / f"found_{name}.py").write_text(TABLE.format(name=name))
    assert load(f"found_{name}{target}").handlers.types == ["t"]


@pytest.mark.parametrize(
    ("text", "target", "match"),
    [
        (None, "nowhere_at_all", "there is no module 'nowhere_at_all'"),
        (None, "nowhere_at_all.deep", "there is no module 'nowhere_at_all.deep'"),
        ("", "empty_module", "has no app or HANDLERS"),
        ("app = 3", "wrong_kind", "has no app or HANDLERS"),
        (TABLE.format(name="HANDLERS"), "no_such_name:other", "has no other"),
        ("from tq.worker.handlers import Handlers\napp = Handlers()", "no_handlers", "no_handlers.app has no handlers"),
        (TABLE.format(name="mine"), "other_name", "did you mean other_name:mine\\?"),
        ("import tq\nshop = tq.App()", "other_app", "did you mean other_app:shop\\?"),
        (None, "shop/tasks.py", "'shop/tasks.py' is no name of a module: write it as in an import, 'shop.tasks'"),
        (None, "./tasks.py:app", "write it as in an import, 'tasks'"),
        (None, ".tasks", "write it as in an import, 'tasks'"),
    ],
)
def test_a_target_without_handlers_says_what_is_missing(
    folder: Path, text: str | None, target: str, match: str
) -> None:
    if text is not None:
        (folder / f"{target.partition(':')[0]}.py").write_text(text)
    with pytest.raises(ConfigError, match=match):
        load(target)


APP = """
from tq.worker.handlers import Handlers
class App:
    handlers = Handlers()
    worker_middleware = ["layer"]
    resources = {{"db": dict}}
    brokers = None
App.handlers.register("of-app", lambda payload, ctx: None)
{name} = App()
HANDLERS = Handlers()
HANDLERS.register("of-table", lambda payload, ctx: None)
"""


@pytest.mark.parametrize(
    ("name", "target", "types"), [("app", "", "of-app"), ("other", ":other", "of-app"), ("other", "", "of-table")]
)
def test_an_app_is_taken_with_its_middleware_and_resources(folder: Path, name: str, target: str, types: str) -> None:
    (folder / f"app_{name}_{len(target)}.py").write_text(APP.format(name=name))
    loaded = load(f"app_{name}_{len(target)}{target}")
    assert loaded.handlers.types == [types]
    if types == "of-app":
        assert (loaded.middleware, loaded.resources) == (["layer"], {"db": dict})
        assert loaded.app is not None
    else:
        assert loaded.app is None


def test_a_table_has_its_own_middleware_and_resources(folder: Path) -> None:
    (folder / "table_with_all.py").write_text(
        "from tq.worker.handlers import Handlers\n"
        "HANDLERS = Handlers(middleware=['layer'], resources={'db': dict})\n"
        "HANDLERS.register('t', lambda payload, ctx: None)\n"
    )
    loaded = load("table_with_all")
    assert (loaded.middleware, loaded.resources) == (["layer"], {"db": dict})


def test_a_resource_has_one_maker() -> None:
    handlers = Handlers()
    assert handlers.resource("db")(plain) is plain
    assert handlers.resources == {"db": plain}
    with pytest.raises(ConfigError, match="resource 'db' is made by two functions"):
        handlers.resource("db")


def test_a_handler_knows_what_it_asks_for_and_which_errors_are_for_good() -> None:
    def asks(payload: bytes, ctx: Context, pool: Any = resource("db")) -> None: ...

    def for_good(error: BaseException) -> bool:
        return True

    handlers = Handlers()
    handlers.handler("t", gives_up=for_good)(asks)
    handlers.register("u", asks, asks={})
    first, second = handlers
    assert (first.asks, first.gives_up) == ({"pool": "db"}, for_good)
    assert (second.asks, second.gives_up) == ({}, None)


def test_async_handlers_run_on_trio_or_on_asyncio() -> None:
    handlers = Handlers()
    handlers.register("trio", coroutine)
    handlers.register("asyncio", coroutine, executor="asyncio")
    handlers.register("plain", plain)
    assert [(handler.executor, handler.is_async) for handler in handlers] == [
        ("async", True), ("asyncio", True), ("thread", False),
    ]  # fmt: skip


def test_what_the_module_itself_misses_is_not_taken_for_the_module(folder: Path) -> None:
    (folder / "needs_other.py").write_text("import not_installed_anywhere")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load("needs_other")
