"""What applying a command answers, and the effects it has outside of the store.

Plain tuples and lists of CBOR types where a batch may hold a thousand of them, so that the broker can put
them into a reply as they are.

SubmitItem
    ``0``: created and pending (the common case), or
    ``[outcome, state, id, error]``: outcome a ``SubmitOutcome``; state of the task it speaks of, or None; id of
    that task (the holder's, where an idempotency or unique key hit); error in ``tq.errors.to_wire`` form, or None.
ReportItem (of a checkpoint, too)
    ``0`` applied · ``1`` already · or ``[2, state | None]`` stale, with the state the task has now (None: unknown id).
    A complete that beat a cancel is plain ``0``.
Grant
    ``[spec, attempt, crashes, fence, lease_ms, timeout_ms | None, deadline_ms | None]`` (deadline absolute in log time), and
    behind it, if there is one, the checkpoint of an earlier attempt.
CancelItem, RetryItem, PurgeItem
    ``[state | None, error | None]``: state after the command (for a purged task the one it ended in).
JobStatus
    ``[operation, verb, done, matched, finished]``.
QueueSettings
    a map with every setting, see ``tq.machine.queue_settings``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import attrs

from tq.machine.event_runs import EventRuns


class SubmitOutcome(enum.IntEnum):
    CREATED = 0
    DUPLICATE = 1
    CONFLICT = 2
    QUEUE_FULL = 3
    TOO_LARGE = 4
    INVALID = 5
    NOT_DONE = 6


class ReportOutcome(enum.IntEnum):
    APPLIED = 0
    ALREADY = 1
    STALE = 2


class EventKind(enum.IntEnum):
    """One per change of state that a user can see; names are stable, they stand in event streams."""

    CREATED = 0
    READY = 1  # entered pending (again)
    SCHEDULED = 2  # delay, backoff or snooze
    STARTED = 3
    COMPLETED = 4
    FAILED = 5  # an attempt; the task goes on or is dead by the next event
    RELEASED = 6
    SNOOZED = 7
    CRASHED = 8  # lease ran out or session lost
    CANCELLING = 9
    CANCELLED = 10
    EXPIRED = 11
    DEAD = 12
    RETRIED = 13
    PURGED = 14
    TIMED_OUT = 15  # an attempt
    STALE_REFUSED = 16
    QUEUE_PAUSED = 17  # of a queue, as those below: no task, type or fence. extra: [by, reason]
    QUEUE_RESUMED = 18  # extra: [by]
    QUEUE_SET = 19  # other settings. extra: [by, {name: value}]


QUEUE_EVENTS: Final = frozenset({EventKind.QUEUE_PAUSED, EventKind.QUEUE_RESUMED, EventKind.QUEUE_SET})
NO_TASK: Final = bytes(16)
NO_TYPE: Final = -1


@attrs.frozen
class Applied:
    """What ``apply`` returns.

    answers: one per command, or a TqError for a command that is refused as a whole.
    events: ``(EventKind, id, queue number, type number, fence, extra)`` each, in order; the n-th is event (index, n).
        ``extra`` depends on the kind: the end's reason, the wait in ms, the attempt's error ..., or None.
        Those of a queue (QUEUE_EVENTS) have NO_TASK, NO_TYPE and fence 0.
    ready: ``{(queue number, type number): tasks that can be claimed now and could not before}``, for the leader's parked
        claims: they entered pending, or their queue was resumed.
    granted_runs: ``[(session, first fence, ids)]`` leases begun, a fence each. released: ``[(id, fence)]`` leases over, for whatever reason.
    cancels: ``[(id, fence, session, grace_ms)]`` running tasks to be told.
    sessions_opened, sessions_ended: session ids.
    """

    index: int
    time_ms: int
    answers: list[object]
    events: EventRuns
    ready: dict[tuple[int, int], int]
    granted_runs: list[tuple[bytes, int, Sequence[bytes]]]
    released: list[tuple[bytes, int]]
    cancels: list[tuple[bytes, int, bytes, int]]
    sessions_opened: list[bytes]
    sessions_ended: list[bytes]

    @property
    def granted(self) -> list[tuple[bytes, int, bytes]]:
        """``(id, fence, session)`` of each lease begun."""
        return [
            (id, fence, session) for session, first, ids in self.granted_runs for fence, id in enumerate(ids, first)
        ]
