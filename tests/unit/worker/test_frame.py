"""Whatever a handler does, an outcome comes out; and each job has its context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
import trio

from tests.unit.worker.jobs import a_context
from tq.verdicts import Stopped
from tq.worker.context import Context, current
from tq.worker.frame import acall, call
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


async def test_what_fails_beside_a_cancel_is_told_and_the_cancel_ends_here() -> None:
    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    async def handler(payload: bytes, ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fails)

    with trio.CancelScope() as scope:
        scope.cancel()
        outcome, (error, _permanent, _after) = await on_trio(handler)
        assert outcome == FAIL
        assert error[0] == "ExceptionGroup"
        assert "ValueError: on the way out" in error[2]
    assert not scope.cancelled_caught


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
