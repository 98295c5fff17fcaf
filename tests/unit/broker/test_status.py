"""Who leads, who lags, and how many may be lost, out of what the nodes say of themselves."""

from __future__ import annotations

from typing import Any

from tq.broker.status import cluster_view
from tq.config import PeerEntry

PEERS = tuple(PeerEntry(f"n{n}", f"127.0.0.1:{n}", f"127.0.0.1:{n}0") for n in range(1, 6))


def node(id: str, role: str = "follower", leader: str | None = "n1", term: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "id": id, "reachable": True, "role": role, "term": term, "leader": leader, "commit": 90, "applied": 90, **more
    }  # fmt: skip


def view(*told: dict[str, Any], size: int = 3, me: str = "n1", ways: dict[str, Any] | None = None) -> dict[str, Any]:
    return cluster_view(b"c" * 16, "tq", me, PEERS[:size], {one["id"]: one for one in told}, ways or {})


def test_all_follow_one_leader() -> None:
    shown = view(node("n1", "leader"), node("n2"), node("n3", commit=80, applied=70))
    assert shown["cluster"] == {"id": "63" * 16, "name": "tq", "leader": "n1", "term": 3, "answered_by": "n1"}
    assert shown["may_lose"] == 1
    assert [one["lag"] for one in shown["nodes"]] == [0, 0, 20]


def test_five_may_lose_two() -> None:
    nodes = [node("n1", "leader"), *(node(f"n{n}") for n in range(2, 6))]
    assert view(*nodes, size=5)["may_lose"] == 2
    assert view(*nodes[:4], size=5)["may_lose"] == 1
    assert view(*nodes[:3], size=5)["may_lose"] == 0
    assert view(*nodes[:2], size=5)["may_lose"] == 0


def test_a_node_that_is_being_rebuilt_counts_for_nothing() -> None:
    peers = [PeerEntry(id, "127.0.0.1:1", "127.0.0.1:2") for id in ("n1", "n2", "n3")]

    def shown(*voters: str) -> dict[str, Any]:
        told = {peer.id: node(peer.id, "leader" if peer.id == "n1" else "follower") for peer in peers}
        return cluster_view(b"c" * 16, "tq", "n1", peers, told, {}, voters)

    assert shown("n1", "n3")["may_lose"] == 0
    assert [one.get("joining", False) for one in shown("n1", "n3")["nodes"]] == [False, True, False]
    assert shown("n1", "n2", "n3")["may_lose"] == 1


def test_a_node_that_does_not_answer_is_shown_with_the_reason() -> None:
    ways = {"n2": {"reason": "Connection refused", "refused": None}, "n3": {"reason": "x", "refused": "another disk"}}
    shown = view(node("n1", "leader"), ways=ways)
    assert shown["may_lose"] == 0
    assert shown["nodes"][1] == {
        "id": "n2", "address": "127.0.0.1:20", "reachable": False, "reason": "Connection refused"
    }  # fmt: skip
    assert shown["nodes"][2]["reason"] == "another disk"
    assert view(node("n1"))["nodes"][1]["reason"] == "it did not answer in time"


def test_without_a_leader_nothing_may_be_lost() -> None:
    shown = view(node("n1", "candidate", None), node("n2", leader=None), node("n3", leader=None))
    assert shown["cluster"]["leader"] is None
    assert shown["may_lose"] == 0


def test_an_old_leader_that_does_not_know_yet_counts_for_nothing() -> None:
    shown = view(
        node("n1", "leader", term=3), node("n2", "leader", leader="n2", term=4), node("n3", leader="n2", term=4)
    )
    assert (shown["cluster"]["leader"], shown["cluster"]["term"], shown["may_lose"]) == ("n2", 4, 0)


def test_a_node_that_has_not_heard_of_the_new_term_counts_for_nothing() -> None:
    assert view(node("n1", "leader", term=5), node("n2", term=5), node("n3", term=4))["may_lose"] == 0


def test_a_node_alone() -> None:
    shown = cluster_view(b"c" * 16, "tq", "n1", (), {"n1": node("n1", "leader")}, {})
    assert (shown["may_lose"], len(shown["nodes"])) == (0, 1)
