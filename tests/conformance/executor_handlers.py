"""The same handlers for each executor: what the suite of executors runs, and child processes import."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import trio

from tq.verdicts import Fatal, RetryAfter, Snooze
from tq.worker.asked import resource
from tq.worker.context import Context, current
from tq.worker.handlers import Handlers
from tq.worker.middleware import Middleware, Outcome

EXECUTORS = ("thread", "process", "async", "asyncio")
COLOUR: ContextVar[str] = ContextVar("colour", default="none")


class Layer(Middleware):
    """Seen in the result: what it did around, and what it knew."""

    def around(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        result = call_next()
        return result + b" layer" if ctx.type == "given" else result

    async def around_async(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        result = await call_next()
        return result + b" layer" if ctx.type == "given" else result

    def after(self, ctx: Context, outcome: Outcome) -> None:
        assert current() is ctx


def make() -> Iterator[str]:
    yield "made"


def echo(payload: bytes, ctx: Context) -> bytes:
    return payload


def nothing(payload: bytes, ctx: Context) -> None:
    return None


def number(payload: bytes, ctx: Context) -> int:
    return 3


def fails(payload: bytes, ctx: Context) -> bytes:
    raise LookupError("no luck")


def exits(payload: bytes, ctx: Context) -> bytes:
    raise SystemExit("not even this ends it")


def gives_up(payload: bytes, ctx: Context) -> bytes:
    raise ValueError("for good")


def verdict(payload: bytes, ctx: Context) -> bytes:
    raise {b"fatal": Fatal("never"), b"after": RetryAfter(2), b"snooze": Snooze(3)}[payload]


def context(payload: bytes, ctx: Context) -> bytes:
    assert current() is ctx
    said = (ctx.id, ctx.type, ctx.queue, ctx.attempt, ctx.crashes, ctx.fence, ctx.deadline, ctx.headers, ctx.cancelled)
    return repr(said).encode()


def variable(payload: bytes, ctx: Context) -> bytes:
    before = COLOUR.get()
    COLOUR.set("set")
    return before.encode()


def given(payload: bytes, ctx: Context, db: Any = resource()) -> bytes:
    return f"{db}".encode()


PLAIN = [echo, nothing, number, fails, exits, gives_up, verdict, context, variable, given]


def hold(payload: bytes, ctx: Context) -> bytes:
    """Touch the file of the payload, wait for the stop, say what was known when it came, and clean up."""
    path = Path(payload.decode())
    path.touch()
    try:
        while True:
            threading.Event().wait(0.01)  # where a plain handler can be interrupted
    finally:
        path.write_text(f"cancelled={ctx.cancelled} lost={ctx.lost}")


def outruns(payload: bytes, ctx: Context) -> bytes:
    """Returns in spite of the stop."""
    Path(payload.decode()).touch()
    while not ctx.wait_cancelled(0.01):
        pass
    return b"done"


async def hold_on_loop(payload: bytes, ctx: Context) -> None:
    path = Path(payload.decode())
    path.touch()
    try:
        await (trio.sleep_forever() if trio.lowlevel.in_trio_run() else asyncio.Event().wait())
    finally:
        path.write_text(f"cancelled={ctx.cancelled} lost={ctx.lost}")


async def outruns_trio(payload: bytes, ctx: Context) -> bytes:
    Path(payload.decode()).touch()
    with trio.CancelScope(shield=True):
        while not ctx.cancelled:
            await trio.sleep(0.01)
    return b"done"


async def outruns_asyncio(payload: bytes, ctx: Context) -> bytes:
    Path(payload.decode()).touch()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return b"done"


def _as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    async def coroutine(payload: bytes, ctx: Context, **given: Any) -> Any:
        await (trio.lowlevel.checkpoint() if trio.lowlevel.in_trio_run() else asyncio.sleep(0))
        return function(payload, ctx, **given)

    coroutine.__name__ = coroutine.__qualname__ = function.__name__
    return coroutine


def table(executor: Any) -> Handlers:
    handlers = Handlers(middleware=[Layer()], resources={"db": make})
    is_async = executor in ("async", "asyncio")
    for function in PLAIN:
        handlers.register(
            function.__name__,
            _as_coroutine(function) if is_async else function,
            executor=executor,
            content_type="text/plain",
            gives_up=(lambda error: isinstance(error, ValueError)) if function is gives_up else None,
            asks={"db": "db"} if function is given else {},
        )
    handlers.register("hold", hold_on_loop if is_async else hold, executor=executor)
    outrun = {"async": outruns_trio, "asyncio": outruns_asyncio}.get(executor, outruns)
    handlers.register("outruns", outrun, executor=executor)
    return handlers


PROCESS = table("process")
