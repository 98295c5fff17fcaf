"""The frame round users' code: whatever a handler does, an outcome comes out.

This is the one place where everything is caught: what handlers raise is data for us. Passed on are only
``Stopped``, which is our own order and becomes STOPPED, and the loop's ``cancelled``, which belongs to who cancelled.

Each job has a context (``contextvars``) of its own, a copy of its thread's or runner's: ``current()`` is set in it, and
what the handler sets ends with it. Threads and runners go from job to job, so one that set a variable would else leave
it to the next. Entering a context costs a tenth of a microsecond, setting and resetting one variable no less.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterator
from contextvars import Context as Variables
from contextvars import copy_context
from types import FrameType
from typing import Any

from tq.verdicts import Stopped
from tq.worker.context import CURRENT, Context
from tq.worker.handlers import Handler
from tq.worker.outcomes import SAID_STOPPED, Said, completed, raised


def call(handler: Handler, payload: bytes, context: Context) -> Said:
    """Run a plain handler in this thread. Raises only Stopped, when it comes early or late."""
    variables = copy_context()
    variables.run(CURRENT.set, context)
    try:
        result = variables.run(handler.function, payload, context)
    except Stopped as stopped:
        return SAID_STOPPED if context.cancelled else raised(stopped, handler.gives_up)
    except BaseException as error:  # noqa: BLE001 - the frame round users' code
        return raised(error, handler.gives_up)
    return completed(handler.content_type, result)


async def acall(handler: Handler, payload: bytes, context: Context, cancelled: type[BaseException]) -> Said:
    """Run an ``async def`` handler. Raises only ``cancelled``, alone or in a group."""
    variables = copy_context()
    variables.run(CURRENT.set, context)
    try:
        result = await Steps(variables.run(handler.function, payload, context), variables)
    except cancelled:
        raise
    except BaseExceptionGroup as group:
        if group.subgroup(cancelled) is not None:
            raise
        return raised(group, handler.gives_up)
    except BaseException as error:  # noqa: BLE001 - the frame round users' code
        return raised(error, handler.gives_up)
    return completed(handler.content_type, result)


class Steps:
    """Await a coroutine within the present task, each of its steps in a context of its own."""

    __slots__ = ("_coroutine", "_run")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], variables: Variables) -> None:
        self._coroutine = coroutine
        self._run = variables.run

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # type: ignore[return-value]  # all of a generator that ``await`` uses

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._run(self._coroutine.send, None)

    # As ``yield from`` asks for, when it has more to say than "go on".
    def send(self, value: Any) -> Any:
        return self._run(self._coroutine.send, value)

    def throw(self, error: BaseException) -> Any:
        return self._run(self._coroutine.throw, error)

    def close(self) -> None:
        self._run(self._coroutine.close)

    # Tools that show where a task waits follow these from one coroutine to the next.
    @property
    def cr_frame(self) -> FrameType | None:
        return getattr(self._coroutine, "cr_frame", None)

    @property
    def cr_await(self) -> Any:
        return getattr(self._coroutine, "cr_await", None)
