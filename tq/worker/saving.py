"""How a handler waits until its checkpoint is durable: on a thread by blocking it, on a loop by awaiting.

Theory. The channel of the context takes the checkpoint away and tells later what became of it. A thread that waits for
that does not hear the order to stop (see ``interrupt``: an exception waits until a call of C returns). So a context that is cancelled wakes
those that wait; they wait on in short steps for a while, and between two of them the order comes. Who was cancelled
before, and keeps a last checkpoint on the way out, just waits.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tq import limits
from tq.errors import InvalidRequest, PayloadTooLarge, TqError

if TYPE_CHECKING:
    from tq.worker.context import Context

STEP_S: Final = 0.01
STEPS: Final = 200

_numbers: Final = itertools.count(1)
"""Of checkpoints, rising over the life of this process; so within an attempt, too."""


class Wait:
    """A thread that waits. ``wake`` it when its context is cancelled."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._is_answered = False
        self._error: TqError | None = None

    def answer(self, error: TqError | None) -> None:
        self._error = error
        self._is_answered = True
        self._event.set()

    def wake(self) -> None:
        self._event.set()

    def wait(self) -> None:
        """Raises what it was answered with."""
        self._event.wait()
        if not self._is_answered:
            self._event.clear()
            for _ in range(STEPS):
                if self._is_answered or self._event.wait(STEP_S):
                    break
            while not self._is_answered:
                self._event.wait()
                self._event.clear()
        if self._error is not None:
            raise self._error


def save(context: Context, data: bytes | None) -> None:
    """``Context.checkpoint``."""
    raw = _checked(data)
    if _is_on_a_loop():
        raise InvalidRequest(
            "checkpoint() blocks, and would hold up the event loop and all its handlers: await ctx.acheckpoint(data) instead"
        )
    channel = context.channel
    if channel is not None:
        wait = Wait()
        waits = context.aside.waits
        waits.append(wait)
        try:
            channel.save(context, next(_numbers), raw, wait.answer)
            wait.wait()
        finally:
            waits.remove(wait)
    context.checkpoint_data = raw


async def asave(context: Context, data: bytes | None) -> None:
    """``Context.acheckpoint``, on trio or asyncio."""
    raw = _checked(data)
    channel = context.channel
    if channel is not None:
        event, post = _event_here()
        errors: list[TqError | None] = []

        def done(error: TqError | None) -> None:
            errors.append(error)
            try:
                post(event.set)
            except RuntimeError:  # the loop is over, and nobody waits any more
                return

        channel.save(context, next(_numbers), raw, done)
        await event.wait()
        if errors[0] is not None:
            raise errors[0]
    context.checkpoint_data = raw


def _event_here() -> tuple[Any, Callable[[Callable[[], None]], object]]:
    """An event of the loop that runs here, and how to have it set from any thread. Each is imported by who uses it."""
    if _is_on_trio():
        import trio

        return trio.Event(), trio.lowlevel.current_trio_token().run_sync_soon
    import asyncio

    return asyncio.Event(), asyncio.get_running_loop().call_soon_threadsafe


def _is_on_a_loop() -> bool:
    """Whether this thread is the one of a loop that runs, trio's or asyncio's."""
    if _is_on_trio():
        return True
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_on_trio() -> bool:
    if "trio" not in sys.modules:
        return False
    import trio

    return trio.lowlevel.in_trio_run()


def _checked(data: bytes | None) -> bytes | None:
    if data is None:
        return None
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidRequest.of("data", data, "must be bytes, or None for nothing any more")
    raw = bytes(data)
    if len(raw) > limits.CHECKPOINT_BYTES_MAX:
        raise PayloadTooLarge(
            f"the checkpoint has {len(raw):,} bytes: at most {limits.CHECKPOINT_BYTES_MAX:,} are kept; store more elsewhere and keep its name",
            detail={"field": "data", "value": len(raw), "bound": limits.CHECKPOINT_BYTES_MAX},
        )
    return raw
