"""``async def`` handlers on asyncio, under the virtual clock."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from tq.testing.baton import BatonLoop
from tq.testing.world import World
from tq.worker.frame import acall
from tq.worker.job import Job
from tq.worker.outcomes import SAID_STOPPED


class AsyncioLoop(BatonLoop):
    """Runs ``async def`` handlers that ask for asyncio."""

    def __init__(self, world: World) -> None:
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._kept: set[asyncio.Task[None]] = set()
        super().__init__(world, "tq-testing-asyncio")

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: VirtualEventLoop(self)) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        await self._over.wait()

    def soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(function)

    def waits_for_real(self) -> bool:
        loop = getattr(self, "_loop", None)
        return isinstance(loop, VirtualEventLoop) and loop.waits_for_real

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _start(self, job: Job) -> None:
        self._tasks[job] = self._loop.create_task(self._run(job))

    async def _run(self, job: Job) -> None:
        said = SAID_STOPPED
        try:
            if not job.context.cancelled:
                said = await acall(job.handler, job.payload, job.context, asyncio.CancelledError)
        except asyncio.CancelledError:
            said = SAID_STOPPED
        finally:
            del self._tasks[job]
            self.ended(job, said)

    def _stop(self, job: Job) -> None:
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    def _end(self) -> None:
        self._over.set()


class VirtualEventLoop(asyncio.SelectorEventLoop):
    def __init__(self, loop: AsyncioLoop) -> None:
        self._loop_of_world = loop
        self._look = Look(loop)
        super().__init__(self._look)
        self._own_sockets = len(self._look.get_map())
        self._in_threads = 0

    def time(self) -> float:
        return self._loop_of_world.time_s()

    @property
    def waits_for_real(self) -> bool:
        return self._in_threads > 0 or len(self._look.get_map()) > self._own_sockets

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._left_thread)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """At the end of the loop: its threads are waited for by a thread."""
        self._in_threads += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._in_threads -= 1

    def _left_thread(self, _future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1


class Look(selectors.DefaultSelector):
    """A selector that waits for the world and not for the kernel."""

    def __init__(self, loop: AsyncioLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        deadline_s = math.inf if timeout is None else self._loop.time_s() + timeout
        return super().select(self._loop.idle(deadline_s))
