"""The messages: one frozen class each, with its number on the wire.

A request has a number below 0x40 and begins with a request id ``rid`` (0 .. 2**32 - 1) that the sender picks;
its reply has that number | 0x80 and begins with the same ``rid``. ``ErrorReply`` may answer any request.
Messages from the broker that answer nothing have numbers 0x40 .. 0x7E and no rid.

The body is a CBOR array of the fields in the order below. Fields with a default may be left off from the right.
Times are in ms. ``Id`` is 16 bytes. ``index`` in a reply is the applied index it was answered at.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

PROTOCOL_VERSION = 1


@attrs.frozen
class Message:
    TYPE: ClassVar[int]


# ---- first things ----------------------------------------------------------------------------------


@attrs.frozen
class Hello(Message):
    """First frame of a connection. features: names the client knows; auth: None, or [scheme, secret] (later)."""

    TYPE = 0x01
    rid: int
    version_min: int
    version_max: int
    client: str
    features: list[str] = attrs.field(factory=list)
    auth: list[Any] | None = None


@attrs.frozen
class HelloReply(Message):
    """limits: names of tq.limits in lower case -> number. leader: its client address, if known."""

    TYPE = 0x81
    rid: int
    version: int
    features: list[str]
    limits: dict[str, int]
    memory_window_ms: int
    cluster_id: bytes
    node: str
    leader: str | None
    server: str
    time_ms: int


@attrs.frozen
class Ping(Message):
    TYPE = 0x1F
    rid: int


@attrs.frozen
class PingReply(Message):
    TYPE = 0x9F
    rid: int
    index: int


# ---- tasks -----------------------------------------------------------------------------------------


@attrs.frozen
class SubmitTask(Message):
    """specs: byte strings, see tq/spec.py."""

    TYPE = 0x02
    rid: int
    specs: list[bytes]
    atomic: bool = False


@attrs.frozen
class SubmitReply(Message):
    """items: SubmitItem each (tq/machine/answers.py). index: of the entry."""

    TYPE = 0x82
    rid: int
    index: int
    items: list[Any]


@attrs.frozen
class GetTask(Message):
    """parts: bits 1 payload, 2 result, 4 history."""

    TYPE = 0x09
    rid: int
    id: bytes
    parts: int = 7
    min_index: int = 0
    linearizable: bool = False


@attrs.frozen
class GetReply(Message):
    """task: a map of field name -> value, see TASK_FIELDS in tq/machine/queries.py."""

    TYPE = 0x89
    rid: int
    index: int
    task: dict[str, Any]


@attrs.frozen
class ListTasks(Message):
    """filter: map with any of state, type, queue, tag (text), ended_before_ms. cursor: from the last reply."""

    TYPE = 0x0A
    rid: int
    filter: dict[str, Any]
    limit: int = 100
    cursor: bytes | None = None
    min_index: int = 0
    linearizable: bool = False


@attrs.frozen
class ListReply(Message):
    """cursor None: that was all. A page may be empty and still have a cursor."""

    TYPE = 0x8A
    rid: int
    index: int
    tasks: list[dict[str, Any]]
    cursor: bytes | None


@attrs.frozen
class WaitTask(Message):
    """Answered when the task ends, or at wait_ms with the state it then has."""

    TYPE = 0x0B
    rid: int
    id: bytes
    wait_ms: int
    parts: int = 2
    min_index: int = 0


@attrs.frozen
class WaitReply(Message):
    TYPE = 0x8B
    rid: int
    index: int
    ended: bool
    task: dict[str, Any]


@attrs.frozen
class CancelTask(Message):
    TYPE = 0x0C
    rid: int
    ids: list[bytes]
    grace_ms: int


@attrs.frozen
class CancelReply(Message):
    TYPE = 0x8C
    rid: int
    index: int
    items: list[Any]


@attrs.frozen
class RetryTasks(Message):
    """By ids, or by filter (a job; operation is its id). operation: 16 bytes."""

    TYPE = 0x0D
    rid: int
    operation: bytes
    ids: list[bytes] | None = None
    filter: dict[str, Any] | None = None
    limit: int | None = None
    delay_ms: int = 0


@attrs.frozen
class PurgeTasks(Message):
    TYPE = 0x0E
    rid: int
    operation: bytes
    ids: list[bytes] | None = None
    filter: dict[str, Any] | None = None
    limit: int | None = None


@attrs.frozen
class BulkReply(Message):
    """Answers RetryTasks (0x8D) and PurgeTasks (0x8E): items by id, or the job's status.

    job: JobStatus; a client asks again with the same operation until it is finished."""

    TYPE = 0x8D
    rid: int
    index: int
    items: list[Any] | None
    job: list[Any] | None


@attrs.frozen
class ExplainTask(Message):
    TYPE = 0x0F
    rid: int
    id: bytes
    min_index: int = 0


@attrs.frozen
class ExplainReply(Message):
    """why: one sentence. facts: map."""

    TYPE = 0x8F
    rid: int
    index: int
    why: str
    facts: dict[str, Any]


# ---- workers ---------------------------------------------------------------------------------------


@attrs.frozen
class RegisterWorker(Message):
    TYPE = 0x06
    rid: int
    session: bytes
    name: str
    types: list[str]
    queues: list[str]
    info: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class RegisterReply(Message):
    TYPE = 0x86
    rid: int
    index: int
    lease_ms: int
    heartbeat_ms: int
    session_ms: int


@attrs.frozen
class DeregisterWorker(Message):
    TYPE = 0x07
    rid: int
    session: bytes


@attrs.frozen
class DeregisterReply(Message):
    TYPE = 0x87
    rid: int
    index: int


@attrs.frozen
class ClaimTask(Message):
    """Parked up to wait_ms when nothing is ready. queues empty: those of the session."""

    TYPE = 0x03
    rid: int
    session: bytes
    seq: int
    queues: list[str]
    max_n: int
    wait_ms: int


@attrs.frozen
class ClaimReply(Message):
    TYPE = 0x83
    rid: int
    index: int
    grants: list[Any]


@attrs.frozen
class TaskResult(Message):
    """items: [id, fence, Outcome, body] each (tq/machine/commands.py)."""

    TYPE = 0x04
    rid: int
    session: bytes
    items: list[list[Any]]


@attrs.frozen
class ResultReply(Message):
    """items: ReportItem each."""

    TYPE = 0x84
    rid: int
    index: int
    items: list[Any]


@attrs.frozen
class Heartbeat(Message):
    """tasks: [id, fence] of each lease to renew. stats: cpu_percent, rss_bytes, running, slots ... (numbers)."""

    TYPE = 0x05
    rid: int
    session: bytes
    tasks: list[list[Any]]
    stats: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class HeartbeatReply(Message):
    """cancel: [id, fence, grace_ms] to be told to their handlers; lost: [id, fence] no longer held; drain: stop claiming."""

    TYPE = 0x85
    rid: int
    cancel: list[list[Any]]
    lost: list[list[Any]]
    drain: bool


# ---- looking ---------------------------------------------------------------------------------------


@attrs.frozen
class Queues(Message):
    TYPE = 0x10
    rid: int
    min_index: int = 0


@attrs.frozen
class QueuesReply(Message):
    """queues: maps with name, waiting, scheduled, pending {low, normal, high}, running, oldest_ready_ms ..."""

    TYPE = 0x90
    rid: int
    index: int
    queues: list[dict[str, Any]]


@attrs.frozen
class Workers(Message):
    TYPE = 0x12
    rid: int


@attrs.frozen
class WorkersReply(Message):
    TYPE = 0x92
    rid: int
    index: int
    workers: list[dict[str, Any]]


@attrs.frozen
class Stats(Message):
    TYPE = 0x13
    rid: int


@attrs.frozen
class StatsReply(Message):
    TYPE = 0x93
    rid: int
    index: int
    stats: dict[str, Any]


@attrs.frozen
class ClusterStatus(Message):
    TYPE = 0x14
    rid: int


@attrs.frozen
class ClusterStatusReply(Message):
    TYPE = 0x94
    rid: int
    status: dict[str, Any]


@attrs.frozen
class Subscribe(Message):
    """Events from now on, or behind ``after`` = [index, ordinal] if the replay buffer still has it.

    id: of one task only, else all. The reply comes first, then Event frames that name this rid."""

    TYPE = 0x16
    rid: int
    id: bytes | None = None
    after: list[int] | None = None


@attrs.frozen
class SubscribeReply(Message):
    """complete: nothing between ``after`` and now was lost."""

    TYPE = 0x96
    rid: int
    index: int
    complete: bool


@attrs.frozen
class Unsubscribe(Message):
    """subscription: the rid of the Subscribe."""

    TYPE = 0x17
    rid: int
    subscription: int


@attrs.frozen
class UnsubscribeReply(Message):
    TYPE = 0x97
    rid: int


# ---- from the broker -------------------------------------------------------------------------------


@attrs.frozen
class GoAway(Message):
    """The broker stops: no new requests are taken, those in flight are answered."""

    TYPE = 0x40
    reason: str
    leader: str | None = None


@attrs.frozen
class CancelRunning(Message):
    """Pushed to the connection that claimed: tell the handlers. tasks: [id, fence, grace_ms]."""

    TYPE = 0x41
    session: bytes
    tasks: list[list[Any]]


@attrs.frozen
class Event(Message):
    """events: [index, ordinal, kind, id, time_ms, queue, type, fence, extra] each. last: the subscription is over (too slow)."""

    TYPE = 0x42
    subscription: int
    events: list[list[Any]]
    last: bool = False


@attrs.frozen
class ErrorReply(Message):
    """error: tq.errors.to_wire form. rid None: the connection as a whole; it is then closed."""

    TYPE = 0xFF
    rid: int | None
    error: list[Any]
