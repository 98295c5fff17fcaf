"""The frame round users' code: whatever a handler does, an outcome comes out.

This is the one place where everything is caught: what handlers raise is data for us. Passed on are only
``Stopped``, which is our own order and becomes STOPPED, and trio's Cancelled, which belongs to the scope outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tq.verdicts import Stopped
from tq.worker.context import Context
from tq.worker.outcomes import SAID_STOPPED, Said, completed, raised


def call(function: Callable[[bytes, Context], Any], payload: bytes, context: Context, content_type: str) -> Said:
    """Run a plain handler in this thread. Raises only Stopped, when it comes late."""
    try:
        result = function(payload, context)
    except Stopped as stopped:
        return SAID_STOPPED if context.cancelled else raised(stopped)
    except BaseException as error:  # noqa: BLE001 - the frame round users' code
        return raised(error)
    return completed(content_type, result)


async def acall(
    function: Callable[[bytes, Context], Awaitable[Any]],
    payload: bytes,
    context: Context,
    content_type: str,
    cancelled: type[BaseException],
) -> Said:
    """Run an ``async def`` handler. Raises only ``cancelled``, alone or in a group."""
    try:
        result = await function(payload, context)
    except cancelled:
        raise
    except BaseExceptionGroup as group:
        if group.subgroup(cancelled) is not None:
            raise
        return raised(group)
    except BaseException as error:  # noqa: BLE001 - the frame round users' code
        return raised(error)
    return completed(content_type, result)
