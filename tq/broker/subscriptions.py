"""Who wants to hear of events (``events.py``), from where on, and who no more."""

from __future__ import annotations

from typing import Protocol

from tq.broker.connection import Connection
from tq.broker.events import CONNECTION_SUBSCRIPTIONS_MAX, ORDINAL_MAX, Events
from tq.errors import Backpressure, InvalidRequest
from tq.protocol import messages as m


class SubscriptionFacts(Protocol):
    """What is asked of the node (``tq.broker.broker.Broker``)."""

    @property
    def applied_index(self) -> int: ...
    @property
    def told_index(self) -> int:
        """Committed as far as this node has heard, applied here or not."""
        ...


class Subscriptions:
    def __init__(self, facts: SubscriptionFacts, events: Events) -> None:
        self._facts = facts
        self._events = events

    def subscribe(self, connection: Connection, message: m.Subscribe) -> None:
        if self._events.count(connection) >= CONNECTION_SUBSCRIPTIONS_MAX:
            raise Backpressure(f"a connection has at most {CONNECTION_SUBSCRIPTIONS_MAX} subscriptions")
        seen = message.after
        if seen is not None and len(seen) != 2:
            raise InvalidRequest.of("after", seen, "an index and an ordinal")
        after, applied_index, told_index = seen, self._facts.applied_index, self._facts.told_index
        if after is None and told_index > applied_index:
            after = [told_index, ORDINAL_MAX]  # what this node catches up with is not news
        is_complete = self._events.subscribe(connection, message.rid, message.id, after)
        connection.send(m.SubscribeReply(message.rid, applied_index, is_complete))
        if seen is not None:
            self._events.replay(connection, message.rid, seen)

    def unsubscribe(self, connection: Connection, message: m.Unsubscribe) -> None:
        self._events.unsubscribe(connection, message.subscription)
        connection.send(m.UnsubscribeReply(message.rid))
