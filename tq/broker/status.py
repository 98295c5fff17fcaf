"""What is said of the nodes to whoever asks for the cluster: each speaks for itself, one joins it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tq.config import PeerEntry

Status = dict[str, Any]


def cluster_view(
    cluster_id: bytes,
    name: str,
    me: str,
    peers: Sequence[PeerEntry],
    told: Mapping[str, Status | None],
    ways: Mapping[str, Mapping[str, Any]],
) -> Status:
    """The whole.

    Args:
        me: the node that answers.
        told: what each node said of itself, this one too; None for one that did not answer.
        ways: by peer, how this node reaches it: ``reason``, if it does not.

    Each node gets ``lag``: entries that the leader has committed and this node has not applied. ``may_lose``: so many more
    nodes may stop and the rest still accepts work; 0 without a leader, too.
    """
    nodes = [told.get(peer.id) or _silent(peer, ways.get(peer.id, {})) for peer in peers] or [told[me] or {}]
    nodes.sort(key=lambda node: str(node["id"]))
    leader = _leader(nodes)
    commit = max((node["commit"] for node in nodes if node["reachable"]), default=0)
    following = 0
    for node in nodes:
        if node["reachable"]:
            node["lag"] = max(0, commit - node["applied"])
            following += leader is not None and node["leader"] == leader["id"] and node["term"] == leader["term"]
    return {
        "cluster": {
            "id": cluster_id.hex(),
            "name": name,
            "leader": leader["id"] if leader else None,
            "term": leader["term"] if leader else None,
            "answered_by": me,
        },
        "may_lose": max(0, following - (len(nodes) // 2 + 1)),
        "nodes": nodes,
    }


def _leader(nodes: Sequence[Status]) -> Status | None:
    """The one that leads the highest term; an older leader that was cut off may not know yet."""
    leaders = [node for node in nodes if node["reachable"] and node["role"] == "leader"]
    return max(leaders, key=lambda node: int(node["term"]), default=None)


def _silent(peer: PeerEntry, way: Mapping[str, Any]) -> Status:
    reason = way.get("refused") or way.get("reason") or "it did not answer in time"
    return {"id": peer.id, "address": peer.client, "reachable": False, "reason": reason}
