"""Whatever a handler does, an outcome comes out; and each job has its context."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing

from tests.unit.worker.jobs import a_context
from tq.verdicts import Stopped
from tq.worker.context import Context, current
from tq.worker.frame import Steps, acall, call
from tq.worker.handlers import Handler
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED, Said

Function = Callable[[bytes, Context], Any]


def plain(function: Function, gives_up: Callable[[BaseException], bool] | None = None) -> Handler:
    return Handler("t", function, "thread", "text/plain", gives_up)


async def on_trio(function: Callable[[bytes, Context], Awaitable[Any]], context: Context | None = None) -> Said:
    return await acall(plain(function), b"in", context or a_context(), trio.Cancelled)


def test_a_plain_handler_gets_payload_and_context() -> None:
    context = a_context()
    seen = []

    def handler(payload: bytes, ctx: Context) -> bytes:
        seen.append((payload, ctx))
        return b"out"

    assert call(plain(handler), b"in", context) == (COMPLETE, ["text/plain", b"out"])
    assert seen == [(b"in", context)]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_everything_that_is_raised_is_an_outcome(error: BaseException) -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        raise error

    outcome, (told, _permanent, _after) = call(plain(handler), b"", a_context())
    assert outcome == FAIL
    assert "in handler" in told[2]
    assert "/frame.py" not in told[2], "our own frames are none of the reader's business"


def test_our_own_stop_is_told_apart_from_one_that_the_handler_made_up() -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        raise Stopped

    context = a_context()
    assert call(plain(handler), b"", context)[0] == FAIL
    context.cancel()
    assert call(plain(handler), b"", context) == SAID_STOPPED


async def test_an_async_handler_too() -> None:
    async def good(payload: bytes, ctx: Context) -> bytes:
        await trio.lowlevel.checkpoint()
        return payload

    async def bad(payload: bytes, ctx: Context) -> bytes:
        raise SystemExit

    async def group(payload: bytes, ctx: Context) -> bytes:
        raise ExceptionGroup("several", [ValueError("x")])

    assert await on_trio(good) == (COMPLETE, ["text/plain", b"in"])
    outcome, (told, _permanent, _after) = await on_trio(bad)
    assert outcome == FAIL
    assert "in bad" in told[2]
    assert "/frame.py" not in told[2]
    assert (await on_trio(group))[1][0][0] == "ExceptionGroup"


async def test_a_cancel_passes_through_alone_and_in_a_group() -> None:
    async def alone(payload: bytes, ctx: Context) -> None:
        await trio.sleep_forever()

    async def in_group(payload: bytes, ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    for handler in (alone, in_group):
        with trio.CancelScope() as scope:
            scope.cancel()
            await on_trio(handler)
        assert scope.cancelled_caught


@pytest.mark.parametrize(("error", "permanent"), [(ValueError("x"), True), (KeyError("x"), False)])
def test_a_handler_says_which_errors_are_for_good(error: Exception, permanent: bool) -> None:
    def handler(payload: bytes, ctx: Context) -> None:
        raise error

    told = call(plain(handler, lambda error: isinstance(error, ValueError)), b"", a_context())
    assert told[1][1] is permanent


# ---- current() and other variables ---------------------------------------------------------------------

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


def test_current_is_the_context_of_the_handler_and_of_nobody_else() -> None:
    context, inner = a_context(1), a_context(2)
    seen = []

    def handler(payload: bytes, ctx: Context) -> None:
        seen.append(current())
        call(plain(lambda payload, ctx: seen.append(current())), b"", inner)
        seen.append(current())

    call(plain(handler), b"", context)
    assert seen == [context, inner, context]


def test_what_a_handler_sets_ends_with_it() -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        before = COLOUR.get()
        COLOUR.set(payload.decode())
        return before.encode()

    for colour in (b"red", b"blue"):
        assert call(plain(handler), colour, a_context())[1][1] == b"none"


async def test_steps_of_coroutines_keep_to_their_own_context() -> None:
    """Two on one loop, step by step in turns, and one after the other in one task."""

    async def handler(payload: bytes, ctx: Context) -> bytes:
        seen = [COLOUR.get()]
        COLOUR.set(str(ctx.fence))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            assert current() is ctx
            seen.append(COLOUR.get())
        with trio.move_on_after(0):
            await trio.sleep_forever()
        seen.append(COLOUR.get())
        seen.append(await trio.to_thread.run_sync(lambda: str(current().fence)))
        return " ".join(seen).encode()

    async def twice(number: int) -> None:
        for attempt in (number, number + 10):
            said = await on_trio(handler, a_context(attempt))
            assert said[1][1].decode() == "none" + f" {1_000 + attempt}" * 5
            assert COLOUR.get() == "none"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(twice, 1)
        nursery.start_soon(twice, 2)


async def test_tasks_that_a_handler_starts_know_it() -> None:
    async def child(seen: list[Context]) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(current())

    async def handler(payload: bytes, ctx: Context) -> None:
        seen: list[Context] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, seen)
        assert seen == [ctx]

    assert (await on_trio(handler))[0] == COMPLETE


def test_steps_serve_asyncio_as_well() -> None:
    async def handler(payload: bytes, ctx: Context) -> bytes:
        await asyncio.sleep(0)
        assert await asyncio.to_thread(current) is ctx
        return await asyncio.create_task(other())

    async def other() -> bytes:
        return str(current().fence).encode()

    async def main() -> Said:
        return await acall(plain(handler), b"", a_context(7), asyncio.CancelledError)

    assert asyncio.run(main()) == (COMPLETE, ["text/plain", b"1007"])


async def test_tools_see_through_the_steps() -> None:
    """What shows where a task waits goes from coroutine to coroutine."""

    async def handler(payload: bytes, ctx: Context) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(on_trio, handler)
        await trio.testing.wait_all_tasks_blocked()
        (task,) = nursery.child_tasks
        names = [frame.f_code.co_name for frame, _line in task.iter_await_frames()]
        nursery.cancel_scope.cancel()
    assert names[:4] == ["on_trio", "acall", "handler", "sleep_forever"]


def test_steps_that_are_dropped_close_their_coroutine() -> None:
    from contextvars import copy_context

    closed = []

    async def handler() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    steps = Steps(handler(), copy_context())
    next(steps)
    steps.close()
    assert closed == [True]
