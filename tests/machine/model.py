"""A naive model of the contract: what the state machine must answer and show, in plain dicts and lists.

It reads as the contract does, walks everything for every question, and was written without a look at
``tq/machine``'s rules: only the border is shared (commands, answers, states, the parser of a task, limits).
``tests/machine/test_model.py`` lets hypothesis compare the two, ``test_scripts.py`` runs it beside every script.

Chance: a wait with jitter is not the contract's to fix. The model keeps the bounds (``Task.due_bounds``);
who compares checks the real wait against them and tells the model with ``settle``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cbor2

from tq import limits
from tq.errors import (
    Conflict,
    InvalidRequest,
    InvalidState,
    NotDone,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    SessionLost,
    TqError,
    Unsupported,
)
from tq.machine import commands as c
from tq.machine.answers import ReportOutcome, SubmitOutcome
from tq.machine.commands import Outcome, Timer
from tq.machine.states import ENDS, State
from tq.spec import UNIQUE_PENDING, Retry, Spec, parse

PURGE = 1  # the other verb of a job
IDLE = (State.WAITING, State.SCHEDULED, State.PENDING)  # accepted, not running, not ended
REFUSALS = (SubmitOutcome.CONFLICT, SubmitOutcome.QUEUE_FULL, SubmitOutcome.TOO_LARGE, SubmitOutcome.INVALID)
GIVEN = {
    5: "timeout_ms",
    4: "expires_in_ms",
    7: "retry",
    12: "result_ttl_ms",
}  # options that a queue gives to its tasks
SETTINGS = ("max_length", *GIVEN.values(), "finished_keep_ms", "dead_keep_ms")


@dataclass
class Task:
    spec: Spec
    raw: bytes
    created: int
    rules: Spec  # what holds for it: its own options, and its queue's where it says none
    state: State = State.PENDING
    attempt: int = 0
    crashes: int = 0
    snoozes: int = 0
    fence: int = 0
    session: bytes | None = None
    entered: tuple[int, int] = (0, 0)  # (index, ordinal) of entering pending
    ready_since: int = 0
    due: int | None = None
    due_bounds: tuple[int, int] | None = None  # while the jitter of ``due`` is unknown
    expires: int | None = None
    deadline: int | None = None
    timeout: int | None = None
    grace: int | None = None
    cancelling: bool = False
    reason: str | None = None
    result: tuple[str, bytes] | None = None
    result_until: int | None = None
    ended: int | None = None
    kept_until: int | None = None  # by a rule of its queue
    passed: bool = False  # the common retention leaves it alone
    history: list[tuple[int, int, str]] = field(default_factory=list)  # (fence, attempt, what became of it)
    said: dict[int, Outcome] = field(default_factory=dict)  # fence -> the outcome its worker reported
    kept: tuple[int, int, bytes | None] | None = None  # fence, number and data of its last checkpoint


@dataclass
class Tombstone:
    spec: Spec
    state: State
    until: int


@dataclass
class Session:
    name: str
    types: tuple[str, ...]
    queues: tuple[str, ...]
    seq: int | None = None
    granted: list[tuple[bytes, int]] = field(default_factory=list)  # by the claim numbered ``seq``


@dataclass
class Job:
    verb: int
    walk: list[tuple[State, int | None, bytes]]  # (state, end, id) of ended tasks that it has not looked at
    matches: Callable[[Task], bool]
    limit: int | None
    delay: int
    done: int = 0


class Model:
    def __init__(self) -> None:
        self.index = 0
        self.time = 0
        self.tasks: dict[bytes, Task] = {}
        self.tombstones: dict[bytes, Tombstone] = {}
        self.idempotency: dict[str, bytes] = {}
        self.sessions: dict[bytes, Session] = {}
        self.operations: dict[bytes, tuple[int, str, Any]] = {}  # -> (forgotten at, kind, answer)
        self.jobs: dict[bytes, Job] = {}
        self.queues: dict[str, dict[str, Any]] = {}  # settings that are not the default
        self.cluster: bytes | None = None
        self.ordinal = 0  # of tasks entering pending, in the entry
        self.grants = 0  # in the entry

    # ---- entries -----------------------------------------------------------------------------------

    def apply(self, index: int, time_ms: int, commands: Iterable[c.Command]) -> list[Any]:
        """The answers of one entry."""
        assert index > self.index
        self.index = index
        self.time = max(self.time, time_ms)  # log time never runs backwards
        self.ordinal = self.grants = 0
        return [self._command(command) for command in commands]

    def settle(self, id: bytes, due: int) -> None:
        """The real machine drew this wait."""
        task = self.tasks[id]
        assert task.due_bounds is not None
        task.due, task.due_bounds = due, None

    def _command(self, command: c.Command) -> Any:
        match command:
            case c.Submit():
                return self.submit(command)
            case c.SessionOpen():
                return self.session_open(command)
            case c.SessionClose():
                return self.session_close(command)
            case c.Claim():
                return self.claim(command)
            case c.Report():
                return [self.report(*item) for item in command.items]
            case c.Checkpoint():
                return [self.checkpoint(*item) for item in command.items]
            case c.LeasesExpire():
                return self.leases_expire(command)
            case c.SessionsEnd():
                for session in command.sessions:
                    self.session_end(session, self.crash)
                return None
            case c.Cancel():
                return [self.cancel(id, command.grace_ms) for id in command.ids]
            case c.Advance():
                return self.advance(Timer(command.kind), command.limit)
            case c.Retry():
                return self.once(
                    command.operation, "retry", lambda: [self.retry(id, command.delay_ms) for id in command.ids]
                )
            case c.Purge():
                return self.once(command.operation, "purge", lambda: [self.purge(id) for id in command.ids])
            case c.JobStart():
                return self.job_start(command)
            case c.JobStep():
                return self.job_step(command.operation, command.limit)
            case c.QueueSet():
                return self.queue_set(command)
            case c.ClusterForm():
                self.cluster = self.cluster or command.cluster_id
                return self.cluster
            case _:
                raise AssertionError(command)

    # ---- submit ------------------------------------------------------------------------------------

    def submit(self, command: c.Submit) -> list[Any]:
        if not command.atomic:
            return [self._submit_one(raw) for raw in command.specs]
        before = (dict(self.tasks), dict(self.idempotency), self.ordinal)
        items = [self._submit_one(raw) for raw in command.specs]
        if any(_outcome(item) in REFUSALS for item in items):
            self.tasks, self.idempotency, self.ordinal = before
            innocent = [SubmitOutcome.NOT_DONE, None, None, NotDone("another item was refused")]
            return [item if _outcome(item) in REFUSALS else innocent for item in items]
        return items

    def _submit_one(self, raw: bytes) -> Any:
        try:
            spec = parse(raw)
        except PayloadTooLarge as error:
            return [SubmitOutcome.TOO_LARGE, None, None, error]
        except (InvalidRequest, Unsupported) as error:
            return [SubmitOutcome.INVALID, None, None, error]

        known = self.tasks.get(spec.id) or self.tombstones.get(spec.id)
        keyed = None if spec.idempotency_key is None else self.idempotency.get(spec.idempotency_key)
        if known is not None:
            if known.spec != spec or keyed not in (None, spec.id):
                return [SubmitOutcome.CONFLICT, known.state, spec.id, Conflict("")]
            return [SubmitOutcome.DUPLICATE, known.state, spec.id, None]
        if keyed is not None:
            first = self.tasks.get(keyed) or self.tombstones[keyed]
            if first.spec._replace(id=b"") != spec._replace(id=b""):
                return [SubmitOutcome.CONFLICT, first.state, keyed, Conflict("")]
            return [SubmitOutcome.DUPLICATE, first.state, keyed, None]
        if spec.unique is not None:
            for id in self.holders(spec.unique[0]):
                return [SubmitOutcome.DUPLICATE, self.tasks[id].state, id, None]
        if self.length(spec.queue) >= self.settings(spec.queue).get("max_length", limits.QUEUE_LENGTH_MAX):
            return [SubmitOutcome.QUEUE_FULL, None, None, QueueFull("")]
        return self._create(spec, raw)

    def length(self, queue: str) -> int:
        """Tasks that were accepted and do not run yet, or again."""
        return sum(1 for task in self.tasks.values() if task.spec.queue == queue and task.state in IDLE)

    def holders(self, key: str) -> list[bytes]:
        """The tasks that hold a unique key now."""
        return [
            id
            for id, task in self.tasks.items()
            if task.spec.unique is not None
            and task.spec.unique[0] == key
            and (task.state in IDLE or (task.state is State.RUNNING and task.spec.unique[1] != UNIQUE_PENDING))
        ]

    def _create(self, spec: Spec, raw: bytes) -> Any:
        task = self.tasks[spec.id] = Task(spec, raw, self.time, self._with_given(spec, raw))
        if spec.idempotency_key is not None:
            self.idempotency[spec.idempotency_key] = spec.id
        due = self.time + spec.delay_ms if spec.not_before_ms is None else spec.not_before_ms
        self._begin(task, due)
        return 0 if task.state is State.PENDING else [SubmitOutcome.CREATED, task.state, spec.id, None]

    def _with_given(self, spec: Spec, raw: bytes) -> Spec:
        settings, fields = self.settings(spec.queue), cbor2.loads(raw)
        said = fields[5] if len(fields) == 6 else {}
        given = {name: settings[name] for option, name in GIVEN.items() if option not in said and name in settings}
        if "retry" in given:
            given["retry"] = Retry(*given["retry"])
        return spec._replace(**given)

    def _begin(self, task: Task, due: int) -> None:
        """A task, new or retried, starts its life: relative times are resolved in log time."""
        spec = task.rules
        task.expires = None if spec.expires_in_ms is None else self.time + spec.expires_in_ms
        task.deadline = None if spec.deadline_ms is None else self.time + spec.deadline_ms
        if due > self.time:
            self.scheduled(task, due)
        else:
            self.pending(task)

    # ---- states ------------------------------------------------------------------------------------

    def pending(self, task: Task) -> None:
        task.state, task.due, task.due_bounds = State.PENDING, None, None
        task.entered = (self.index, self.ordinal)
        task.ready_since = self.time
        self.ordinal += 1

    def scheduled(self, task: Task, due: int | None, bounds: tuple[int, int] | None = None) -> None:
        task.state, task.due, task.due_bounds = State.SCHEDULED, due, bounds

    def end(self, task: Task, state: State, reason: str | None = None) -> None:
        task.state, task.reason, task.ended = state, reason, self.time
        task.kept = None
        task.cancelling = False
        task.due = task.due_bounds = task.expires = task.deadline = None
        keep = self.settings(task.spec.queue).get("dead_keep_ms" if state is State.DEAD else "finished_keep_ms")
        task.kept_until = None if keep is None else self.time + keep
        task.passed = False

    def let_go(self, task: Task, what: str) -> None:
        """The grant is over, whatever the task becomes; its line stands in the history."""
        task.history.append((task.fence, task.attempt, what))
        task.session = task.timeout = task.grace = None

    # ---- sessions and claims -----------------------------------------------------------------------

    def session_open(self, command: c.SessionOpen) -> Any:
        wanted = (command.name, tuple(command.types), tuple(command.queues))
        known = self.sessions.get(command.session)
        if known is None:
            self.sessions[command.session] = Session(*wanted)
            return None
        return None if (known.name, known.types, known.queues) == wanted else Conflict("")

    def session_close(self, command: c.SessionClose) -> None:
        self.session_end(command.session, self.release)

    def session_end(self, session: bytes, then: Callable[[Task], None]) -> None:
        if self.sessions.pop(session, None) is None:
            return
        for _, task in sorted(self.tasks.items()):
            if task.state is State.RUNNING and task.session == session:
                then(task)

    def claim(self, command: c.Claim) -> Any:
        session = self.sessions.get(command.session)
        if not 1 <= command.max_n <= limits.CLAIM_TASKS_MAX:
            return InvalidRequest("")
        if session is None:
            return SessionLost("")
        if session.seq is not None and command.seq <= session.seq:
            if command.seq < session.seq:
                return []
            held = [self.tasks[id] for id, fence in session.granted if self._holds(command.session, id, fence)]
            return [self.grant(task) for task in held]
        queues = list(command.queues) or list(session.queues)
        holding = sum(1 for t in self.tasks.values() if t.session == command.session)
        room = min(command.max_n, limits.SESSION_TASKS_MAX - holding, limits.ENTRY_GRANTS_MAX - self.grants)
        ready = [
            task
            for task in self.tasks.values()
            if task.state is State.PENDING
            and task.spec.queue in queues
            and task.spec.type in session.types
            and "paused" not in self.settings(task.spec.queue)
        ]
        ready.sort(key=lambda task: (-task.spec.priority, queues.index(task.spec.queue), task.entered))
        if not ready[: max(room, 0)]:
            return []  # and the number may be asked again
        session.seq, session.granted = command.seq, []
        for task in ready[:room]:
            self._start(task, command.session)
            session.granted.append((task.spec.id, task.fence))
        return [self.grant(self.tasks[id]) for id, _ in session.granted]

    def _holds(self, session: bytes, id: bytes, fence: int) -> bool:
        task = self.tasks.get(id)
        return task is not None and task.state is State.RUNNING and task.session == session and task.fence == fence

    def _start(self, task: Task, session: bytes) -> None:
        task.state = State.RUNNING
        task.session = session
        task.attempt += 1
        task.fence = self.index * limits.FENCE_ORDINALS + self.grants
        task.expires = None  # it started
        task.timeout = None if task.rules.timeout_ms is None else self.time + task.rules.timeout_ms
        self.grants += 1

    def grant(self, task: Task) -> list[Any]:
        spec = task.rules
        kept = [] if task.kept is None or task.kept[2] is None else [task.kept[2]]
        return [
            task.raw,
            task.attempt,
            task.crashes,
            task.fence,
            limits.LEASE_MS_DEFAULT,
            spec.timeout_ms,
            task.deadline,
            *kept,
        ]

    # ---- what becomes of a running task ------------------------------------------------------------

    def report(self, id: bytes, fence: int, outcome: int, body: Any) -> Any:
        said = Outcome(outcome)
        task = self.tasks.get(id)
        if task is None:
            return [ReportOutcome.STALE, None]
        if task.state is State.RUNNING and task.fence == fence:
            self._outcome(task, said, body)
            task.said[fence] = said
            return ReportOutcome.APPLIED
        if task.said.get(fence) == said:
            return ReportOutcome.ALREADY
        return [ReportOutcome.STALE, task.state]

    def checkpoint(self, id: bytes, fence: int, number: int, data: bytes | None) -> Any:
        task = self.tasks.get(id)
        if task is None:
            return [ReportOutcome.STALE, None]
        if task.state is not State.RUNNING or task.fence != fence:
            return [ReportOutcome.STALE, task.state]
        if task.kept is not None and task.kept[:2] >= (fence, number):
            return ReportOutcome.ALREADY
        task.kept = (fence, number, data)
        return ReportOutcome.APPLIED

    def _outcome(self, task: Task, outcome: Outcome, body: Any) -> None:
        if outcome is Outcome.COMPLETE:  # beats a cancel, too
            self.let_go(task, "completed")
            self.end(task, State.COMPLETED)
            task.result = (body[0], body[1])
            keep = self.settings(task.spec.queue).get("finished_keep_ms", limits.FINISHED_KEEP_MS_DEFAULT)
            if task.rules.result_ttl_ms < keep:  # else the task goes no later itself
                task.result_until = self.time + task.rules.result_ttl_ms
        elif outcome is Outcome.FAIL:
            _error, permanent, retry_after = body
            self.fail(task, "failed", permanent=permanent, retry_after=retry_after)
        elif outcome is Outcome.SNOOZE:
            self.snooze(task, body)
        else:
            self.release(task, "cancelled" if outcome is Outcome.CANCELLED and task.cancelling else "released")

    def fail(self, task: Task, what: str, *, permanent: bool = False, retry_after: int | None = None) -> None:
        self.let_go(task, what)
        if task.cancelling:
            self.end(task, State.CANCELLED)
        elif permanent or task.attempt >= task.rules.retry.attempts_max:
            self.end(task, State.DEAD, "permanent" if permanent else "attempts")
        elif retry_after is not None:
            self.scheduled(task, self.time + retry_after)
        else:
            least, most = backoff_bounds(task.rules, task.attempt)
            known = self.time + least if least == most else None
            self.scheduled(task, known, None if known is not None else (self.time + least, self.time + most))

    def release(self, task: Task, what: str = "released") -> None:
        """Given back: the attempt is not counted."""
        self.let_go(task, what)
        task.attempt -= 1
        self._back(task)

    def _back(self, task: Task) -> None:
        if task.cancelling:
            self.end(task, State.CANCELLED)
        else:
            self.pending(task)

    def snooze(self, task: Task, delay: int) -> None:
        if task.snoozes == limits.SNOOZES_MAX and not task.cancelling:
            self.fail(task, "failed")
            return
        self.let_go(task, "snoozed")
        task.attempt -= 1
        if task.cancelling:
            self.end(task, State.CANCELLED)
        else:
            task.snoozes += 1
            self.scheduled(task, self.time + delay)

    def crash(self, task: Task) -> None:
        """The lease ran out: the attempt is not counted, the crash is."""
        self.let_go(task, "crashed")
        task.attempt -= 1
        task.crashes += 1
        if not task.cancelling and task.crashes >= limits.CRASHES_MAX_DEFAULT:
            self.end(task, State.DEAD, "poison")
        else:
            self._back(task)

    def leases_expire(self, command: c.LeasesExpire) -> None:
        for id, fence in command.items:
            task = self.tasks.get(id)  # type: ignore[call-overload]
            if task is not None and task.state is State.RUNNING and task.fence == fence:
                self.crash(task)

    def cancel(self, id: bytes, grace: int) -> list[Any]:
        task = self.tasks.get(id)
        if task is None:
            return [None, self._missing(id)]
        if task.state in IDLE:
            self.end(task, State.CANCELLED)
        elif task.state is State.RUNNING:
            task.cancelling = True
            task.grace = min(self.time + grace, task.grace or self.time + grace)
        return [task.state, None]

    def _missing(self, id: bytes) -> TqError:
        return NotFound("", detail={"purged": id in self.tombstones})

    # ---- time --------------------------------------------------------------------------------------

    def timers(self, kind: Timer) -> list[tuple[int, bytes]]:
        """(time, id) of every timer of one kind, the earliest first."""
        tasks = self.tasks.items()
        if kind is Timer.DUE:
            found = [(t.due, id) for id, t in tasks]
        elif kind is Timer.EXPIRES:
            found = [(t.expires, id) for id, t in tasks]
        elif kind is Timer.DEADLINE:
            found = [(t.deadline, id) for id, t in tasks]
        elif kind is Timer.TIMEOUT:
            found = [(t.timeout, id) for id, t in tasks]
        elif kind is Timer.GRACE:
            found = [(t.grace, id) for id, t in tasks]
        elif kind is Timer.RESULT_TTL:
            found = [(t.result_until, id) for id, t in tasks]
        elif kind is Timer.RETENTION:
            found = [(t.ended and t.ended + keep_ms(t.state), id) for id, t in tasks if not t.passed]
        elif kind is Timer.KEPT:
            found = [(t.kept_until, id) for id, t in tasks]
        elif kind is Timer.TOMBSTONE:
            found = [(t.until, id) for id, t in self.tombstones.items()]
        else:
            found = [(until, id) for id, (until, _, _) in self.operations.items()]
        return sorted((time, id) for time, id in found if time is not None)

    def advance(self, kind: Timer, limit: int) -> Any:
        if not 1 <= limit <= limits.ENTRY_OPERATIONS_MAX:
            return InvalidRequest("")
        due = [id for time, id in self.timers(kind) if time <= self.time][:limit]
        for id in due:
            self._ring(kind, id)
        return len(due)

    def _ring(self, kind: Timer, id: bytes) -> None:
        if kind is Timer.TOMBSTONE:
            del self.tombstones[id]
            self.idempotency = {key: first for key, first in self.idempotency.items() if first != id}
        elif kind is Timer.OPERATION:
            del self.operations[id]
        elif kind is Timer.KEPT:
            self._bury(id)
        elif kind is Timer.RETENTION:
            if self.tasks[id].kept_until is None:
                self._bury(id)
            else:
                self.tasks[id].passed = True
        elif kind is Timer.RESULT_TTL:
            self.tasks[id].result = self.tasks[id].result_until = None
        elif kind is Timer.DUE:
            self.pending(self.tasks[id])
        elif kind is Timer.EXPIRES:
            self.end(self.tasks[id], State.EXPIRED)
        elif kind is Timer.TIMEOUT:
            self.fail(self.tasks[id], "timed_out")
        elif kind is Timer.GRACE:
            self.let_go(self.tasks[id], "cancelled")
            self.end(self.tasks[id], State.CANCELLED)
        else:
            task = self.tasks[id]
            if task.state is State.RUNNING:
                self.let_go(task, "deadline")
            self.end(task, State.DEAD, "deadline")

    # ---- after the end -----------------------------------------------------------------------------

    def once(self, operation: bytes, kind: str, do: Callable[[], Any]) -> Any:
        """The same operation again answers the same; its id in a request of another kind is a conflict."""
        known = self._remembered(operation, kind)
        if known is None:
            known = do()
            self.operations[operation] = (self.time + limits.TOMBSTONE_KEEP_MS_DEFAULT, kind, known)
        return known

    def _remembered(self, operation: bytes, kind: str) -> Any:
        if operation in self.jobs:
            return self._status(operation) if kind == "job" else Conflict("")
        if operation in self.operations:
            _, first_kind, answer = self.operations[operation]
            return answer if kind == first_kind else Conflict("")
        return None

    def retry(self, id: bytes, delay: int) -> list[Any]:
        task = self.tasks.get(id)
        if task is None:
            return [None, self._missing(id)]
        if task.state not in ENDS or task.state is State.COMPLETED:
            return [task.state, InvalidState("")]
        task.attempt = task.crashes = task.snoozes = 0
        task.reason = task.ended = task.kept_until = None
        task.passed = False
        self._begin(task, self.time + delay)
        return [task.state, None]

    def purge(self, id: bytes) -> list[Any]:
        task = self.tasks.get(id)
        if task is None:
            return [None, self._missing(id)]
        if task.state not in ENDS:
            return [task.state, InvalidState("")]
        self._bury(id)
        return [task.state, None]

    # ---- queues ------------------------------------------------------------------------------------

    def settings(self, queue: str) -> dict[str, Any]:
        return self.queues.get(queue, {})

    def queue_set(self, command: c.QueueSet) -> Any:
        """Settings are what was said last of each; null takes one away. What is refused is not remembered."""
        known = self._remembered(command.operation, "queue")
        if known is not None:
            return known
        now = dict(self.settings(command.queue))
        changes = dict(command.changes)  # type: ignore[arg-type]
        for name, value in changes.items():
            if name not in (*SETTINGS, "paused", "reason"):
                return Unsupported("")
            if name == "max_length" and value is not None and value < 0:  # type: ignore[operator]
                return InvalidRequest("")
        if changes.get("reason") is not None and not changes.get("paused"):
            return InvalidRequest("")
        for name in SETTINGS:
            if name in changes:
                now[name] = changes[name]
        if "paused" in changes:
            told = {"by": command.by, "since_ms": self.time, "reason": changes.get("reason")}
            was = now.get("paused") or {}
            if (was.get("by"), was.get("reason")) == (told["by"], told["reason"]):
                told = was
            now["paused"] = told if changes["paused"] else None
        self.queues[command.queue] = {name: value for name, value in now.items() if value is not None}
        if not self.queues[command.queue]:
            del self.queues[command.queue]
        return self.once(command.operation, "queue", lambda: self.shown(command.queue))

    def shown(self, queue: str) -> dict[str, Any]:
        return {name: self.settings(queue).get(name) for name in ("paused", *SETTINGS)}

    # ---- bulk jobs ---------------------------------------------------------------------------------

    def job_start(self, command: c.JobStart) -> list[Any]:
        """What has ended by now is the job's to look at; what ends later is not."""
        state, queue, type_, tag, before = command.filter
        possible = [end for end in sorted(ENDS) if command.verb == PURGE or end is not State.COMPLETED]
        known = self._remembered(command.operation, "job")
        if known is not None:
            return known
        if state is not None and state not in possible:
            return InvalidState("")

        def matches(task: Task) -> bool:
            return (
                state in (None, task.state)
                and queue in (None, task.spec.queue)
                and type_ in (None, task.spec.type)
                and (tag is None or tag in task.spec.tags)
                and (before is None or task.ended < before)  # type: ignore[operator]
            )

        states = possible if state is None else [state]
        walk = sorted((t.state, t.ended, id) for id, t in self.tasks.items() if t.state in states)
        job = Job(command.verb, walk, matches, command.limit, command.delay_ms)
        self.jobs[command.operation] = job
        return self._status(command.operation)

    def job_step(self, operation: bytes, limit: int) -> Any:
        """Look at a bounded number of tasks. Whether the job is told finished now or at its next step is left open."""
        job = self.jobs.get(operation)
        if job is None:
            return self._remembered(operation, "job") or NotFound("")
        walk = self._left(job)
        slice_, job.walk = walk[:limit], walk[limit:]
        for _, _, id in slice_:
            if job.matches(self.tasks[id]) and job.done != job.limit:
                job.done += 1
                if job.verb == PURGE:
                    self.purge(id)
                else:
                    self.retry(id, job.delay)
        return self._status(operation)

    def _left(self, job: Job) -> list[tuple[State, int | None, bytes]]:
        """What of its walk is still as it was when the job started."""
        return [
            (state, ended, id)
            for state, ended, id in job.walk
            if id in self.tasks and (self.tasks[id].state, self.tasks[id].ended) == (state, ended)
        ]

    def _status(self, operation: bytes) -> list[Any]:
        job = self.jobs[operation]
        return [operation, job.verb, job.done, job.done, False]

    def finish(self, operation: bytes) -> None:
        """The real machine says that this job is finished: nothing may be left of it."""
        job = self.jobs[operation]
        left = [id for _, _, id in self._left(job) if job.matches(self.tasks[id])]
        assert not left or job.done == job.limit, f"a job ended with {left} left"
        status = [*self._status(operation)[:4], True]
        del self.jobs[operation]
        self.operations[operation] = (self.time + limits.TOMBSTONE_KEEP_MS_DEFAULT, "job", status)

    def _bury(self, id: bytes) -> None:
        task = self.tasks.pop(id)
        self.tombstones[id] = Tombstone(task.spec, task.state, self.time + limits.TOMBSTONE_KEEP_MS_DEFAULT)


def backoff_bounds(spec: Spec, attempt: int) -> tuple[int, int]:
    """The least and the longest wait after the given counted attempt failed."""
    retry = spec.retry
    wait = int(min(retry.base_ms * Fraction(retry.factor_milli, 1000) ** (attempt - 1), retry.cap_ms))
    spread = wait * retry.jitter_milli // 1000
    return wait - spread, wait + spread


def keep_ms(state: State) -> int:
    return limits.DEAD_KEEP_MS_DEFAULT if state is State.DEAD else limits.FINISHED_KEEP_MS_DEFAULT


def _outcome(item: Any) -> SubmitOutcome:
    return SubmitOutcome.CREATED if item == 0 else SubmitOutcome(item[0])
