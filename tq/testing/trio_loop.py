"""``async def`` handlers on trio, under the virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import trio
from trio.abc import Instrument

from tq.testing.baton import BatonLoop
from tq.testing.trio_order import repeatable
from tq.testing.world import World
from tq.worker.coroutines import Coroutines
from tq.worker.job import Job


class TrioLoop(BatonLoop):
    """Runs ``async def`` handlers as the worker does, by its own runners."""

    def __init__(self, world: World) -> None:
        self.was_active = True  # a task has run since the loop came to us last
        super().__init__(world, "tq-testing-trio")

    def run(self) -> None:
        with repeatable(self.world.seed):
            trio.run(self._serve, clock=TrioClock(self), instruments=[Activity(self)])

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._limiter = trio.to_thread.current_default_thread_limiter()
        self._sockets = 1  # the loop's own
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._coroutines = Coroutines(self.ended, nursery)
            await trio.sleep_forever()

    def soon(self, function: Callable[[], None]) -> None:
        self._token.run_sync_soon(function)

    def waits_for_real(self) -> bool:
        if not hasattr(self, "_limiter"):
            return False
        io: Any = trio.lowlevel.current_statistics().io_statistics
        sockets = getattr(io, "tasks_waiting_read", 0) + getattr(io, "tasks_waiting_write", 0)
        return bool(self._limiter.borrowed_tokens) or sockets > self._sockets

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await coroutine

        self._nursery.start_soon(run)

    def event(self) -> trio.Event:
        return trio.Event()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def _start(self, job: Job) -> None:
        self._coroutines.start(job)

    def _stop(self, job: Job) -> None:
        self._coroutines.stop(job)

    def _end(self) -> None:
        self._nursery.cancel_scope.cancel()


class TrioClock(trio.abc.Clock):
    def __init__(self, loop: TrioLoop) -> None:
        self._loop = loop

    def start_clock(self) -> None:
        """It runs already."""

    def current_time(self) -> float:
        return self._loop.time_s()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline <= self.current_time():
            return 0
        if self._loop.was_active:
            self._loop.was_active = False
            return 0
        return self._loop.idle(deadline)


class Activity(Instrument):
    def __init__(self, loop: TrioLoop) -> None:
        self._loop = loop

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._loop.was_active = True
