"""A task's life: the table of its transitions, and its header, the packed record that says where it is.

Theory. ``TRANSITIONS`` is the only list of what may happen to a task; the picture in docs/semantics.md is drawn from
it. Whoever changes a state names the event, and ``check`` stops the node if the table does not know the step: a
transition that is not there is a bug, and going on would spread it.

The header is everything that changes about a task, in one row of TASKS: a struct of fixed size and a short tail.
What never changes (payload, tags, headers, retry rules) stays in the spec and is read when it is needed; what is
needed at each step (attempts_max, time-outs) is copied to the header.

The struct's front is what claim and complete rewrite; the hot paths (claim.py, report.py) pack the front anew, what tasks of
one kind have in common once, and keep the back's bytes. Everybody else unpacks all into a ``Task`` and packs it again.

Rejected: a row of CBOR (three times the time); the spec inside the row (a payload rewritten at each step).
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

from tq.machine.states import State
from tq.spec import Retry
from tq.store.keys import HASH_BYTES


class Event(enum.Enum):
    """What happens to a task; the word stands in the picture."""

    SUBMIT = "submit"
    DUE = "due"
    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail, time-out"
    RELEASE = "release, session closed"
    SNOOZE = "snooze"
    CRASH = "lease ran out"
    CANCEL = "cancel"
    GRACE = "cancelled, grace over"
    EXPIRE = "expires_in passed"
    DEADLINE = "deadline_ms passed"
    DEPENDENCY = "last dependency met"
    UNMEETABLE = "dependency cannot be met"
    RETRY = "retry"
    PURGE = "purge, retention"


S = State
TRANSITIONS: Final[dict[tuple[State | None, Event], frozenset[State | None]]] = {
    (None, Event.SUBMIT): frozenset({S.WAITING, S.SCHEDULED, S.PENDING}),
    (S.WAITING, Event.DEPENDENCY): frozenset({S.SCHEDULED, S.PENDING}),
    (S.WAITING, Event.UNMEETABLE): frozenset({S.SKIPPED}),
    (S.SCHEDULED, Event.DUE): frozenset({S.PENDING}),
    (S.PENDING, Event.CLAIM): frozenset({S.RUNNING}),
    (S.RUNNING, Event.COMPLETE): frozenset({S.COMPLETED}),
    (S.RUNNING, Event.FAIL): frozenset({S.SCHEDULED, S.DEAD, S.CANCELLED}),
    (S.RUNNING, Event.RELEASE): frozenset({S.PENDING, S.CANCELLED}),
    (S.RUNNING, Event.SNOOZE): frozenset({S.SCHEDULED, S.CANCELLED}),
    (S.RUNNING, Event.CRASH): frozenset({S.PENDING, S.DEAD, S.CANCELLED}),
    (S.RUNNING, Event.CANCEL): frozenset({S.RUNNING}),
    (S.RUNNING, Event.GRACE): frozenset({S.CANCELLED}),
    **{(state, Event.CANCEL): frozenset({S.CANCELLED}) for state in (S.WAITING, S.SCHEDULED, S.PENDING)},
    **{(state, Event.EXPIRE): frozenset({S.EXPIRED}) for state in (S.WAITING, S.SCHEDULED, S.PENDING)},
    **{(state, Event.DEADLINE): frozenset({S.DEAD}) for state in (S.WAITING, S.SCHEDULED, S.PENDING, S.RUNNING)},
    **{(state, Event.RETRY): frozenset({S.SCHEDULED, S.PENDING}) for state in (S.CANCELLED, S.EXPIRED, S.SKIPPED, S.DEAD)},
    **{
        (state, Event.PURGE): frozenset({None})
        for state in (S.COMPLETED, S.CANCELLED, S.EXPIRED, S.SKIPPED, S.DEAD)
    },
}  # fmt: skip


def check(old: State | None, event: Event, new: State | None) -> None:
    """Stop the node if the table does not have this step."""
    assert new in TRANSITIONS.get((old, event), ()), f"impossible transition: {old!r} at {event!r} to {new!r}"


class Reason(enum.IntEnum):
    """Why a task ended as it did; users read the lower-case name. NONE is null."""

    NONE = 0
    ATTEMPTS = 1  # dead: none left
    PERMANENT = 2  # dead: the worker said that no retry can help
    POISON = 3  # dead: crashed as often as is allowed
    DEADLINE = 4  # dead: deadline_ms passed


REASON_TEXTS: Final[tuple[str | None, ...]] = tuple(
    None if reason is Reason.NONE else reason.name.lower() for reason in Reason
)

# Flags of the header. PLAIN paths need that none of SPECIAL is set.
CANCELLING: Final = 1 << 0
HAS_UNIQUE: Final = 1 << 1  # the tail begins with the key's hash
UNIQUE_RUNNING: Final = 1 << 2  # the key is held while running, too
HAS_IDEMPOTENCY: Final = 1 << 3
HAS_TIMERS: Final = 1 << 4  # any of expires_in, time-out, deadline
OWN_RETRY: Final = 1 << 5  # retry rules are in the spec, not the defaults
OWN_RESULT_TTL: Final = 1 << 6  # the result's time to live is in the spec, not the default
HAS_RESULT_TIMER: Final = 1 << 7  # set when it completed; settings may differ by the time it leaves
HAS_GIVEN: Final = 1 << 8  # behind the hash stands what its queue gave it
KEPT: Final = 1 << 9  # ended, and its queue has a retention of its own: ``grace`` says until when it is kept
HAS_CHECKPOINT: Final = 1 << 10  # an attempt has kept something for the next one
SPECIAL: Final = CANCELLING | HAS_UNIQUE | HAS_TIMERS | OWN_RESULT_TTL | HAS_GIVEN | HAS_CHECKPOINT

RECORD_VERSION: Final = 1
FRONT: Final = struct.Struct(">BBHBBIIHHHIQQQI")
"""version, state, flags, reason, priority, queue, type, attempt, crashes, snoozes, history, fence, started, ended, spec_bytes"""
BACK: Final = struct.Struct(">HHQQQQQQQI")
"""attempts_max, stale, created, due, expires, deadline, timeout, grace, ready_index, ready_ordinal"""
PARTS: Final = struct.Struct(">14sHH6sQ8s8s4s")
"""The front for who changes many alike: its first seven fields as one, attempt, crashes, two as one, fence, started, ended, spec_bytes"""
KIND: Final = struct.Struct(">BBHBBII")
"""the first of PARTS"""
WHOLE: Final = struct.Struct(FRONT.format + BACK.format[1:])
FRONT_BYTES: Final = FRONT.size
assert PARTS.size == FRONT_BYTES
HEADER_BYTES: Final = WHOLE.size
CHECKPOINT_AT: Final = 2  # and CHECKPOINT_BIT: the flag above
CHECKPOINT_BIT: Final = HAS_CHECKPOINT >> 8
STATE_AT: Final = 1  # where some fields stand, for who looks at many headers
QUEUE_AT: Final = struct.calcsize(">BBHBB")
TYPE_AT: Final = QUEUE_AT + 4
HISTORY_AT: Final = struct.calcsize(">BBHBBIIHHH")
ENDED_AT: Final = struct.calcsize(">BBHBBIIHHHIQQ")
CREATED_AT: Final = FRONT_BYTES + struct.calcsize(">HH")
BAND: Final = bytes(0 if priority < 100 else 1 if priority < 200 else 2 for priority in range(256))

STALE_MAX: Final = 0xFFFF  # the count of refused outcomes stays there


class Given(NamedTuple):
    """What holds for a task whose queue had defaults when it was submitted: its own options, and its queue's where it has none.
    ``expires_in_ms``: 0: none. (Time-out and number of attempts are in the header of every task.)"""

    expires_in_ms: int
    result_ttl_ms: int
    retry: Retry


GIVEN: Final = struct.Struct(">QQHQIQH")


class Task:
    """A header, unpacked. Times are log time in ms; 0: none. ``session`` and ``worker`` only while running or completed."""

    __slots__ = (
        "attempt", "attempts_max", "crashes", "created", "deadline", "due", "ended", "expires", "fence", "flags",
        "given", "grace", "history", "id", "priority", "queue", "ready_index", "ready_ordinal", "reason", "session", "snoozes",
        "spec_bytes", "stale", "started", "state", "timeout", "type", "unique_hash", "worker",
    )  # fmt: skip

    id: bytes
    state: State
    flags: int
    reason: int
    priority: int
    queue: int
    type: int
    attempt: int
    crashes: int
    snoozes: int
    history: int  # number of the next row
    fence: int
    started: int
    ended: int
    spec_bytes: int
    attempts_max: int
    stale: int  # outcomes refused
    created: int
    due: int  # scheduled: when; pending and later: since when it was ready
    expires: int
    deadline: int
    timeout: int  # a duration
    grace: int  # while cancelling: when it is over; KEPT: until when it is kept
    ready_index: int
    ready_ordinal: int
    unique_hash: bytes
    given: Given | None
    session: bytes
    worker: str

    def pack(self) -> bytes:
        head = WHOLE.pack(
            RECORD_VERSION, self.state, self.flags, self.reason, self.priority, self.queue, self.type, self.attempt,
            self.crashes, self.snoozes, self.history, self.fence, self.started, self.ended, self.spec_bytes,
            self.attempts_max, self.stale, self.created, self.due, self.expires, self.deadline, self.timeout, self.grace,
            self.ready_index, self.ready_ordinal,
        )  # fmt: skip
        if self.given is None:
            return head + self.unique_hash + self.session + self.worker.encode()
        expires_in_ms, result_ttl_ms, retry = self.given
        given = GIVEN.pack(expires_in_ms, result_ttl_ms, *retry)
        return head + self.unique_hash + given + self.session + self.worker.encode()

    @property
    def is_cancelling(self) -> bool:
        return bool(self.flags & CANCELLING)


_STATES: Final = tuple(State)


def unpack(id: bytes, raw: bytes) -> Task:
    task = Task()
    task.id = id
    (
        version, state, task.flags, task.reason, task.priority, task.queue, task.type, task.attempt,
        task.crashes, task.snoozes, task.history, task.fence, task.started, task.ended, task.spec_bytes,
        task.attempts_max, task.stale, task.created, task.due, task.expires, task.deadline, task.timeout, task.grace,
        task.ready_index, task.ready_ordinal,
    ) = WHOLE.unpack_from(raw)  # fmt: skip
    assert version == RECORD_VERSION, f"task {id.hex()} has record version {version}; this node knows {RECORD_VERSION}"
    task.state = _STATES[state]
    at = HEADER_BYTES
    if task.flags & HAS_UNIQUE:
        task.unique_hash = raw[at : at + HASH_BYTES]
        at += HASH_BYTES
    else:
        task.unique_hash = b""
    task.given = None
    if task.flags & HAS_GIVEN:
        expires_in_ms, result_ttl_ms, *retry = GIVEN.unpack_from(raw, at)
        task.given = Given(expires_in_ms, result_ttl_ms, Retry(*retry))
        at += GIVEN.size
    task.session = raw[at : at + 16]
    task.worker = raw[at + 16 :].decode()
    return task


def state_of(raw: bytes) -> State:
    return _STATES[raw[1]]
