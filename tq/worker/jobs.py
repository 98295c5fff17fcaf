"""The jobs of a worker: what was granted, what runs, what is to stop, and what becomes of it. The core's other half.

Theory. The core speaks with the broker; here stands what the talk is about. A grant becomes a Job, which is *running*
while its handler is (it takes a slot) and *held* while its lease is ours (heartbeats renew it). Both begin together,
and may end in either order: a handler that does not stop runs on without a lease, and an outcome waits for its answer
when the handler is over. Orders to the executors are left in lists, which the shell empties.

Rules
- A slot is taken from the grant to the end of the handler, also while a handler that was told to stop does not. So
  the worker never holds what it cannot run: concurrency is the bound, and nothing is fetched ahead.
- A lease is ours until the broker answered the outcome, or says it is lost.
- A time-out or a deadline is the broker's to decide, and it does so at the same moment. The worker stops the
  handler and then says nothing: its word would come second, and be refused as stale.
- A handler is told to stop once. After its grace a process is killed; what else runs on keeps its slot.
- A child process that ended is said by silence: nobody renews its lease, and the broker counts a crash of this attempt
  alone. It takes a lease to be counted. Saying it at once would be a new outcome of the protocol; those that there are
  would be wrong: a release is not counted at all, so that a task which kills its process would do so for ever, and a
  failure uses up an attempt, where the contract promises that a crash does not.

Jobs are plain objects with slots and grants are taken apart by position: this is the path of each task.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

import attrs

from tq.errors import TqError
from tq.spec import Spec, parse_each
from tq.worker.context import Channel, Context
from tq.worker.handlers import Handlers
from tq.worker.job import Job, Why
from tq.worker.outcomes import CANCELLED, COMPLETE, CRASHED, FAIL, RELEASE, STOPPED, Said, failed
from tq.worker.reports import Reports
from tq.world import Clock

STOP_GRACE_MS: Final = 2_000  # for a handler whose task is over anyhow, before its process is killed
GRACE: Final = 0  # kinds of timers
TIMEOUT: Final = 1
DEADLINE: Final = 2

Note = Callable[[str, dict[str, Any]], None]
"""Have something logged: the event, and its values."""


@attrs.define
class Statistics:
    """Counts since the start, and what is now."""

    claimed: int = 0
    completed: int = 0
    failed: int = 0
    stopped: int = 0
    stale: int = 0
    sessions: int = 0
    connections: int = 0
    running: int = 0
    stuck: int = 0
    unreported: int = 0


class Jobs:
    """See the theory above. Outcomes go to ``reports``."""

    def __init__(
        self,
        handlers: Handlers,
        clock: Clock,
        reports: Reports,
        statistics: Statistics,
        note: Note,
        channel: Channel | None = None,
    ) -> None:
        self.held: dict[int, Job] = {}  # by fence; read by the heartbeat's thread too, which copies it first
        self.running: dict[int, Job] = {}  # by fence: those that take a slot
        self.to_start: list[Job] = []
        self.to_stop: list[Job] = []
        self.to_kill: list[Job] = []
        self._handlers = handlers
        self._clock = clock
        self._reports = reports
        self._statistics = statistics
        self._note = note
        self._channel = channel
        self._timers: list[tuple[int, int, int]] = []  # (when, fence, kind); may name jobs that are over
        self._log_offset_ms = 0  # log time less our monotonic clock
        self._wall_offset_ms = 0

    # ---- time --------------------------------------------------------------------------------------

    def set_time(self, log_ms: int) -> None:
        """What the cluster's clock says now."""
        now_ms = self._clock.monotonic_ms()
        self._log_offset_ms = log_ms - now_ms
        self._wall_offset_ms = self._clock.wall_ms() - now_ms

    @property
    def wake_ms(self) -> int | None:
        """When ``fire`` must be called at the latest (monotonic), or None."""
        return self._timers[0][0] if self._timers else None

    def fire(self, now_ms: int) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now_ms:
            _when, fence, kind = heapq.heappop(timers)
            job = self.running.get(fence)
            if job is None:
                continue
            if kind == GRACE:
                self._give_up(job)
            elif job.why is None:
                self._stop(job, Why.DEADLINE if kind == DEADLINE else Why.TIMEOUT, STOP_GRACE_MS)

    def _limit(self, job: Job, timeout_ms: int | None, deadline_ms: int | None) -> None:
        now_ms = self._clock.monotonic_ms()
        ends = []
        if timeout_ms is not None:
            ends.append((now_ms + timeout_ms, job.fence, TIMEOUT))
        if deadline_ms is not None:
            ends.append((deadline_ms - self._log_offset_ms, job.fence, DEADLINE))
        timers = self._timers
        if len(timers) > 2 * len(self.running) + 1_000:
            timers[:] = [timer for timer in timers if timer[1] in self.running]
            heapq.heapify(timers)
        heapq.heappush(timers, min(ends))

    # ---- grants ------------------------------------------------------------------------------------

    def take(self, grants: list[Any]) -> None:
        """Begin what was granted."""
        self._statistics.claimed += len(grants)
        held, running, start = self.held, self.running, self.to_start.append
        for spec, grant in zip(parse_each([grant[0] for grant in grants]), grants, strict=True):
            fence = grant[3]
            if fence in held:
                continue
            job = self._job(spec, grant)
            if job is None:
                continue
            held[fence] = job
            running[fence] = job
            start(job)
            timeout_ms, deadline_ms = grant[5], grant[6]
            if timeout_ms is not None or deadline_ms is not None:
                self._limit(job, timeout_ms, deadline_ms)

    def give_back(self, grants: list[Any]) -> None:
        """Release what was granted and is not wanted."""
        for spec, grant in zip(parse_each([grant[0] for grant in grants]), grants, strict=True):
            job = self._job(spec, grant)
            if job is not None:
                self._reports.add([job.id, job.fence, RELEASE, None])

    def _job(self, spec: Spec | TqError, grant: list[Any]) -> Job | None:
        """grant: spec, attempt, crashes, fence, lease, time-out, deadline, and a checkpoint if there is one."""
        _raw, attempt, crashes, fence, _lease_ms, _timeout_ms, deadline_ms, *kept = grant
        if spec.__class__ is not Spec:
            # Of a later version than ours. Without its id nothing can be said of it: its lease runs out, and another
            # worker may know it.
            assert isinstance(spec, TqError)
            self._note("granted a task that this version cannot read", {"fence": fence, "error": spec.message})
            return None
        handler = self._handlers.get(spec.type)
        if handler is None:
            # The session names its types, so this is the broker's slip; another worker may have the type.
            self._note("granted a type that was not registered", {"type": spec.type, "id": spec.id.hex()})
            self._reports.add([spec.id, fence, RELEASE, None])
            return None
        deadline = None
        if deadline_ms is not None:
            deadline = (deadline_ms - self._log_offset_ms + self._wall_offset_ms) / 1000
        context = Context(
            spec.id, spec.type, spec.queue, attempt, crashes, fence, deadline, dict(spec.headers),
            kept[0] if kept else None, self._channel, spec.content_type,
        )  # fmt: skip
        return Job(spec.id, fence, spec.payload, handler, context)

    # ---- the ends of handlers ----------------------------------------------------------------------

    def finished(self, job: Job, said: Said) -> None:
        """The handler is over and its slot is free."""
        fence = job.fence
        del self.running[fence]
        job.is_ended = True
        outcome = said[0]
        if job.is_given_up:
            self._statistics.stopped += 1
            return
        if outcome == COMPLETE:
            self._statistics.completed += 1
        elif outcome == STOPPED:
            self._statistics.stopped += 1
            if job.why is Why.CANCEL:
                said = (CANCELLED, None)
            elif job.why is Why.QUIT:
                said = (RELEASE, None)
            elif job.why is None:
                said = failed("tq.verdicts.Stopped", "the handler stopped itself", "")
            else:  # the broker knows
                self.held.pop(fence, None)
                return
        elif outcome == CRASHED:
            # Nobody renews its lease from here on: the broker will count a crash, of this attempt alone.
            self._statistics.failed += 1
            self.held.pop(fence, None)
            values = {"id": job.context.id, "type": job.context.type, "error": said[1][1]}
            self._note("a task's process crashed", values)
            return
        elif outcome == FAIL:
            self._statistics.failed += 1
            context, error = job.context, said[1][0]
            values = {"id": context.id, "type": context.type, "attempt": context.attempt}
            self._note("an attempt failed", {**values, "error": f"{error[0]}: {error[1][:200]}"})
        self._reports.add([job.id, fence, said[0], said[1]])

    def answered(self, fence: int) -> None:
        """Its outcome is known to the broker, or will never be: the lease is no longer ours."""
        self.held.pop(fence, None)

    # ---- stopping handlers -------------------------------------------------------------------------

    def cancel(self, tasks: list[list[Any]]) -> None:
        """``[id, fence, grace_ms]`` each, as the broker says it."""
        for _id, fence, grace_ms in tasks:
            job = self.held.get(fence)
            if job is not None and not job.is_ended and job.why is None:
                self._stop(job, Why.CANCEL, grace_ms)

    def lost(self, tasks: list[list[Any]]) -> None:
        """``[id, fence]`` each: their leases are not ours any more."""
        for _id, fence in tasks:
            job = self.held.get(fence)
            if job is not None and not job.is_ended:
                self._lose(job)

    def lose_all(self) -> None:
        for job in list(self.held.values()):
            self._lose(job)

    def quit(self) -> int:
        """Stop and kill all that runs; what is held goes back with the session. How many those are."""
        for job in self.running.values():
            if job.why is None:
                self._stop(job, Why.QUIT, STOP_GRACE_MS)
            self.to_kill.append(job)
        return len(self.running)

    def _lose(self, job: Job) -> None:
        self.held.pop(job.fence, None)
        job.is_given_up = True
        if not job.is_ended:
            self._stop(job, Why.LOST, STOP_GRACE_MS)

    def _stop(self, job: Job, why: Why, grace_ms: int) -> None:
        """Tell the handler to end. It is told once."""
        context = job.context
        context.cancel(lost=why is Why.LOST)
        if job.why is None:
            job.why = why
            self.to_stop.append(job)
            heapq.heappush(self._timers, (self._clock.monotonic_ms() + grace_ms, job.fence, GRACE))
            self._note("told a handler to stop", {"id": context.id, "type": context.type, "why": why.value})

    def _give_up(self, job: Job) -> None:
        """It was told to stop, and its grace is over: a process is killed, what else runs keeps its slot until it ends."""
        self.to_kill.append(job)
        if job.handler.executor == "process":
            return
        self.held.pop(job.fence, None)
        job.is_given_up = True
        values = {"id": job.context.id, "type": job.context.type, "executor": job.handler.executor}
        self._note("a handler does not stop; it keeps its slot", values)
