"""``async def`` handlers, on the loop: a few runners that take one job after the other.

Theory. A trio task for each job would cost more than most handlers do. So a runner is a task that runs jobs until
none is left. Before it runs one while more wait, it wakes another runner, once: if its handler waits, the other goes on;
if not, the other finds nothing and sleeps again. A batch of handlers that never wait costs two switches of tasks,
whatever its size; one that waits costs as much as a task.

A cancel scope for each job would cost as much as all the rest. So the jobs of a batch run in the same one, which has one job
at a time. When that is stopped the scope is used up, and the next job gets a new one.

What a handler sets of context variables must not meet the next job of its runner. So a runner compares its context
before and after: that is one comparison of two pointers as long as nothing was set. If something was, the runner ends,
and another one, with a fresh context, goes on.

A runner lets others run after SLICE_S: the network must not wait for a long batch.

Rejected: each step of a handler in a copy of the context (1 µs a task, where the comparison costs 0.3); running a
coroutine a first step by hand, without a task, to find out whether it waits (what it does then would belong to the wrong
task: trio's scopes and deadlines go astray); one scope for the life of a runner (a scope that a handler leaves open is
found when the one around it is left, and should be found at once).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Final

import trio

from tq.worker.context import CURRENT
from tq.worker.frame import acall
from tq.worker.job import Done, Job
from tq.worker.outcomes import SAID_STOPPED

SLICE_S: Final = 0.005


class Coroutines:
    """An executor. Its runners live in ``nursery``."""

    def __init__(self, done: Done, nursery: trio.Nursery) -> None:
        self._done = done
        self._nursery = nursery
        self._jobs: deque[Job] = deque()
        self._variables = copy_context()  # what runners begin with
        self._idle: list[trio.lowlevel.Task] = []
        self._is_waking = False  # a runner is on its way that will look for jobs

    def start(self, job: Job) -> None:
        self._jobs.append(job)
        if not self._is_waking:
            self._wake_one()

    def stop(self, job: Job) -> None:
        scope, job.handle = job.handle, None
        if scope is not None:
            scope.cancel()

    def kill(self, job: Job) -> None:
        self.stop(job)

    def close(self) -> None:
        """The nursery's end is the runners' end."""

    def _wake_one(self) -> None:
        self._is_waking = True
        if self._idle:
            trio.lowlevel.reschedule(self._idle.pop())
        else:
            self._variables.run(self._nursery.start_soon, self._run)

    async def _run(self) -> None:
        jobs = self._jobs
        task = trio.lowlevel.current_task()
        now_s = trio.lowlevel.current_clock().current_time

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            self._is_waking = False
            while jobs:
                if not await self._run_some(now_s):
                    if jobs and not self._is_waking:
                        self._wake_one()
                    return
            self._idle.append(task)
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def _run_some(self, now_s: Callable[[], float]) -> bool:
        """One job after the other, until none is left or one was stopped, which uses up the scope. Whether the next one finds
        the variables as they should be."""
        jobs, done = self._jobs, self._done
        is_clean = True
        until_s = now_s() + SLICE_S
        with trio.CancelScope() as scope:
            while jobs:
                job = jobs.popleft()
                if jobs and not self._is_waking:
                    self._wake_one()
                context = job.context
                if context.cancelled:
                    done(job, SAID_STOPPED)
                    continue
                CURRENT.set(context)
                clean = copy_context()
                job.handle = scope
                said = await acall(job.handler, job.payload, context, trio.Cancelled)
                is_stopped = job.handle is None
                job.handle = None
                done(job, said)
                is_clean = _are_same(clean, copy_context())
                if is_stopped or not is_clean:
                    break
                if now_s() > until_s:
                    await trio.lowlevel.checkpoint()
                    until_s = now_s() + SLICE_S
        if scope.cancelled_caught:
            done(job, SAID_STOPPED)
            is_clean = _are_same(clean, copy_context())
        return is_clean


def _are_same(one: Variables, other: Variables) -> bool:
    try:
        return one == other
    except Exception:  # noqa: BLE001 - users' values, if they were replaced by others that cannot be compared
        return False
