"""Requests of an app from coroutines, on trio and on asyncio.

Within ``async with app:`` they go through an ``AsyncClient`` of that event loop, for all of its tasks. Elsewhere the blocking
client does them, each in a thread of its own: that is right too, in a handler that submits more work for example, and
costs a thread and a tenth of a millisecond. Those threads are not counted with anyio's 40, which other code needs; one
whose caller was cancelled is left to end by itself.
"""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tq.client.asynchronous import AsyncClient
    from tq.client.blocking import Client


class AsyncClients:
    """Those that are open, by the thread that runs their loop: all of its tasks use the one that was opened last."""

    def __init__(self) -> None:
        self._open: dict[
            int, list[tuple[int, AsyncClient]]
        ] = {}  # with the task that has entered it, and must leave it

    def here(self) -> AsyncClient | None:
        """Of the loop that runs in this thread."""
        rows = self._open.get(threading.get_ident())
        return rows[-1][1] if rows else None

    async def enter(self, client: AsyncClient) -> None:
        import anyio

        await client.__aenter__()
        self._open.setdefault(threading.get_ident(), []).append((anyio.get_current_task().id, client))

    async def leave(self) -> None:
        """The one that this task has entered last."""
        import anyio

        thread = threading.get_ident()
        rows = self._open[thread]
        me = anyio.get_current_task().id
        at = next(at for at in reversed(range(len(rows))) if rows[at][0] == me)
        client = rows.pop(at)[1]
        if not rows:
            del self._open[thread]
        await client.__aexit__(None, None, None)


async def in_thread(client: Client, verb: str, *args: Any, **kwargs: Any) -> Any:
    """The blocking verb, elsewhere."""
    import anyio
    import anyio.to_thread

    call = partial(getattr(client, verb), *args, **kwargs)
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf))
