"""The messages: one frozen class each, with its number on the wire.

A request has a number below 0x40 and begins with a request id ``rid`` (0 .. 2**32 - 1) that the sender picks;
its reply has that number | 0x80 and begins with the same ``rid``. ``ErrorReply`` may answer any request.
Messages from the broker that answer nothing have numbers 0x40 .. 0x7E and no rid.

The body is a CBOR array of the fields in the order below. Fields with a default may be left off from the right.
Times are in ms. ``Id`` is 16 bytes. ``index`` in a reply is the applied index it was answered at.

The annotation of a field is also its check: ``tq.protocol.codec`` reads them once, at import. So a class here is
all that there is to say of a message.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import attrs

from tq import limits
from tq.protocol import fields as f

PROTOCOL_VERSION = 1

Rid = Annotated[int, f.rid]
Id = Annotated[bytes, f.id16]
Ids = Annotated[list[bytes], f.many_data(limits.BATCH_TASKS_MAX, limits.ID_BYTES)]
Index = Annotated[int, f.whole()]
Count = Annotated[int, f.whole()]
Ms = Annotated[int, f.whole(0, limits.TIME_MS_MAX)]
DurationMs = Annotated[int, f.whole(0, limits.DURATION_MS_MAX)]
Flag = Annotated[bool, f.flag]
Parts = Annotated[int, f.whole(0, 7)]
Name = Annotated[str, f.text(limits.NAME_CHARS_MAX, 1)]
Address = Annotated[str | None, f.maybe(f.text(256))]
Text = Annotated[str, f.text(65_536)]
PlainMap = Annotated[dict[str, Any], f.plain_map]
Filter = Annotated[dict[str, Any], f.flat_map]
TaskFilter = Annotated[dict[str, Any], f.task_filter]
Error = Annotated[list[Any], f.error]

_STATE = f.whole(0, 255)
_STATE_ITEM = f.row(f.maybe(_STATE), f.maybe(f.error))
_SUBMIT_ITEM = f.number_or(f.row(f.whole(0, 255), f.maybe(_STATE), f.maybe(f.id16), f.maybe(f.error)))
_REPORT_ITEM = f.number_or(f.row(f.whole(0, 255), f.maybe(_STATE)))
_PROGRESS = f.row(
    f.id16, f.whole(), f.number(limits.PROGRESS_NUMBER_MAX), f.maybe(f.number(limits.PROGRESS_NUMBER_MAX)),
    f.maybe(f.text(limits.PROGRESS_NOTE_CHARS_MAX)),
)  # fmt: skip
_CHECKPOINT = f.row(f.id16, f.whole(), f.whole(), f.maybe(f.data(limits.CHECKPOINT_BYTES_MAX)))
_EVENT = f.row(f.whole(), f.whole(), f.whole(0, 255), f.id16, f.whole(), f.text(256), f.text(256), f.whole(), f.plain)
StateItems = Annotated[list[Any], f.many(_STATE_ITEM, limits.BATCH_TASKS_MAX)]
MaybeStateItems = Annotated[list[Any] | None, f.maybe(f.many(_STATE_ITEM, limits.BATCH_TASKS_MAX))]
Job = Annotated[list[Any] | None, f.maybe(f.row(f.id16, f.whole(0, 255), f.whole(), f.maybe(f.whole()), f.flag))]
Cancels = Annotated[list[list[Any]], f.many(f.row(f.id16, f.whole(), f.whole()), limits.SESSION_TASKS_MAX)]
Leases = Annotated[list[list[Any]], f.leases]
PlainMaps = Annotated[list[dict[str, Any]], f.many(f.plain_map, limits.NAMES_MAX)]


@attrs.frozen
class Message:
    TYPE: ClassVar[int]


# ---- first things ----------------------------------------------------------------------------------


@attrs.frozen
class Hello(Message):
    """First frame of a connection. features: names the client knows; auth: None, or [scheme, secret] (later)."""

    TYPE = 0x01
    rid: Rid
    version_min: Annotated[int, f.whole(0, 65_535)]
    version_max: Annotated[int, f.whole(0, 65_535)]
    client: Annotated[str, f.text(256)]
    features: Annotated[list[str], f.many(f.text(64), 256)] = attrs.field(factory=list)
    auth: Annotated[list[Any] | None, f.maybe(f.many(f.plain, 8))] = None


@attrs.frozen
class HelloReply(Message):
    """limits: names of tq.limits in lower case -> number. leader: its client address, if known."""

    TYPE = 0x81
    rid: Rid
    version: Annotated[int, f.whole(0, 65_535)]
    features: Annotated[list[str], f.many(f.text(64), 256)]
    limits: Annotated[dict[str, int], f.plain_map]
    memory_window_ms: Ms
    cluster_id: Id
    node: Annotated[str, f.text(256)]
    leader: Address
    server: Annotated[str, f.text(256)]
    time_ms: Ms


@attrs.frozen
class Ping(Message):
    TYPE = 0x1F
    rid: Rid


@attrs.frozen
class PingReply(Message):
    TYPE = 0x9F
    rid: Rid
    index: Index


# ---- tasks -----------------------------------------------------------------------------------------


@attrs.frozen
class SubmitTask(Message):
    """specs: byte strings, see tq/spec.py."""

    TYPE = 0x02
    rid: Rid
    specs: Annotated[list[bytes], f.many_data(limits.BATCH_TASKS_MAX)]
    atomic: Flag = False


@attrs.frozen
class SubmitReply(Message):
    """items: SubmitItem each (tq/machine/answers.py). index: of the entry."""

    TYPE = 0x82
    rid: Rid
    index: Index
    items: Annotated[list[Any], f.many(_SUBMIT_ITEM, limits.BATCH_TASKS_MAX)]


@attrs.frozen
class GetTask(Message):
    """parts: bits 1 payload, 2 result, 4 history."""

    TYPE = 0x09
    rid: Rid
    id: Id
    parts: Parts = 7
    min_index: Index = 0
    linearizable: Flag = False


@attrs.frozen
class GetReply(Message):
    """task: a map of field name -> value, see TASK_FIELDS in tq/machine/queries.py."""

    TYPE = 0x89
    rid: Rid
    index: Index
    task: PlainMap


@attrs.frozen
class ListTasks(Message):
    """filter: map of tq/machine/filters.py. cursor: from the last reply. oldest_first: by id, or by the end of ended ones."""

    TYPE = 0x0A
    rid: Rid
    filter: TaskFilter
    limit: Annotated[int, f.whole(1, limits.LIST_TASKS_MAX)] = 100
    cursor: Annotated[bytes | None, f.maybe(f.data(1_024))] = None
    min_index: Index = 0
    linearizable: Flag = False
    oldest_first: Flag = False


@attrs.frozen
class ListReply(Message):
    """cursor None: that was all. A page may be empty and still have a cursor."""

    TYPE = 0x8A
    rid: Rid
    index: Index
    tasks: PlainMaps
    cursor: Annotated[bytes | None, f.maybe(f.data(1_024))]


@attrs.frozen
class WaitTask(Message):
    """Answered when the task ends, or at wait_ms with the state it then has."""

    TYPE = 0x0B
    rid: Rid
    id: Id
    wait_ms: Annotated[int, f.whole(0, limits.WAIT_MS_MAX)]
    parts: Parts = 2
    min_index: Index = 0


@attrs.frozen
class WaitReply(Message):
    TYPE = 0x8B
    rid: Rid
    index: Index
    ended: Flag
    task: PlainMap


@attrs.frozen
class CancelTask(Message):
    TYPE = 0x0C
    rid: Rid
    ids: Ids
    grace_ms: DurationMs


@attrs.frozen
class CancelReply(Message):
    TYPE = 0x8C
    rid: Rid
    index: Index
    items: StateItems


@attrs.frozen
class RetryTasks(Message):
    """By ids, or by filter (a job; operation is its id). operation: 16 bytes."""

    TYPE = 0x0D
    rid: Rid
    operation: Id
    ids: Annotated[list[bytes] | None, f.maybe(f.many_data(limits.BATCH_TASKS_MAX, limits.ID_BYTES))] = None
    filter: Annotated[dict[str, Any] | None, f.maybe(f.task_filter)] = None
    limit: Annotated[int | None, f.maybe(f.whole(1))] = None
    delay_ms: DurationMs = 0


@attrs.frozen
class PurgeTasks(Message):
    TYPE = 0x0E
    rid: Rid
    operation: Id
    ids: Annotated[list[bytes] | None, f.maybe(f.many_data(limits.BATCH_TASKS_MAX, limits.ID_BYTES))] = None
    filter: Annotated[dict[str, Any] | None, f.maybe(f.task_filter)] = None
    limit: Annotated[int | None, f.maybe(f.whole(1))] = None


@attrs.frozen
class BulkReply(Message):
    """What RetryReply and PurgeReply have in common: items by id, or the job's status.

    job: JobStatus; a client asks again with the same operation until it is finished."""

    rid: Rid
    index: Index
    items: MaybeStateItems
    job: Job


@attrs.frozen
class RetryReply(BulkReply):
    TYPE = 0x8D


@attrs.frozen
class PurgeReply(BulkReply):
    TYPE = 0x8E


@attrs.frozen
class ExplainTask(Message):
    TYPE = 0x0F
    rid: Rid
    id: Id
    min_index: Index = 0


@attrs.frozen
class ExplainReply(Message):
    """why: one sentence. facts: map."""

    TYPE = 0x8F
    rid: Rid
    index: Index
    why: Text
    facts: PlainMap


# ---- workers ---------------------------------------------------------------------------------------


@attrs.frozen
class RegisterWorker(Message):
    TYPE = 0x06
    rid: Rid
    session: Id
    name: Name
    types: Annotated[list[str], f.many(f.text(limits.NAME_CHARS_MAX, 1), limits.SESSION_TYPES_MAX)]
    queues: Annotated[list[str], f.many(f.text(limits.NAME_CHARS_MAX, 1), limits.SESSION_QUEUES_MAX)]
    info: Filter = attrs.field(factory=dict)


@attrs.frozen
class RegisterReply(Message):
    TYPE = 0x86
    rid: Rid
    index: Index
    lease_ms: Ms
    heartbeat_ms: Ms
    session_ms: Ms


@attrs.frozen
class DeregisterWorker(Message):
    TYPE = 0x07
    rid: Rid
    session: Id


@attrs.frozen
class DeregisterReply(Message):
    TYPE = 0x87
    rid: Rid
    index: Index


@attrs.frozen
class ClaimTask(Message):
    """Parked up to wait_ms when nothing is ready. queues empty: those of the session."""

    TYPE = 0x03
    rid: Rid
    session: Id
    seq: Count
    queues: Annotated[list[str], f.many(f.text(limits.NAME_CHARS_MAX, 1), limits.SESSION_QUEUES_MAX)]
    max_n: Annotated[int, f.whole(1, limits.CLAIM_TASKS_MAX)]
    wait_ms: Annotated[int, f.whole(0, limits.CLAIM_WAIT_MS_MAX)]


@attrs.frozen
class ClaimReply(Message):
    TYPE = 0x83
    rid: Rid
    index: Index
    grants: Annotated[list[Any], f.grants]


@attrs.frozen
class TaskResult(Message):
    """items: [id, fence, Outcome, body] each (tq/machine/commands.py)."""

    TYPE = 0x04
    rid: Rid
    session: Id
    items: Annotated[list[list[Any]], f.outcomes]


@attrs.frozen
class ResultReply(Message):
    """items: ReportItem each."""

    TYPE = 0x84
    rid: Rid
    index: Index
    items: Annotated[list[Any], f.many(_REPORT_ITEM, limits.BATCH_TASKS_MAX)]


@attrs.frozen
class Heartbeat(Message):
    """tasks: [id, fence] of each lease to renew. stats: cpu_percent, rss_bytes, running, slots ... (numbers)."""

    TYPE = 0x05
    rid: Rid
    session: Id
    tasks: Leases
    stats: Filter = attrs.field(factory=dict)


@attrs.frozen
class HeartbeatReply(Message):
    """cancel: [id, fence, grace_ms] to be told to their handlers; lost: [id, fence] no longer held; drain: stop claiming."""

    TYPE = 0x85
    rid: Rid
    cancel: Cancels
    lost: Leases
    drain: Flag


@attrs.frozen
class Progress(Message):
    """items: [id, fence, done, total | None, note | None] each. Kept by the leader alone, the last one of a task."""

    TYPE = 0x08
    rid: Rid
    session: Id
    items: Annotated[list[list[Any]], f.many(_PROGRESS, limits.SESSION_TASKS_MAX)]


@attrs.frozen
class ProgressReply(Message):
    TYPE = 0x88
    rid: Rid


@attrs.frozen
class Checkpoint(Message):
    """items: [id, fence, number, data | None] each: what the next attempt shall get. number: rises within an attempt, so that
    one which comes late does not take the place of a later one. data None: nothing any more."""

    TYPE = 0x1B
    rid: Rid
    session: Id
    items: Annotated[list[list[Any]], f.many(_CHECKPOINT, limits.SESSION_TASKS_MAX)]


@attrs.frozen
class CheckpointReply(Message):
    """items: as of ResultReply; already: this one or a later one is kept."""

    TYPE = 0x9B
    rid: Rid
    index: Index
    items: Annotated[list[Any], f.many(_REPORT_ITEM, limits.SESSION_TASKS_MAX)]


# ---- looking ---------------------------------------------------------------------------------------


@attrs.frozen
class Queues(Message):
    TYPE = 0x10
    rid: Rid
    min_index: Index = 0


@attrs.frozen
class QueuesReply(Message):
    """queues: maps with name, waiting, scheduled, pending {low, normal, high}, running, oldest_ready_ms, settings ..."""

    TYPE = 0x90
    rid: Rid
    index: Index
    queues: PlainMaps


@attrs.frozen
class SetQueue(Message):
    """changes: map of settings to change (tq/machine/queue_settings.py), null: back to the default. by: who asks, for people.
    operation: 16 bytes."""

    TYPE = 0x11
    rid: Rid
    operation: Id
    queue: Name
    changes: Annotated[dict[str, Any], f.queue_changes]
    by: Annotated[str, f.text(limits.KEY_CHARS_MAX, 1)]


@attrs.frozen
class SetQueueReply(Message):
    """settings: all that the queue has now."""

    TYPE = 0x91
    rid: Rid
    index: Index
    settings: PlainMap


@attrs.frozen
class Workers(Message):
    TYPE = 0x12
    rid: Rid


@attrs.frozen
class WorkersReply(Message):
    TYPE = 0x92
    rid: Rid
    index: Index
    workers: PlainMaps


@attrs.frozen
class Stats(Message):
    TYPE = 0x13
    rid: Rid


@attrs.frozen
class StatsReply(Message):
    TYPE = 0x93
    rid: Rid
    index: Index
    stats: PlainMap


@attrs.frozen
class ClusterStatus(Message):
    TYPE = 0x14
    rid: Rid


@attrs.frozen
class ClusterStatusReply(Message):
    TYPE = 0x94
    rid: Rid
    status: PlainMap


@attrs.frozen
class ChangeCluster(Message):
    """change "transfer", {"from": who leads as far as is known, or nil, "to": who shall lead, or nil}: another node leads.

    change "replace", {"node": which, "incarnation": of its new data directory, or nil}: that counts for the node from now on; nil
    asks whether that could be done. It is done when this is answered, and may be sent again.

    A transfer is begun when this is answered, and done when CLUSTER_STATUS names another leader. It may be sent again: where another
    node than ``from`` leads it is done."""

    TYPE = 0x15
    rid: Rid
    change: Annotated[str, f.text(64)]
    arguments: PlainMap


@attrs.frozen
class ChangeClusterReply(Message):
    """{"leader": who leads now, "to": who shall lead next, or nil: nothing is left to be done}, or of a replacement
    {"cluster": its id, "index": of the entry that admits the directory, "members": incarnations by node}."""

    TYPE = 0x95
    rid: Rid
    answer: PlainMap


@attrs.frozen
class Subscribe(Message):
    """Events from now on, or behind ``after`` = [index, ordinal] if the replay buffer still has it.

    id: of one task only, else all. The reply comes first, then Event frames that name this rid."""

    TYPE = 0x16
    rid: Rid
    id: Annotated[bytes | None, f.maybe(f.id16)] = None
    after: Annotated[list[int] | None, f.maybe(f.row(f.whole(), f.whole()))] = None


@attrs.frozen
class SubscribeReply(Message):
    """complete: nothing between ``after`` and now was lost."""

    TYPE = 0x96
    rid: Rid
    index: Index
    complete: Flag


@attrs.frozen
class Unsubscribe(Message):
    """subscription: the rid of the Subscribe."""

    TYPE = 0x17
    rid: Rid
    subscription: Rid


@attrs.frozen
class UnsubscribeReply(Message):
    TYPE = 0x97
    rid: Rid


# ---- giving up -------------------------------------------------------------------------------------


@attrs.frozen
class GiveUp(Message):
    """Nobody waits for the answer to ``request``, a rid of this connection, any more: what is parked is answered now.

    claim: [session, seq] where that was a claim: what was granted to it and is still held goes back, uncounted."""

    TYPE = 0x1D
    rid: Rid
    request: Rid
    claim: Annotated[list[Any] | None, f.maybe(f.row(f.id16, f.whole()))] = None


@attrs.frozen
class GiveUpReply(Message):
    TYPE = 0x9D
    rid: Rid


# ---- from the broker -------------------------------------------------------------------------------


@attrs.frozen
class GoAway(Message):
    """The broker stops: no new requests are taken, those in flight are answered."""

    TYPE = 0x40
    reason: Text
    leader: Address = None


@attrs.frozen
class CancelRunning(Message):
    """Pushed to the connection that claimed: tell the handlers. tasks: [id, fence, grace_ms]."""

    TYPE = 0x41
    session: Id
    tasks: Cancels


@attrs.frozen
class Event(Message):
    """events: [index, ordinal, kind, id, time_ms, queue, type, fence, extra] each. last: the subscription is over (too slow)."""

    TYPE = 0x42
    subscription: Rid
    events: Annotated[list[list[Any]], f.many(_EVENT, limits.EVENTS_REPLAY_MAX)]
    last: Flag = False


@attrs.frozen
class ErrorReply(Message):
    """error: tq.errors.to_wire form. rid None: the connection as a whole; it is then closed."""

    TYPE = 0xFF
    rid: Annotated[int | None, f.maybe(f.rid)]
    error: Error
