"""The event stream: what was applied, in order, to whoever listens; with a bounded memory for those who return.

An event's id is (index, ordinal): equal on every node, so a subscriber may go on at another one. A subscriber
that does not read is told so with ``last`` and cut off; nothing is buffered for it without end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from tq import limits
from tq.broker.connection import Connection
from tq.machine.answers import Applied
from tq.machine.event_runs import EventRuns
from tq.protocol.messages import Event

SUBSCRIBER_OUT_BYTES_MAX = 4 * limits.MIB
FRAME_EVENTS_MAX = 500
CONNECTION_SUBSCRIPTIONS_MAX = 64
ORDINAL_MAX = 1 << 32  # above that of any event


@attrs.frozen
class Batch:
    """The events of one entry."""

    index: int
    time_ms: int
    events: EventRuns


@attrs.frozen(eq=False)
class Subscription:
    connection: Connection
    rid: int
    id: bytes | None
    after: list[int] | None  # it has had what is up to here, which this node may not have applied yet


class Events:
    def __init__(self, queue_name: Callable[[int], str], type_name: Callable[[int], str]) -> None:
        self._queue_name = queue_name
        self._type_name = type_name
        self._memory: deque[Batch] = deque()
        self._memory_events = 0
        self._forgotten: tuple[int, int] = (0, 0)  # (index, ordinal) of the last event that is not in the memory
        self._subscriptions: dict[tuple[int, int], Subscription] = {}

    def start(self, applied_index: int) -> None:
        """Nothing is remembered of what was applied before."""
        self._memory.clear()
        self._memory_events = 0
        self._forgotten = (applied_index, ORDINAL_MAX if applied_index else 0)

    def begin_anew(self, applied_index: int) -> None:
        """What happened up to there was not seen here. Who listens comes again from where it is, and is told of the gap."""
        self.start(applied_index)
        for subscription in list(self._subscriptions.values()):
            self.unsubscribe(subscription.connection, subscription.rid)
            subscription.connection.send(Event(subscription.rid, [], last=True))

    def subscribe(self, connection: Connection, rid: int, id: bytes | None, after: list[int] | None) -> bool:
        """Returns whether all events behind ``after`` are still known. ``replay`` sends them, behind the reply. ``after``
        may lie ahead of this node: it is of another one."""
        key = (id_of(connection), rid)
        self._subscriptions[key] = Subscription(connection, rid, id, after)
        connection.on_close[key] = lambda: self._subscriptions.pop(key, None)
        return after is None or (after[0], after[1]) >= self._forgotten

    def count(self, connection: Connection) -> int:
        return sum(1 for subscription in self._subscriptions.values() if subscription.connection is connection)

    def replay(self, connection: Connection, rid: int, after: list[int]) -> None:
        key = (id_of(connection), rid)
        subscription = self._subscriptions[key]
        for batch in self._memory:
            if key not in self._subscriptions:
                return  # it was more than may stand unread; the subscriber was told and goes on from there
            if batch.index >= after[0]:
                self._send(subscription, batch)

    def unsubscribe(self, connection: Connection, rid: int) -> None:
        key = (id_of(connection), rid)
        self._subscriptions.pop(key, None)
        connection.on_close.pop(key, None)

    def applied(self, applied: Applied) -> None:
        if not applied.events:
            return
        batch = Batch(applied.index, applied.time_ms, applied.events)
        self._memory.append(batch)
        self._memory_events += len(applied.events)
        while self._memory_events > limits.EVENTS_REPLAY_MAX and len(self._memory) > 1:
            oldest = self._memory.popleft()
            self._memory_events -= len(oldest.events)
            self._forgotten = (oldest.index, len(oldest.events) - 1)
        for subscription in list(self._subscriptions.values()):
            self._send(subscription, batch)

    def __len__(self) -> int:
        return len(self._subscriptions)

    def _send(self, subscription: Subscription, batch: Batch) -> None:
        rows = []
        after = subscription.after if subscription.after is not None and batch.index <= subscription.after[0] else None
        for ordinal, (kind, id, queue, type_, fence, extra) in enumerate(batch.events):
            if subscription.id is not None and id != subscription.id:
                continue
            if after is not None and [batch.index, ordinal] <= after:
                continue
            names = [self._queue_name(queue), self._type_name(type_)]
            rows.append([batch.index, ordinal, kind, id, batch.time_ms, *names, fence, extra])
        if not rows:
            return
        if subscription.connection.out_bytes > SUBSCRIBER_OUT_BYTES_MAX:
            self.unsubscribe(subscription.connection, subscription.rid)
            subscription.connection.send(Event(subscription.rid, [], last=True))
            return
        for start in range(0, len(rows), FRAME_EVENTS_MAX):
            subscription.connection.send(Event(subscription.rid, rows[start : start + FRAME_EVENTS_MAX]))


def id_of(connection: Connection) -> int:
    return id(connection)
