"""The commands of the log, and what applying each one answers.

An entry is ``[format, time_ms, [command, ...]]`` in CBOR; a command is an array whose first item is its
number below. The format is the least that has all of the entry's commands (``tq.machine.version``). Commands are made by the leader's broker out of requests (or by its services) and judged only
by ``tq.machine.apply``: what is wrong with one is in its answer, equal on every node.

Draws of chance stand in the command (``draw``); no node draws while it applies.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import attrs

FORMAT = 2
"""The newest. 1: the beginning. 2: QUEUE_SET, CHECKPOINT, and longer filters in JOB_START."""

FILTER_FIELDS_OF_FORMAT_1 = 5


class Op(enum.IntEnum):
    SUBMIT = 1
    SESSION_OPEN = 2
    SESSION_CLOSE = 3
    CLAIM = 4
    REPORT = 5
    LEASES_EXPIRE = 6
    SESSIONS_END = 7
    CANCEL = 8
    ADVANCE = 9
    RETRY = 10
    PURGE = 11
    JOB_START = 12
    JOB_STEP = 13
    CLUSTER_FORM = 14
    SETTINGS_SET = 15
    QUEUE_SET = 16
    CHECKPOINT = 17


class Outcome(enum.IntEnum):
    """What a worker reports of an attempt."""

    COMPLETE = 0  # body: [content_type, result bytes]
    FAIL = 1  # body: [error, permanent, retry_after_ms | None]; error: see Error below
    RELEASE = 2  # body: None; given back, not counted
    SNOOZE = 3  # body: delay_ms
    CANCELLED = 4  # body: None; answers a cancel


# Error, as it stands in history: [type, message, traceback], text each, cut to ERROR_TEXT_BYTES_MAX in all.


class Timer(enum.IntEnum):
    """Kinds of timers; one leader-only service watches each and proposes ``Advance``."""

    DUE = 0  # scheduled -> pending
    EXPIRES = 1  # never started -> expired
    DEADLINE = 2  # -> dead, reason deadline
    TIMEOUT = 3  # a running attempt's timeout_ms passed
    GRACE = 4  # a cancel's grace is over
    RESULT_TTL = 5  # drop the result
    RETENTION = 6  # ended tasks -> tombstone (walks Table.ENDED, not TIMERS)
    TOMBSTONE = 7  # forget the tombstone and its keys
    OPERATION = 8  # forget an operation's answer
    KEPT = 9  # an ended task of a queue with a retention of its own -> tombstone


@attrs.frozen
class Command:
    """``format``: the least format of an entry that may carry it."""

    OP: ClassVar[Op]

    @property
    def format(self) -> int:
        return 1


@attrs.frozen
class Submit(Command):
    """Answer: a list with one SubmitItem per spec, in order (see tq.machine.answers)."""

    OP = Op.SUBMIT
    specs: list[bytes]
    atomic: bool = False


@attrs.frozen
class SessionOpen(Command):
    """Answer: None. The same session again with the same content is fine; other content is Conflict."""

    OP = Op.SESSION_OPEN
    session: bytes  # 16, drawn by the worker
    name: str  # host-pid-random
    types: list[str]
    queues: list[str]


@attrs.frozen
class SessionClose(Command):
    """The worker says good-bye: what it holds goes back to pending, uncounted. Answer: None (also if unknown)."""

    OP = Op.SESSION_CLOSE
    session: bytes


@attrs.frozen
class Claim(Command):
    """Answer: list of Grant, maybe empty; SessionLost. ``seq`` equal to the session's last: what is still held of it."""

    OP = Op.CLAIM
    session: bytes
    seq: int
    queues: list[str]  # empty: the session's
    max_n: int


@attrs.frozen
class Report(Command):
    """Outcomes of a batch. Answer: a list with one ReportItem per item."""

    OP = Op.REPORT
    session: bytes
    items: list[list[object]]  # [id, fence, Outcome, body]
    draw: int  # 32 bits of chance for the jitter of the batch


@attrs.frozen
class LeasesExpire(Command):
    """Leader: these leases ran out. Those no longer held under that fence are passed over. Answer: None."""

    OP = Op.LEASES_EXPIRE
    items: list[list[object]]  # [id, fence]


@attrs.frozen
class SessionsEnd(Command):
    """Leader: no sign of life for session_ms. What they hold is a crash each. Answer: None."""

    OP = Op.SESSIONS_END
    sessions: list[bytes]


@attrs.frozen
class Cancel(Command):
    """Answer: list of CancelItem: the state it led to, or NotFound."""

    OP = Op.CANCEL
    ids: list[bytes]
    grace_ms: int


@attrs.frozen
class Advance(Command):
    """Leader: handle at most ``limit`` timers of one kind that are due at the entry's time. Answer: how many were."""

    OP = Op.ADVANCE
    kind: int
    limit: int
    draw: int


@attrs.frozen
class Retry(Command):
    """Answer: list of RetryItem. ``operation``: 16 bytes, remembered; the same again answers the same."""

    OP = Op.RETRY
    operation: bytes
    ids: list[bytes]
    delay_ms: int = 0


@attrs.frozen
class Purge(Command):
    """Remove ended tasks by id. Answer: list of PurgeItem."""

    OP = Op.PURGE
    operation: bytes
    ids: list[bytes]


@attrs.frozen
class JobStart(Command):
    """Start a bulk retry or purge by filter; its id is the operation's. Answer: JobStatus."""

    OP = Op.JOB_START
    operation: bytes
    verb: int  # 0 retry, 1 purge
    filter: list[object]  # see tq.machine.filters
    limit: int | None = None
    delay_ms: int = 0

    @property
    def format(self) -> int:
        return 2 if len(self.filter) > FILTER_FIELDS_OF_FORMAT_1 else 1


@attrs.frozen
class JobStep(Command):
    """Leader: a bounded slice of a job. Answer: JobStatus."""

    OP = Op.JOB_STEP
    operation: bytes
    limit: int


@attrs.frozen
class ClusterForm(Command):
    """The first command of a group's life. Answer: the cluster id in force (the first one wins)."""

    OP = Op.CLUSTER_FORM
    cluster_id: bytes  # 16
    name: str


@attrs.frozen
class SettingsSet(Command):
    """What the nodes must agree on (``tq.machine.settings.Settings``), as the leader is configured. In force for all
    that follows. Answer: None."""

    OP = Op.SETTINGS_SET
    lease_ms: int
    crashes_max: int
    finished_keep_ms: int
    finished_keep_tasks: int
    dead_keep_ms: int
    tombstone_keep_ms: int


@attrs.frozen
class QueueSet(Command):
    """Change settings of a queue. Answer: all of them as a map (``QueueSettings.shown``); Conflict, Invalid, Unsupported.

    ``operation``: 16 bytes, remembered; the same again answers the same. ``changes``: [name, value] each, see
    ``tq.machine.queue_settings``; null: back to the default. ``by``: who asks, for people.
    """

    OP = Op.QUEUE_SET
    operation: bytes
    queue: str
    by: str
    changes: list[list[object]]

    @property
    def format(self) -> int:
        return 2


@attrs.frozen
class Checkpoint(Command):
    """Running attempts keep something for the next one. Answer: a list with one ReportItem per item; already: this one or a later
    one is kept.

    ``number`` rises within an attempt. data None: nothing any more.
    """

    OP = Op.CHECKPOINT
    items: list[list[object]]  # [id, fence, number, data | None]

    @property
    def format(self) -> int:
        return 2
