"""What is said of the nodes to whoever asks for the cluster: each speaks for itself, one joins it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from tq import limits
from tq.config import PeerEntry
from tq.machine import queries
from tq.protocol import messages as m
from tq.store.store import Store
from tq.version import VERSION

if TYPE_CHECKING:
    from tq.broker.broker import Broker

Told = dict[str, Any]
_SCALARS = frozenset({int, float, str, bytes, bool, type(None)})


class Status:
    """What one node says of itself."""

    def __init__(self, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store

    def hello(self, rid: int) -> m.HelloReply:
        broker = self._broker
        return m.HelloReply(
            rid,
            m.PROTOCOL_VERSION,
            ["events", "bulk", "explain", "queues"],
            BOUNDS,
            broker.config.retention.tombstone_keep_ms,
            broker.cluster_id,
            broker.config.node.id,
            broker.leader_address,
            f"tq/{VERSION}",
            broker.log_time_ms(),
        )

    def numbers(self) -> Told:
        """For people and for metrics; all since this node started, or of now."""
        broker = self._broker
        counters = broker.counters
        return {
            "node": broker.config.node.id,
            "version": VERSION,
            "uptime_ms": broker.clock.monotonic_ms() - broker.started_monotonic_ms,
            "tasks": queries.counts(broker.txn),
            "workers": len(broker.leases.sessions),
            "leases": len(broker.leases),
            "claims_parked": len(broker.claims),
            "waits": len(broker.waits),
            "subscriptions": len(broker.events),
            "connections": len(broker.connections),
            "requests": counters.requests,
            "leases_expired": counters.leases_expired,
            "stale_results": counters.stale_results,
            "submit_seconds": counters.submits.as_dict(),
            "claim_wait_seconds": broker.claims.waited.as_dict(),
            "events": [[queue, event, count] for (queue, event), count in sorted(counters.events.items())],
            "disk_free_bytes": broker.disk_watch.free_bytes,
            "disk_is_low": broker.disk_watch.is_low,
            "clock_offset_ms": broker.clock_watch.offset_ms,
            "clock": broker.clock_watch.state.value,
            "relay": broker.relay.statistics(),
            "peers": broker.peer_statistics(),
            "proposer": attrs.asdict(broker.proposer.statistics()),
            "applier": attrs.asdict(broker.applier.statistics()),
            "snapshots": broker.snapshots.statistics(),
            "raft": _plain(attrs.asdict(broker.node.statistics())),
            "store": _plain(attrs.asdict(self._store.statistics())),
        }

    def of_node(self) -> Told:
        """For whoever asks for the cluster."""
        broker, node = self._broker, self._broker.node
        raft = _plain(attrs.asdict(node.statistics()))
        return {
            "id": broker.config.node.id,
            "address": broker.config.client_address,
            "reachable": True,
            "role": node.role.name.lower(),
            "term": node.term,
            "leader": node.leader_id,
            "last": node.last_index,
            "commit": node.commit_index,
            "applied": broker.applied_index,
            "checkpointed": self._store.checkpointed_index,
            "serving": broker.is_serving,
            "disk_free_bytes": broker.disk_watch.free_bytes,
            "disk_is_low": broker.disk_watch.is_low,
            "sync_p99_ms": raft["sync_p99_ms"],
            "wall_ms": broker.clock.wall_ms(),
            "clock_offset_ms": broker.clock_watch.offset_ms,
            "clock": broker.clock_watch.state.value,
            "log_time_ahead_ms": broker.log_time.ahead_ms(),
            "uptime_ms": broker.clock.monotonic_ms() - broker.started_monotonic_ms,
            "version": VERSION,
            "peers": broker.peer_statistics(),
            "snapshot": broker.snapshots.state(),
            "snapshot_refused": node.snapshot_refusal,
            "raft": raft,
        }

    def of_cluster(self, others: Mapping[str, Told | None]) -> Told:
        """``others``: what they said of themselves."""
        broker = self._broker
        me, cluster = broker.config.node.id, broker.config.cluster
        told = {**others, me: self.of_node()}
        return cluster_view(
            broker.cluster_id, cluster.name, me, cluster.peers, told, broker.peer_statistics(), broker.node.voters
        )  # fmt: skip


BOUNDS = {
    "payload_bytes_max": limits.PAYLOAD_BYTES_MAX,
    "result_bytes_max": limits.RESULT_BYTES_MAX,
    "checkpoint_bytes_max": limits.CHECKPOINT_BYTES_MAX,
    "frame_bytes_max": limits.FRAME_BYTES_MAX,
    "batch_tasks_max": limits.BATCH_TASKS_MAX,
    "batch_bytes_max": limits.BATCH_BYTES_MAX,
    "requests_in_flight_max": limits.REQUESTS_IN_FLIGHT_MAX,
    "claim_wait_ms_max": limits.CLAIM_WAIT_MS_MAX,
    "wait_ms_max": limits.WAIT_MS_MAX,
    "idle_timeout_ms": limits.IDLE_TIMEOUT_MS,
}
"""What a client is told in HELLO."""


def cluster_view(
    cluster_id: bytes,
    name: str,
    me: str,
    peers: Sequence[PeerEntry],
    told: Mapping[str, Told | None],
    ways: Mapping[str, Mapping[str, Any]],
    voters: Collection[str] = (),
) -> Told:
    """The whole.

    Args:
        me: the node that answers.
        told: what each node said of itself, this one too; None for one that did not answer.
        ways: by peer, how this node reaches it: ``reason``, if it does not.
        voters: as the log of the node that answers has them; empty: all nodes.

    A node that is being rebuilt and has no vote yet gets ``joining``. Each that answered gets ``lag``: entries that the leader has committed and this node has not applied. ``may_lose``: so many more
    nodes may stop and the rest still accepts work; 0 without a leader, too.
    """
    nodes = [told.get(peer.id) or _silent(peer, ways.get(peer.id, {})) for peer in peers] or [told[me] or {}]
    nodes.sort(key=lambda node: str(node["id"]))
    leader = _leader(nodes)
    commit = max((node["commit"] for node in nodes if node["reachable"]), default=0)
    following = 0
    for node in nodes:
        if voters and node["id"] not in voters:
            node["joining"] = True
        if node["reachable"]:
            node["lag"] = max(0, commit - node["applied"])
            follows = leader is not None and node["leader"] == leader["id"] and node["term"] == leader["term"]
            following += follows and "joining" not in node
    return {
        "cluster": {
            "id": cluster_id.hex(),
            "name": name,
            "leader": leader["id"] if leader else None,
            "term": leader["term"] if leader else None,
            "answered_by": me,
        },
        "may_lose": max(0, following - (len(voters or nodes) // 2 + 1)),
        "nodes": nodes,
    }


def waiting_view(name: str, me: Told, peers: Sequence[PeerEntry], ways: Mapping[str, Mapping[str, Any]]) -> Told:
    """The whole, of a node (``me``) that is in no cluster yet: it asks nobody."""
    nodes = [
        me
        if peer.id == me["id"]
        else _silent(peer, ways.get(peer.id, {}), "this node is in no cluster yet, and asks nobody")
        for peer in peers
    ]
    nodes.sort(key=lambda node: str(node["id"]))
    cluster = {"id": None, "name": name, "leader": None, "term": None, "answered_by": me["id"], "waits": me["waits"]}
    return {"cluster": cluster, "may_lose": 0, "nodes": nodes}


def waiting_node(id: str, address: str, waits: str, ways: Mapping[str, Mapping[str, Any]], uptime_ms: int) -> Told:
    """What it says of itself. ``waits``: for what, for people."""
    return {
        "id": id,
        "address": address,
        "reachable": True,
        "role": "waiting",
        "serving": False,
        "waits": waits,
        "term": 0,
        "leader": None,
        "last": 0,
        "commit": 0,
        "applied": 0,
        "uptime_ms": uptime_ms,
        "version": VERSION,
        "peers": {peer: dict(way) for peer, way in ways.items()},
    }


def _leader(nodes: Sequence[Told]) -> Told | None:
    """The one that leads the highest term; an older leader that was cut off may not know yet."""
    leaders = [node for node in nodes if node["reachable"] and node["role"] == "leader"]
    return max(leaders, key=lambda node: int(node["term"]), default=None)


def _silent(peer: PeerEntry, way: Mapping[str, Any], otherwise: str = "it did not answer in time") -> Told:
    reason = way.get("refused") or way.get("reason") or otherwise
    return {"id": peer.id, "address": peer.client, "reachable": False, "reason": reason}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Enums and odd keys to text, for CBOR and JSON."""
    return {
        str(key): value if isinstance(value, (int, float, str, bytes, type(None))) and type(value) in _SCALARS
        else _plain(value) if isinstance(value, dict)
        else getattr(value, "name", str(value))
        for key, value in values.items()
    }  # fmt: skip
