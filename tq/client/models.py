"""What the client gives back: frozen records, times in seconds, ids as text, states as words.

Each is made from the plain values of a reply by its ``of``. The wire may grow fields; those that this version
does not know stay in ``more``, so that ``tq ... --output json`` shows them all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from tq.client.ids import to_text
from tq.client.specs import Retry
from tq.errors import Conflict, TqError, from_wire
from tq.spec import Spec

STATES: Final = (
    "waiting", "scheduled", "pending", "running", "completed", "cancelled", "expired", "skipped", "dead",
)  # fmt: skip
"""By their numbers on the wire."""
ENDS: Final = frozenset(STATES[4:])
EVENT_KINDS: Final = (
    "created", "ready", "scheduled", "started", "completed", "failed", "released", "snoozed", "crashed",
    "cancelling", "cancelled", "expired", "dead", "retried", "purged", "timed_out", "stale_refused",
    "queue_paused", "queue_resumed", "queue_set",
)  # fmt: skip
SUBMIT_OUTCOMES: Final = ("created", "duplicate", "conflict", "queue_full", "too_large", "invalid", "not_done")
Outcome = Literal["applied", "already"]


def state_name(state: int | str | None) -> str | None:
    """The word for a state, as number or word; a number that is not known here stays a number."""
    if state is None or isinstance(state, str):
        return state
    return STATES[state] if 0 <= state < len(STATES) else str(state)


def seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


def error_of(fields: Any) -> TqError | None:
    return None if fields is None else from_wire(fields)


# ---- writes ----------------------------------------------------------------------------------------


@attrs.frozen(slots=False)
class Submitted:
    """What became of one submitted task.

    raw_id: 16 bytes of the id of the task that is there now; for a duplicate by idempotency or unique key, the
    holder's. outcome: created | duplicate; in a batch also conflict | queue_full | too_large | invalid | not_done |
    unknown. state: of that task, None where there is none. error: why it was refused.
    """

    raw_id: bytes = attrs.field(repr=to_text)
    outcome: str = "created"
    state: str | None = "pending"
    error: TqError | None = None

    @property
    def id(self) -> str:
        """As text. Made when it is asked for: most of a batch's are not."""
        return to_text(self.raw_id)

    @classmethod
    def of(cls, item: Any, raw_id: bytes) -> Submitted:
        if item == 0:
            return cls(raw_id)
        outcome, state, named, error = item
        name = SUBMIT_OUTCOMES[outcome] if outcome < len(SUBMIT_OUTCOMES) else str(outcome)
        refusal = error_of(error)
        if isinstance(refusal, Conflict) and named:
            id, known = to_text(named), state_name(state)
            refusal = Conflict(f"{refusal.message}: {id}, {known}", detail={**refusal.detail, "id": id, "state": known})
        return cls(named or raw_id, name, state_name(state), refusal)


@attrs.frozen
class Changed:
    """What a cancel, retry or purge led to, for one id: the state after it (of a purged task, its last), or the error."""

    id: str
    state: str | None
    error: TqError | None = None

    @classmethod
    def of(cls, id: bytes, item: Sequence[Any]) -> Changed:
        return cls(to_text(id), state_name(item[0]), error_of(item[1]))


@attrs.frozen
class Job:
    """A bulk retry or purge. done: tasks changed so far; matched: tasks looked at and found to match."""

    operation: str
    verb: str
    done: int
    matched: int
    finished: bool

    @classmethod
    def of(cls, fields: Sequence[Any]) -> Job:
        operation, verb, done, matched, finished = fields
        return cls(to_text(operation), ("retry", "purge")[verb], done, matched, bool(finished))


# ---- tasks -----------------------------------------------------------------------------------------


@attrs.frozen
class Attempt:
    """One past attempt.

    outcome: completed | failed | timed_out | released | snoozed | crashed | cancelled | deadline, or stale: an
    outcome that was refused, ``times`` times. error: (type, message, traceback), or None.
    """

    outcome: str
    attempt: int | None = None
    fence: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    worker: str | None = None
    error: tuple[str, ...] | None = None
    times: int = 1
    more: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Progress:
    """How far a handler says it is: ``done`` of ``total``. at: epoch seconds, when the leader heard it."""

    done: float
    total: float | None = None
    note: str | None = None
    at: float | None = None


