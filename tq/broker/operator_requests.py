"""What operators ask: who works, what was counted, how the nodes are; and that another node lead or be replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tq.broker.connection import Connection
from tq.broker.leases import Leases
from tq.broker.replies import replying
from tq.errors import InvalidRequest, TqError, Unsupported
from tq.protocol import messages as m


class OperatorFacts(Protocol):
    """What is asked of the node (``tq.broker.broker.Broker``)."""

    @property
    def applied_index(self) -> int: ...
    def stats(self) -> dict[str, Any]: ...
    def cluster_status(self, done: Callable[[dict[str, Any]], None]) -> None: ...
    def transfer(self, leader: str | None, to: str | None) -> dict[str, Any]:
        """Let another node lead. Raises InvalidRequest, Backpressure."""
        ...

    def replace(self, node: object, incarnation: object, done: Callable[[dict[str, Any] | TqError], None]) -> None:
        """Another data directory for a node. Raises InvalidRequest, Backpressure."""
        ...


class OperatorRequests:
    def __init__(self, facts: OperatorFacts, leases: Leases) -> None:
        self._facts = facts
        self._leases = leases

    def workers(self, connection: Connection, message: m.Workers) -> None:
        held = self._leases.held()
        workers = [
            {
                "session": session,
                "name": life.name,
                "types": list(life.types),
                "queues": list(life.queues),
                "running": held[session],
                "opened_ms": life.opened_wall_ms,
                "heard_ms": life.heard_wall_ms,
                "draining": life.draining,
                "info": life.info,
                "stats": life.stats,
            }
            for session, life in sorted(self._leases.sessions.items(), key=lambda item: item[1].name)
        ]
        connection.send(m.WorkersReply(message.rid, self._facts.applied_index, workers))

    def stats(self, connection: Connection, message: m.Stats) -> None:
        connection.send(m.StatsReply(message.rid, self._facts.applied_index, self._facts.stats()))

    def cluster_status(self, connection: Connection, message: m.ClusterStatus) -> None:
        rid = message.rid
        self._facts.cluster_status(replying(connection, rid, lambda status, _index: m.ClusterStatusReply(rid, status)))

    def change_cluster(self, connection: Connection, message: m.ChangeCluster) -> None:
        change, asked, rid = message.change, message.arguments, message.rid
        if change == "transfer":
            names = [asked.get("from"), asked.get("to")]
            if not all(name is None or isinstance(name, str) for name in names):
                raise InvalidRequest.of("arguments", asked, '{"from": a node or nil, "to": a node or nil}')
            connection.send(m.ChangeClusterReply(rid, self._facts.transfer(*names)))
        elif change == "replace":
            done = replying(connection, rid, lambda answer, _index: m.ChangeClusterReply(rid, answer))
            self._facts.replace(asked.get("node"), asked.get("incarnation"), done)
        else:
            raise Unsupported(f'this broker knows no change "{change[:80]}" of a cluster')
