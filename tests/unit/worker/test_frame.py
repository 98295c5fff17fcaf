"""Whatever a handler does, an outcome comes out."""

from __future__ import annotations

import pytest
import trio

from tests.unit.worker.jobs import a_context
from tq.verdicts import Stopped
from tq.worker.context import Context
from tq.worker.frame import acall, call
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED


def test_a_plain_handler_gets_payload_and_context() -> None:
    context = a_context()
    seen = []

    def handler(payload: bytes, ctx: Context) -> bytes:
        seen.append((payload, ctx))
        return b"out"

    assert call(handler, b"in", context, "text/plain") == (COMPLETE, ["text/plain", b"out"])
    assert seen == [(b"in", context)]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_everything_that_is_raised_is_an_outcome(error: BaseException) -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        raise error

    assert call(handler, b"", a_context(), "")[0] == FAIL


def test_our_own_stop_is_told_apart_from_one_that_the_handler_made_up() -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        raise Stopped

    context = a_context()
    assert call(handler, b"", context, "")[0] == FAIL
    context.cancel()
    assert call(handler, b"", context, "") == SAID_STOPPED


async def test_an_async_handler_too() -> None:
    async def good(payload: bytes, ctx: Context) -> bytes:
        await trio.lowlevel.checkpoint()
        return payload

    async def bad(payload: bytes, ctx: Context) -> bytes:
        raise SystemExit

    async def group(payload: bytes, ctx: Context) -> bytes:
        raise ExceptionGroup("several", [ValueError("x")])

    assert await acall(good, b"in", a_context(), "", trio.Cancelled) == (COMPLETE, ["", b"in"])
    assert (await acall(bad, b"", a_context(), "", trio.Cancelled))[0] == FAIL
    said = await acall(group, b"", a_context(), "", trio.Cancelled)
    assert said[1][0][0] == "ExceptionGroup"


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
            await acall(handler, b"", a_context(), "", trio.Cancelled)
        assert scope.cancelled_caught