@attrs.frozen
class TaskInfo:
    """A task as the broker knows it. Times are epoch seconds, durations seconds; None: not (yet) so.

    Attributes:
        index: the applied index this was read at.
        state: waiting | scheduled | pending | running | completed | cancelled | expired | skipped | dead.
        attempt: counted attempts, the running one included. crashes: lost leases. stale: outcomes that were refused.
        fence: of the last grant, 0 before the first one.
        reason: why it ended as it did. cancelling: a cancel waits for the handler.
        result: bytes of the handler, None before the end or when its time to live is over.
        error: (type, message, traceback) of the last failed attempt.
        history: past attempts, oldest first; history_dropped: older ones that are not kept.
        progress: what the handler of a running task said last, if it did since the present leader leads.
        progress_known: False where the node that answered does not lead, and cannot know; ``linearizable=True`` asks the leader.
        checkpoint_bytes: size of what attempts have kept for the next one, None: nothing.
        more: fields that this version of the client does not know.
    """

    id: str
    type: str
    queue: str
    state: str
    priority: int
    attempt: int = 0
    attempts_max: int | None = None
    crashes: int = 0
    snoozes: int = 0
    stale: int = 0
    fence: int = 0
    created_at: float | None = None
    due_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    deadline_at: float | None = None
    timeout: float | None = None
    reason: str | None = None
    cancelling: bool = False
    worker: str | None = None
    payload: bytes | None = None
    content_type: str | None = None
    result: bytes | None = None
    result_content_type: str | None = None
    error: tuple[str, ...] | None = None
    history: tuple[Attempt, ...] = ()
    history_dropped: int = 0
    tags: tuple[str, ...] = ()
    headers: dict[str, str] = attrs.field(factory=dict)
    progress: Progress | None = None
    progress_known: bool = True
    checkpoint_bytes: int | None = None
    index: int = 0
    more: dict[str, Any] = attrs.field(factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ENDS


@attrs.frozen
class Page:
    """One page of a list. cursor: give it back for the next page; None: that was all. A page may be empty and go on."""

    tasks: list[TaskInfo]
    cursor: bytes | None
    index: int = 0


@attrs.frozen
class Explanation:
    """why: one sentence. facts: what it rests on: the task's fields, its history, and what its state adds."""

    why: str
    facts: dict[str, Any]


@attrs.frozen
class TaskEvent:
    """One change of a task, or of a queue (id and type are empty then). (index, ordinal) is its id, the same on every node;
    ``after=`` takes it."""

    index: int
    ordinal: int
    kind: str
    id: str
    time: float
    queue: str
    type: str
    fence: int
    extra: Any = None

    @property
    def position(self) -> tuple[int, int]:
        return self.index, self.ordinal

    @classmethod
    def of(cls, row: Sequence[Any]) -> TaskEvent:
        index, ordinal, kind, task, time_ms, queue, type_, fence, extra = row[:9]
        name = EVENT_KINDS[kind] if kind < len(EVENT_KINDS) else str(kind)
        return cls(index, ordinal, name, to_text(task) if any(task) else "", time_ms / 1000, queue, type_, fence, extra)


# ---- workers ---------------------------------------------------------------------------------------


@attrs.frozen(slots=False)
class Grant:
    """A task given to this session: its content, and what the lease says.

    raw_id: the 16 bytes of the id. fence: rises with each grant, over all tasks; show it to the resource that the
    handler changes. lease: seconds until it must be renewed. timeout: of this attempt. deadline: epoch seconds. checkpoint: what an earlier attempt
    has kept for this one.
    """

    spec: Spec
    attempt: int
    crashes: int
    fence: int
    lease: float
    timeout: float | None
    deadline: float | None
    checkpoint: bytes | None = None

    @property
    def id(self) -> str:
        return to_text(self.spec.id)

    @property
    def raw_id(self) -> bytes:
        return self.spec.id

    @property
    def type(self) -> str:
        return self.spec.type

    @property
    def payload(self) -> bytes:
        return self.spec.payload

    @property
    def queue(self) -> str:
        return self.spec.queue

    @property
    def priority(self) -> int:
        return self.spec.priority

    @property
    def content_type(self) -> str:
        return self.spec.content_type

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.spec.headers)

    @property
    def tags(self) -> tuple[str, ...]:
        return self.spec.tags


@attrs.frozen
class CancelRequest:
    """A running task is to be told to stop; after ``grace`` seconds its fence is revoked."""

    id: str
    fence: int
    grace: float

    @classmethod
    def of(cls, row: Sequence[Any]) -> CancelRequest:
        return cls(to_text(row[0]), row[1], row[2] / 1000)


@attrs.frozen
class Beat:
    """Answer to a heartbeat. cancel: tasks to be told; lost: (id, fence) no longer held; drain: claim no more."""

    cancel: tuple[CancelRequest, ...]
    lost: tuple[tuple[str, int], ...]
    drain: bool


@attrs.frozen
class WorkerInfo:
    """A worker session. Times are epoch seconds."""

    session: str
    name: str
    types: tuple[str, ...]
    queues: tuple[str, ...]
    running: int
    opened_at: float | None
    heard_at: float | None
    draining: bool
    info: dict[str, Any]
    stats: dict[str, Any]
    more: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class QueuePause:
    """by: who, as they named themselves. since: epoch seconds."""

    by: str
    since: float
    reason: str | None = None


@attrs.frozen
class QueueSettings:
    """What was decided for a queue. None: the default. Times are seconds.

    Attributes:
        paused: who paused it, since when and why; None: it is not paused.
        max_length: so many tasks may wait in it.
        timeout, expires_in, result_ttl, retry: what tasks get that do not say them.
        finished_keep: how long completed, cancelled and expired tasks are kept. dead_keep: the same of dead ones.
        more: settings that this version of the client does not know.
    """

    paused: QueuePause | None = None
    max_length: int | None = None
    timeout: float | None = None
    expires_in: float | None = None
    result_ttl: float | None = None
    retry: Retry | None = None
    finished_keep: float | None = None
    dead_keep: float | None = None
    more: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class QueueInfo:
    """How many tasks stand where in one queue.

    pending: by band (low, normal, high). oldest_ready_age: seconds the task that has been ready longest waits.
    settings: what was decided for the queue. Ended tasks are counted as long as they are kept.
    """

    name: str
    waiting: int = 0
    scheduled: int = 0
    pending: dict[str, int] = attrs.field(factory=dict)
    running: int = 0
    completed: int = 0
    cancelled: int = 0
    expired: int = 0
    skipped: int = 0
    dead: int = 0
    oldest_ready_at: float | None = None
    oldest_ready_age: float = 0.0
    settings: QueueSettings = QueueSettings()
    more: dict[str, Any] = attrs.field(factory=dict)

    @property
    def pending_total(self) -> int:
        return sum(self.pending.values())

    @property
    def length(self) -> int:
        """What ``max_length`` bounds: tasks that wait, for whatever."""
        return self.waiting + self.scheduled + self.pending_total
