"""Resources: where each is made, in which order they come and go, and what is said when one cannot be made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
import structlog.testing

from tq.errors import ConfigError, ResourceFailed
from tq.worker.handlers import Handlers
from tq.worker.resources import Plan, make, make_async, plan

# ---- where ---------------------------------------------------------------------------------------------


def handlers_that_ask(**asks: str) -> Handlers:
    """thread="db,cache": a handler in a thread asks for these."""
    handlers = Handlers()
    for executor, names in asks.items():
        wanted = {name: name for name in names.split(",") if name}
        if executor in ("async_", "asyncio"):

            async def coroutine(payload: bytes, ctx: Any, **given: Any) -> None: ...

            handlers.register(executor, coroutine, executor=executor.strip("_"), asks=wanted)  # type: ignore[arg-type]
        else:
            handlers.register(executor, lambda payload, ctx, **given: None, executor=executor, asks=wanted)  # type: ignore[arg-type]
    return handlers


async def pool() -> int:
    return 1


@asynccontextmanager
async def pool_context() -> AsyncIterator[int]:
    yield 1


PLANS: list[tuple[dict[str, str], dict[str, Any], Plan]] = [
    ({"thread": "db"}, {"db": dict}, Plan(process=("db",))),
    ({"async_": "db", "thread": "db", "asyncio": "db"}, {"db": dict}, Plan(process=("db",))),
    ({"process": "db", "thread": ""}, {"db": dict}, Plan(child=("db",))),
    ({"process": "db", "thread": "db"}, {"db": dict}, Plan(process=("db",), child=("db",))),
    ({"thread": ""}, {"db": dict, "cache": dict}, Plan(process=("db", "cache"))),
    ({"async_": "db"}, {"db": pool}, Plan(trio=("db",))),
    ({"asyncio": "db", "async_": ""}, {"db": pool_context}, Plan(asyncio=("db",))),
    ({"asyncio": ""}, {"db": pool}, Plan(asyncio=("db",))),
    ({"thread": ""}, {"db": pool}, Plan(trio=("db",))),
    (
        {"thread": "a", "asyncio": "b", "async_": "c", "process": "d"},
        {"d": list, "c": pool, "b": pool_context, "a": dict},
        Plan(("a",), ("d",), ("c",), ("b",)),
    ),
]


@pytest.mark.parametrize(("asks", "factories", "expected"), PLANS)
def test_each_is_made_where_it_is_asked_for(asks: dict[str, str], factories: dict[str, Any], expected: Plan) -> None:
    assert plan(handlers_that_ask(**asks), factories) == expected


@pytest.mark.parametrize(
    ("asks", "factories", "match"),
    [
        ({"thread": "db"}, {}, "handler of 'thread' asks for the resource 'db'; there are: none"),
        ({"thread": "db"}, {"dc": dict, "da": dict}, "there are: da, dc"),
        ({"thread": "db"}, {"db": pool}, "is def, and asks for the resource 'db', which is made by async def"),
        ({"process": "db"}, {"db": pool_context}, "make the handler async def, or the resource def"),
        ({"async_": "db", "asyncio": "db"}, {"db": pool}, "on trio and on asyncio: it can be of one of them"),
        ({"async_": "", "asyncio": ""}, {"db": pool}, "on trio and on asyncio"),
        ({"thread": ""}, {"db": "text"}, "resource 'db' is 'text': give the function that makes it"),
    ],
)
def test_what_cannot_be_given_is_refused(asks: dict[str, str], factories: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        plan(handlers_that_ask(**asks), factories)


# ---- made and closed -------------------------------------------------------------------------------------


class Log(list[str]):
    def plain(self) -> str:
        self.append("plain")
        return "p"

    def generator(self) -> Iterator[str]:
        self.append("generator")
        yield "g"
        self.append("generator closed")

    @contextmanager
    def context(self) -> Iterator[str]:
        self.append("context")
        try:
            yield "c"
        finally:
            self.append("context closed")

    def failing(self) -> str:
        raise OSError("connection refused")

    def fails_to_close(self) -> Iterator[str]:
        yield "f"
        raise OSError("still in use")

    async def aplain(self) -> str:
        self.append("plain")
        return "p"

    async def agenerator(self) -> AsyncIterator[str]:
        self.append("generator")
        yield "g"
        self.append("generator closed")

    @asynccontextmanager
    async def acontext(self) -> AsyncIterator[str]:
        self.append("context")
        try:
            yield "c"
        finally:
            self.append("context closed")

    async def afailing(self) -> str:
        raise OSError("connection refused")

    async def afails_to_close(self) -> AsyncIterator[str]:
        yield "f"
        raise OSError("still in use")


class Transaction:
    """As a connection to a database: ``with`` means something else than its life."""

    def __enter__(self) -> str:
        raise AssertionError("entered")

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> str:
        raise AssertionError("entered")

    async def __aexit__(self, *_: object) -> None: ...


NAMES = ["plain", "generator", "context"]
CLOSED = [*NAMES, "context closed", "generator closed"]


def test_they_are_made_in_order_and_closed_in_reverse() -> None:
    log = Log()
    with ExitStack() as stack:
        assert make(NAMES, {name: getattr(log, name) for name in NAMES}, stack) == {
            "plain": "p", "generator": "g", "context": "c",
        }  # fmt: skip
        assert log == NAMES
    assert log == CLOSED


async def test_so_are_those_of_async_def() -> None:
    log = Log()
    async with AsyncExitStack() as stack:
        made = await make_async(NAMES, {name: getattr(log, f"a{name}") for name in NAMES}, stack)
        assert made == {"plain": "p", "generator": "g", "context": "c"}
        assert log == NAMES
    assert log == CLOSED


async def test_what_is_returned_is_not_entered_by_itself() -> None:
    async def factory() -> Transaction:
        return Transaction()

    async with AsyncExitStack() as stack:
        assert isinstance(make(["db"], {"db": Transaction}, stack.enter_context(ExitStack()))["db"], Transaction)
        assert isinstance((await make_async(["db"], {"db": factory}, stack))["db"], Transaction)


async def test_one_that_cannot_be_made_is_named_and_those_before_it_are_closed() -> None:
    log = Log()
    told = "resource 'db' could not be made: OSError: connection refused"
    with pytest.raises(ResourceFailed, match=told) as caught, ExitStack() as stack:
        make(["first", "db"], {"first": log.generator, "db": log.failing}, stack)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ResourceFailed, match=told):
        async with AsyncExitStack() as astack:
            await make_async(["first", "db"], {"first": log.agenerator, "db": log.afailing}, astack)
    assert log == ["generator", "generator closed"] * 2


async def test_one_that_cannot_be_closed_is_logged_and_the_others_are() -> None:
    log = Log()
    with structlog.testing.capture_logs() as logs:
        with ExitStack() as stack:
            make(["a", "b"], {"a": log.generator, "b": log.fails_to_close}, stack)
        async with AsyncExitStack() as astack:
            await make_async(["a", "b"], {"a": log.agenerator, "b": log.afails_to_close}, astack)
    assert [(entry["event"], entry["resource"]) for entry in logs] == [("a resource could not be closed", "b")] * 2
    assert log == ["generator", "generator closed"] * 2
