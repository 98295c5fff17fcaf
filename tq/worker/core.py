"""The worker without sockets, threads and time of its own: what to say to the broker, what to run, what to stop.

Theory. The shell tells what happened (a connection opened or was lost, a message came, a handler ended, a signal)
and then calls ``step``: it answers the messages to send now, and leaves orders to the executors in ``jobs``, which
has what runs and what is held. ``wake_ms`` says when to call again though nothing happened. The clock is an argument.

Rules
- One claim at a time, for as many tasks as slots are free, and numbered. It is parked at the broker. If its
  connection is lost before the answer, the same number is sent again: what was granted and not seen comes then.
- Outcomes gather while requests are under way and leave in batches, before the claim, so that one entry of the log
  has both. They are sent again after a lost connection: the fence makes that safe.
- SESSION_LOST: all leases are gone, so all handlers are told; a new session with a new id begins.
- Draining: no claims; what a parked claim still brings goes back at once; with nothing left, or when the time is
  over, the session is closed, which gives back what is held without counting an attempt.

Rejected: replacing the parked claim whenever a slot gets free (two claims may be granted both, and the worker holds
more than it can run); an outcome message for each task (three times the work at both ends).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

import attrs

from tq import limits
from tq.errors import (
    Backpressure,
    BrokerUnavailable,
    InternalError,
    NotLeader,
    SessionLost,
    TqError,
    from_wire,
)
from tq.protocol import messages as m
from tq.worker.asides import Asides
from tq.worker.doubts import UNKNOWN, Doubts
from tq.worker.handlers import Handlers
from tq.worker.job import Job
from tq.worker.jobs import Jobs, Statistics
from tq.worker.outcomes import Said
from tq.worker.reports import Reports
from tq.world import Clock, Random

QUIET_MS_MIN: Final = 50  # after "not now"
EMPTY_PAUSE_MS_MAX: Final = 100  # between claims that come back empty at once
PING_MS: Final = 5_000  # silence after which the broker is asked
DEAD_MS: Final = 15_000  # silence after which the connection is given up
PING_OTHERS_MS: Final = 1_000  # the same when there are other brokers
DEAD_OTHERS_MS: Final = 3_000
LATE_MS: Final = 1_000  # a step so much behind its time means that we could not listen
FOREVER_MS: Final = limits.DURATION_MS_MAX
LEAVE_MS: Final = 1_000  # for what is in flight after GOAWAY
RID_MAX: Final = (1 << 32) - 1
CLOSE_MS: Final = 3_000  # for the last words
PASSING: Final = (NotLeader, BrokerUnavailable, Backpressure, InternalError)  # try again


class State(enum.Enum):
    RUNNING = "running"
    DRAINING = "draining"
    CLOSING = "closing"  # DEREGISTER_WORKER is to be answered
    OVER = "over"


@attrs.frozen
class Settings:
    name: str
    queues: list[str]
    concurrency: int
    drain_ms: int
    info: dict[str, Any]
    has_others: bool = False  # a broker that is silent can be left for another
    queues_typed: tuple[str, ...] = ()  # somebody's word alone; a slip is possible
    queues_known: tuple[str, ...] = ()  # the app's tasks name them


@attrs.define
class Claim:
    """One that is not answered. rid None: it must be sent (again)."""

    seq: int
    max_n: int
    rid: int | None = None
    sent_ms: int = 0


class WorkerCore:
    """See the theory above."""

    def __init__(self, settings: Settings, handlers: Handlers, clock: Clock, random: Random) -> None:
        self.state = State.RUNNING
        self._ping_ms = PING_OTHERS_MS if settings.has_others else PING_MS
        self._dead_ms = DEAD_OTHERS_MS if settings.has_others else DEAD_MS
        self.statistics = Statistics()
        self.session: bytes | None = None  # open at the cluster
        self.told: m.RegisterReply | None = None
        self.failure: TqError | None = None  # why the worker cannot go on
        self.leader: str | None = None  # named by a broker that is not it
        self.answers = 0  # that were no errors; the shell sees from it that a broker serves us
        self.notes: list[tuple[str, dict[str, Any]]] = []  # for the log: event, values
        self._settings = settings
        self._handlers = handlers
        self._clock = clock
        self._random = random
        self._is_connected = False
        self._leave_ms: int | None = None  # GOAWAY: give up the connection then
        self._is_dropped = False
        self._rid = 0
        self._new_session = random.bytes(limits.ID_BYTES)
        self._register_rid: int | None = None
        self._doubts = Doubts(settings.queues_typed, settings.queues_known)
        self._seq = 0
        self._claim: Claim | None = None
        self._empty_claims = 0  # in a row, that came back at once
        self._claim_after_ms = 0
        self._quiet_until_ms = 0
        self._reports = Reports()
        self.asides = Asides()
        self.jobs = Jobs(handlers, clock, self._reports, self.statistics, self._note, self.asides)
        self.finished: Callable[[Job, Said], None] = self.jobs.finished
        self._deregister_rid: int | None = None
        self._ping_rid: int | None = None
        self._heard_ms = 0
        self._drain_until_ms = 0
        self._planned_ms = clock.monotonic_ms() + FOREVER_MS  # when ``step`` should come at the latest

    # ---- the connection ----------------------------------------------------------------------------

    def connected(self, hello: m.HelloReply) -> None:
        """HELLO was answered on a new connection."""
        now_ms = self._clock.monotonic_ms()
        self._is_connected = True
        self._is_dropped = False
        self._leave_ms = None
        self._heard_ms = now_ms
        self._quiet_until_ms = 0
        self.jobs.set_time(hello.time_ms)
        self.asides.connected([job.context for job in self.jobs.running.values()])
        self.leader = None
        self.statistics.connections += 1

    def disconnected(self) -> None:
        """The connection is gone: what it had in flight is sent again on the next one."""
        self._is_connected = False
        self._register_rid = self._deregister_rid = self._ping_rid = None
        if self._claim is not None:
            self._claim.rid = None
        self._reports.disconnected()
        self.asides.disconnected()

    @property
    def wants_reconnect(self) -> bool:
        """The shell shall close this connection and open another."""
        return self._is_connected and self._is_dropped

    def received(self, message: m.Message) -> None:
        self._heard_ms = self._clock.monotonic_ms()
        kind = message.__class__
        if kind is m.ClaimReply:
            self._claimed(message)  # type: ignore[arg-type]
        elif kind is m.ResultReply:
            self._reported(message)  # type: ignore[arg-type]
        elif isinstance(message, m.CheckpointReply):
            self.asides.answered(message.rid, message.items)
        elif isinstance(message, m.CancelRunning):
            if message.session == self.session:
                self.jobs.cancel(message.tasks)
        elif isinstance(message, m.RegisterReply):
            self._registered(message)
        elif isinstance(message, m.ErrorReply):
            self._refused(message.rid, from_wire(message.error))
        elif isinstance(message, m.DeregisterReply):
            if message.rid == self._deregister_rid:
                self._over()
        elif isinstance(message, m.PingReply):
            self._ping_rid = None
        elif isinstance(message, m.QueuesReply):
            for values in self._doubts.answered(message):
                self._note(UNKNOWN, values)
        elif isinstance(message, m.GoAway):
            self.leader = message.leader
            self._leave_ms = self._heard_ms + LEAVE_MS

    # ---- time and messages -------------------------------------------------------------------------

    def step(self) -> list[m.Message]:
        """Let time pass; what to send on the present connection now."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._planned_ms > LATE_MS:
            # A handler held the loop, or the process stood still: the broker was not silent, we did not listen.
            self._heard_ms = now_ms
        self._planned_ms = now_ms + FOREVER_MS
        asides = self.asides
        if asides.is_busy:
            asides.look()
        jobs_ms = self.jobs.wake_ms
        if jobs_ms is not None and jobs_ms <= now_ms:
            self.jobs.fire(now_ms)
        if self.state is State.DRAINING:
            self._drain_on(now_ms)
        elif self.state is State.CLOSING and now_ms >= self._drain_until_ms:
            self._note("could not take leave of the cluster", {"unreported": self.stats().unreported})
            self._over()
        if not self._is_connected or self._is_dropped:
            return []
        if self._leave_ms is not None:
            self._leave(now_ms)
            return []
        if now_ms < self._quiet_until_ms:
            return []
        out: list[m.Message] = []
        if self._reports.has_waiting:
            self._add_reports(out)
        if asides.is_busy and self.session is not None:
            out += asides.take(self._next_rid, self.session, now_ms)
        if self.session is None:
            self._add_register(out)
        elif self.state is State.RUNNING:
            self._add_claim(out, now_ms)
        elif self.state is State.CLOSING:
            self._add_deregister(out)
        self._watch(out, now_ms)
        return out

    def wake_ms(self) -> int | None:
        """When ``step`` must be called again though nothing happened (monotonic), or None."""
        times = []
        jobs_ms = self.jobs.wake_ms
        if jobs_ms is not None:
            times.append(jobs_ms)
        if self.state is State.DRAINING or self.state is State.CLOSING:
            times.append(self._drain_until_ms)
        if self._is_connected and not self._is_dropped:
            now_ms = self._clock.monotonic_ms()
            # As ``step``, which looks no further while it leaves or waits.
            if self._leave_ms is not None:
                times.append(self._leave_ms)
            elif self._quiet_until_ms > now_ms:
                times.append(self._quiet_until_ms)
            else:
                times.append(self._heard_ms + (self._ping_ms if self._ping_rid is None else self._dead_ms))
                if self._claim_after_ms > now_ms:
                    times.append(self._claim_after_ms)
                if self.asides.is_busy and self.session is not None:
                    asides_ms = self.asides.wake_ms(now_ms)
                    if asides_ms is not None:
                        times.append(asides_ms)
        if not times:
            return None
        self._planned_ms = min(times)
        return self._planned_ms

    def _next_rid(self) -> int:
        self._rid = self._rid + 1 if self._rid < RID_MAX else 1
        return self._rid

    def _add_register(self, out: list[m.Message]) -> None:
        if self._register_rid is not None or self.state is not State.RUNNING:
            return
        self._register_rid = self._next_rid()
        settings = self._settings
        out.append(
            m.RegisterWorker(
                self._register_rid, self._new_session, settings.name, self._handlers.types, settings.queues, settings.info
            )
        )  # fmt: skip
        if self._doubts:
            out.append(self._doubts.ask(self._next_rid()))

    def _add_claim(self, out: list[m.Message], now_ms: int) -> None:
        claim = self._claim
        if claim is None:
            if now_ms < self._claim_after_ms:
                return
            held_max = limits.SESSION_TASKS_MAX - len(self.jobs.held)
            free = min(self._settings.concurrency - len(self.jobs.running), held_max)
            if free <= 0:
                return
            self._seq += 1
            claim = self._claim = Claim(self._seq, free)
        elif claim.rid is not None:
            return
        claim.rid = self._next_rid()
        claim.sent_ms = now_ms
        assert self.session is not None
        out.append(m.ClaimTask(claim.rid, self.session, claim.seq, [], claim.max_n, limits.CLAIM_WAIT_MS_MAX))

    def _add_reports(self, out: list[m.Message]) -> None:
        session = self.session or self._new_session  # the fence is what counts
        out += self._reports.take(self._next_rid, session)

    def _add_deregister(self, out: list[m.Message]) -> None:
        if self._deregister_rid is None and self._reports.is_empty:
            assert self.session is not None
            self._deregister_rid = self._next_rid()
            out.append(m.DeregisterWorker(self._deregister_rid, self.session))

    def _watch(self, out: list[m.Message], now_ms: int) -> None:
        """A broker that is silent is asked, then given up."""
        silent_ms = now_ms - self._heard_ms
        if silent_ms >= self._dead_ms:
            self._drop("the broker is silent", silent_ms=silent_ms)
        elif silent_ms >= self._ping_ms and self._ping_rid is None:
            self._ping_rid = self._next_rid()
            out.append(m.Ping(self._ping_rid))

    def _leave(self, now_ms: int) -> None:
        """After GOAWAY: wait a little for what is in flight, but not for a parked claim."""
        assert self._leave_ms is not None
        is_waiting = (
            self._reports.has_in_flight
            or self.asides.has_in_flight
            or self._register_rid is not None
            or self._deregister_rid is not None
        )
        if not is_waiting or now_ms >= self._leave_ms:
            self._drop("the broker stops")

    def _drop(self, event: str, **values: Any) -> None:
        self._is_dropped = True
        self._note(event, values)

    # ---- sessions ----------------------------------------------------------------------------------

    def _registered(self, reply: m.RegisterReply) -> None:
        if reply.rid != self._register_rid:
            return
        self.answers += 1
        self._register_rid = None
        self.session = self._new_session
        self.told = reply
        self._seq = 0
        self._claim = None
        self.statistics.sessions += 1
        self._note("session opened", {"session": self.session.hex(), "lease_ms": reply.lease_ms})

    def session_lost(self, session: bytes) -> None:
        """The cluster has ended the session: its leases are gone, another may have its tasks by now."""
        if session != self.session:
            return
        if self.state is State.CLOSING:  # our own good-bye, seen from the parked claim; or it comes to the same
            self._over()
            return
        self._note("session lost", {"session": session.hex(), "running": len(self.jobs.running)})
        self.session = None
        self._new_session = self._random.bytes(limits.ID_BYTES)
        self._claim = None
        self.jobs.lose_all()

    # ---- grants ------------------------------------------------------------------------------------

    def _claimed(self, reply: m.ClaimReply) -> None:
        self.answers += 1
        claim = self._claim
        if claim is None or reply.rid != claim.rid:
            self.jobs.give_back(reply.grants)
            return
        self._claim = None
        grants = reply.grants
        if not grants:
            self._came_back_empty(claim)
            return
        self._empty_claims = 0
        if self.state is not State.RUNNING:
            self.jobs.give_back(grants)
            return
        self.jobs.take(grants)

    def _came_back_empty(self, claim: Claim) -> None:
        """Nothing was ready to the end of the wait, or others were faster: then pause, a little longer each time."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - claim.sent_ms >= limits.CLAIM_WAIT_MS_MAX // 2:
            self._empty_claims = 0
            return
        self._empty_claims += 1
        if self._empty_claims > 1:
            pause_ms = min(1 << min(self._empty_claims, 10), EMPTY_PAUSE_MS_MAX)
            self._claim_after_ms = now_ms + pause_ms // 2 + self._random.below(pause_ms)

    def _reported(self, reply: m.ResultReply) -> None:
        self.answers += 1
        items = self._reports.answered(reply.rid)
        answered = self.jobs.answered
        for item, answer in zip(items, reply.items, strict=True):
            answered(item[1])
            if answer.__class__ is list:
                self.statistics.stale += 1
                self._note("an outcome came too late", {"id": item[0].hex(), "fence": item[1]})

    def heard(self, session: bytes, reply: m.HeartbeatReply) -> None:
        """What the heartbeat's connection brought."""
        if session != self.session:
            return
        self.jobs.lost(reply.lost)
        self.jobs.cancel(reply.cancel)
        if reply.drain:
            self.drain()

    # ---- the end -----------------------------------------------------------------------------------

    def drain(self) -> None:
        """No more claims; end when what runs has ended, or after ``drain_ms``."""
        if self.state is not State.RUNNING:
            return
        self.state = State.DRAINING
        self._drain_until_ms = self._clock.monotonic_ms() + self._settings.drain_ms
        self._note("draining", {"running": len(self.jobs.running), "drain_ms": self._settings.drain_ms})

    def _drain_on(self, now_ms: int) -> None:
        if now_ms >= self._drain_until_ms:
            self._quit()
        elif not self.jobs.running and self._reports.is_empty:
            self._close()

    def _quit(self) -> None:
        """The time to drain is over: handlers are stopped, what they hold goes back with the session."""
        count = self.jobs.quit()
        if count:
            self._note("gave back what did not end in time", {"tasks": count})
        self._close()

    def _close(self) -> None:
        if self.session is None:
            self._over()
        else:
            self.state = State.CLOSING
            self._drain_until_ms = self._clock.monotonic_ms() + CLOSE_MS

    def _over(self) -> None:
        self.state = State.OVER

    def give_up(self, error: TqError) -> None:
        """The worker cannot go on, and another try would not help."""
        self.failure = error
        self._over()

    def farewell(self) -> list[m.Message]:
        """The last words of a worker that quits at once; nobody waits for the answer."""
        is_over = self.state is State.OVER
        self._over()
        if is_over or not self._is_connected or self.session is None or self._is_dropped or self._leave_ms is not None:
            return []
        out: list[m.Message] = []
        self._add_reports(out)
        out.append(m.DeregisterWorker(self._next_rid(), self.session))
        return out

    # ---- refusals ----------------------------------------------------------------------------------

    def _refused(self, rid: int | None, error: TqError) -> None:
        if rid is None:
            self._drop("the broker closes the connection", error=error.message)
            return
        if rid in self._reports:
            self._report_refused(rid, error)
        elif rid in self.asides:
            if isinstance(error, PASSING):
                self.asides.again(rid)
                self._not_now(error)
            else:
                self.asides.refused(rid, error)
        elif rid == self._register_rid:
            self._register_rid = None
            self._not_now(error)
        elif rid == self._deregister_rid:
            self._deregister_rid = None
            self._not_now(error)
        elif self._claim is not None and rid == self._claim.rid:
            self._claim.rid = None
            if isinstance(error, SessionLost):
                assert self.session is not None
                self.session_lost(self.session)
            else:
                self._not_now(error)

    def _not_now(self, error: TqError) -> None:
        """Wait, and look for the leader; an error that will not pass ends the worker."""
        if not isinstance(error, PASSING):
            self.give_up(error)
            return
        wait_ms = QUIET_MS_MIN if error.retry_after is None else max(round(error.retry_after * 1000), QUIET_MS_MIN)
        self._quiet_until_ms = self._clock.monotonic_ms() + wait_ms // 2 + self._random.below(wait_ms)
        self._note("the broker asks to wait", {"error": error.message, "wait_ms": wait_ms})
        if isinstance(error, NotLeader):
            self.leader = error.leader
            self._drop("looking for the leader", leader=error.leader)

    def _report_refused(self, rid: int, error: TqError) -> None:
        if isinstance(error, PASSING):
            self._reports.again(rid)
            self._not_now(error)
            return
        item = self._reports.refused(rid)
        if item is not None:
            # One outcome that the broker will not take: its lease runs out, and the task is tried again.
            id, fence = item[0], item[1]
            self.jobs.answered(fence)
            self._note("an outcome was refused", {"id": id.hex(), "fence": fence, "error": error.message})

    def _note(self, event: str, values: dict[str, Any]) -> None:
        self.notes.append((event, values))

    # ---- looking -----------------------------------------------------------------------------------

    def stats(self) -> Statistics:
        statistics = self.statistics
        running = self.jobs.running
        statistics.running = len(running)
        statistics.stuck = sum(1 for job in running.values() if job.is_given_up)
        statistics.unreported = len(self._reports)
        return statistics
