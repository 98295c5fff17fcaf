"""The frame round users' code: whatever a handler does, an outcome comes out.

This is the one place where everything is caught: what handlers raise is data for us. Passed on are only
``Stopped``, which is our own order and becomes STOPPED, and the loop's ``cancelled``, which belongs to who cancelled.

Each job has a context (``contextvars``) of its own, in which ``current()`` is set; what the handler sets ends with it.
Threads and child processes go from job to job, so a plain handler is run in a copy. The loops see to it for coroutines,
each in its way.
"""

from __future__ import annotations

from contextvars import copy_context

from tq.verdicts import Stopped
from tq.worker.context import CURRENT, Context
from tq.worker.handlers import Handler
from tq.worker.outcomes import SAID_STOPPED, Said, completed, raised


def call(handler: Handler, payload: bytes, context: Context) -> Said:
    """Run a plain handler in this thread. Raises only Stopped, when it comes early or late."""
    run = copy_context().run
    run(CURRENT.set, context)
    try:
        result = run(handler.function, payload, context)
    except Stopped as stopped:
        return SAID_STOPPED if context.cancelled else raised(stopped, handler.gives_up)
    except BaseException as error:  # noqa: BLE001 - the frame round users' code
        return raised(error, handler.gives_up)
    return completed(handler.content_type, result)


async def acall(handler: Handler, payload: bytes, context: Context, cancelled: type[BaseException]) -> Said:
    """Run an ``async def`` handler in the present context. Raises only ``cancelled``, alone or in a group of nothing else."""
    if CURRENT.get(None) is not context:  # a runner has set it already, to see what the handler sets
        CURRENT.set(context)
    try:
        result = await handler.function(payload, context)
    except cancelled:
        raise
    except BaseExceptionGroup as group:
        _cancels, errors = group.split(cancelled)
        if errors is None:
            raise
        return raised(
            errors, handler.gives_up
        )  # also on its way out: what failed while it was cancelled is its outcome
    except BaseException as error:  # noqa: BLE001 - the frame round users' code
        return raised(error, handler.gives_up)
    return completed(handler.content_type, result)
