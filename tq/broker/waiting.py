"""What clients are told at a node that is in no cluster yet: whom it waits for, and why they do not come.

A node of several serves nobody before the group is formed (raft/identity.py), and one whose disk is not the one that the
others know waits for ever. Nobody should have to guess which it is. So HELLO and CLUSTER_STATUS are answered, and any
other request is refused as one that may be tried again; then the connection is left (GOAWAY), and a client that knows
other nodes goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tq.broker.connection import Connection
from tq.broker.status import BOUNDS, waiting_node, waiting_view
from tq.config import Config
from tq.errors import BrokerUnavailable
from tq.protocol import messages as m
from tq.version import VERSION
from tq.world import Clock

NO_CLUSTER = bytes(16)
RETRY_AFTER_S = 0.5

Ways = Mapping[str, Mapping[str, Any]]


class Waiting:
    """Stands at the listener of clients as long as there is no broker (``listen.Owner``).

    Args:
        waits_for: nodes that must be heard of before the group is formed.
        ways: by node, how this one reaches it; see ``Peers.statistics``.
    """

    def __init__(
        self, config: Config, clock: Clock, waits_for: Callable[[], Sequence[str]], ways: Callable[[], Ways]
    ) -> None:
        self.config = config
        self.connections: set[Connection] = set()
        self.dirty: dict[Connection, None] = {}
        self._clock = clock
        self._started_ms = clock.monotonic_ms()
        self._waits_for = waits_for
        self._ways = ways

    # ---- for the listener --------------------------------------------------------------------------

    def request(self, connection: Connection, message: m.Message) -> None:
        rid: int = message.rid  # type: ignore[attr-defined]  # every request has one
        match message:
            case m.Hello():
                connection.send(self._hello(rid))
            case m.Ping():
                connection.send(m.PingReply(rid, 0))
            case m.ClusterStatus():
                connection.send(m.ClusterStatusReply(rid, self.status()))
            case _:
                connection.send_error(
                    rid, BrokerUnavailable(f"nothing was done: {self.why()}", retry_after=RETRY_AFTER_S)
                )
                connection.send(m.GoAway("this node is in no cluster yet", None))

    def flush(self) -> None:
        while self.dirty:
            connection = next(iter(self.dirty))
            del self.dirty[connection]
            connection.flush()

    def release_undelivered(self, session: bytes, grants: list[Any]) -> None:
        raise AssertionError("a node that waits grants nothing")

    def connection_refused(self) -> None:
        """There are as many as it takes."""

    # ---- what it knows -----------------------------------------------------------------------------

    def why(self) -> str:
        """For people."""
        ways = self._ways()
        reasons = [f"{id} ({_reason(ways.get(id, {}))})" for id in self._waits_for()]
        return f"{self.config.node.id} waits for {', '.join(reasons)} to form the cluster"

    def status(self) -> dict[str, Any]:
        config = self.config
        me = waiting_node(
            config.node.id,
            config.client_address,
            self.why(),
            self._ways(),
            self._clock.monotonic_ms() - self._started_ms,
        )
        return waiting_view(config.cluster.name, me, config.cluster.peers, self._ways())

    def close(self) -> None:
        """A broker takes over, or the process ends."""
        for connection in list(self.connections):
            connection.send(m.GoAway("this node begins to serve", None))
            connection.flush()
            connection.close()

    # ---- inside ------------------------------------------------------------------------------------

    def _hello(self, rid: int) -> m.HelloReply:
        return m.HelloReply(
            rid, m.PROTOCOL_VERSION, [], BOUNDS, self.config.retention.tombstone_keep_ms, NO_CLUSTER, self.config.node.id,
            None, f"tq/{VERSION}", self._clock.wall_ms(),
        )  # fmt: skip


def _reason(way: Mapping[str, Any]) -> str:
    return str(way.get("refused") or way.get("reason") or "it has not said yet that it belongs to it")
