"""``async def`` handlers on asyncio: a loop in a thread of its own, and a task of it for each job.

Theory. The worker's own loop is trio's. Handlers for asyncio get a loop beside it, on another thread, so that they use
the libraries written for it, and one that blocks it holds up neither the claims and reports of the worker nor the
handlers on trio. The two threads speak through two lists, one for each way, as with the threads of plain handlers: only
the first of a burst wakes the other side. What arrives is done in its order, so that a stop never overtakes its start.

- A job is a task: it has a context of its own, and is cancelled by ``cancel()``, which asyncio delivers once. If the
  handler goes on in spite of it, it is cancelled once more when its grace is over; then it keeps its slot.
- A handler that is cancelled by somebody else (it raises CancelledError, and nobody told it to stop) has failed.
- What a task is left with that nobody awaits goes to the loop's exception handler, which logs it.
- Resources of ``async def`` for these handlers are made and closed by the loop's first task.
- A loop that ends by itself (SystemExit in a task that a handler left behind) ends the worker, which says why.

Rejected: trio as a guest of asyncio, on one thread (each turn of the worker's loop would cost a hop between threads, also
for those who have no such handler, and a blocked loop would block the claims); asyncio handlers on trio through a
bridge (libraries that look into the loop do not work there).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import structlog

from tq.errors import ResourceFailed
from tq.worker.frame import acall
from tq.worker.job import Done, Job
from tq.worker.outcomes import SAID_STOPPED, Said, raised
from tq.worker.resources import Factory, make_async
from tq.worker.threads import Wake

START: Final = 0
STOP: Final = 1


class AsyncioLoop:
    """An executor. ``open`` before the first job, ``end_handlers`` and ``close`` after the last."""

    def __init__(self, done: Done, wake: Wake, died: Callable[[BaseException], None]) -> None:
        """died: called on the worker's thread if the loop ends by itself."""
        self._done = done
        self._wake = wake
        self._died = died
        self._thread = threading.Thread(target=self._run, name="tq-asyncio", daemon=True)
        self._opened = threading.Event()
        self._quiet = threading.Event()  # no handler runs any more
        self._loop: asyncio.AbstractEventLoop | None = None  # while it takes orders
        self._stopping: asyncio.Event | None = None
        self._orders: deque[tuple[int, Job]] = deque()
        self._is_called = False
        self._ended: deque[tuple[Job, Said]] = deque()
        self._is_woken = False
        self._factories: Mapping[str, Factory] = {}
        self._values: dict[str, Any] = {}
        self._failure: ResourceFailed | None = None
        self._death: BaseException | None = None
        self._log = structlog.get_logger("tq.worker")

    # ---- the worker's thread -----------------------------------------------------------------------

    def open(self, factories: Mapping[str, Factory]) -> dict[str, Any]:
        """Begin, and make these resources; blocks until they are there. Raises ResourceFailed."""
        self._factories = factories
        self._thread.start()
        self._opened.wait()
        if self._failure is not None:
            raise self._failure
        if self._death is not None:
            what = f"{type(self._death).__name__}: {self._death}"
            raise ResourceFailed(f"the asyncio loop ended while it made its resources, by {what}") from self._death
        return self._values

    def start(self, job: Job) -> None:
        self._order(START, job)

    def stop(self, job: Job) -> None:
        self._order(STOP, job)

    def kill(self, job: Job) -> None:
        """Cancel it once more: it caught the first one."""
        self._order(STOP, job)

    def end_handlers(self) -> None:
        """Cancel what still runs, and wait for it: for ever, if it does not end."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            try:
                loop.call_soon_threadsafe(stopping.set)
            except RuntimeError:  # it is closed: it ended by itself
                pass
            self._quiet.wait()

    def close(self) -> None:
        """Close the resources, and end. It takes as long as those do."""
        self.end_handlers()
        self._thread.join()

    def _order(self, kind: int, job: Job) -> None:
        self._orders.append((kind, job))
        if not self._is_called:
            self._is_called = True
            assert self._loop is not None, "open() comes first"
            try:
                self._loop.call_soon_threadsafe(self._take)
            except RuntimeError:  # closed: it ended by itself, which ends the worker
                return

    def collect(self) -> None:
        """Take what ended."""
        self._is_woken = False  # before looking: who puts after the look wakes us again
        ended = self._ended
        while ended:
            self._done(*ended.popleft())

    # ---- the loop's thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - of users' code: a task that raised SystemExit, say
            self._death = error
            self._wake(partial(self._died, error))
        finally:
            self._opened.set()
            self._quiet.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._tell)
        self._stopping = asyncio.Event()
        async with AsyncExitStack() as stack:
            try:
                self._values = await make_async(self._factories, self._factories, stack)
            except ResourceFailed as failed:
                self._failure = failed
                return
            self._loop = loop
            self._opened.set()
            await self._stopping.wait()
            # Before the resources go: handlers that do not end, and what others have left behind.
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._quiet.set()

    def _take(self) -> None:
        self._is_called = False  # before looking, as ``collect``
        orders = self._orders
        while orders:
            kind, job = orders.popleft()
            task: asyncio.Task[Said] | None = job.handle
            if kind == STOP:
                if task is not None:
                    task.cancel()
            else:
                job.handle = task = asyncio.get_running_loop().create_task(_run_one(job), name=job.handler.type)
                task.add_done_callback(partial(self._task_ended, job))

    def _task_ended(self, job: Job, task: asyncio.Task[Said]) -> None:
        """Also of a task that was cancelled before it began, in which nothing of ours ran."""
        job.handle = None
        self._put(job, SAID_STOPPED if task.cancelled() else task.result())

    def _put(self, job: Job, said: Said) -> None:
        self._ended.append((job, said))
        if not self._is_woken:
            self._is_woken = True
            self._wake(self.collect)

    def _tell(self, _loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        """What nobody looked at."""
        whose = what.get("task") or what.get("future") or what.get("handle")
        self._log.error(
            "on the asyncio loop, and nobody looked at it",
            what=what.get("message"),
            whose=None if whose is None else repr(whose)[:200],
            exc_info=what.get("exception"),
        )


async def _run_one(job: Job) -> Said:
    try:
        return await acall(job.handler, job.payload, job.context, asyncio.CancelledError)
    except asyncio.CancelledError as error:
        if job.context.cancelled:
            raise
        return raised(error, job.handler.gives_up)
    except BaseExceptionGroup as group:  # of nothing but CancelledError
        return SAID_STOPPED if job.context.cancelled else raised(group, job.handler.gives_up)
