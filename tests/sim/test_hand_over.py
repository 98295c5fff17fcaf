"""Who gives leadership away, to whom, and how short the pause is: three whole brokers in a simulated world."""

from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.broker.clock_watch import LOOK_MS, ClockState
from tq.errors import Backpressure, InvalidRequest, Unsupported, from_wire
from tq.protocol import messages as m
from tq.sim.cluster import SimCluster

FAR_MS = limits.CLOCK_OFFSET_LEAD_MS_MAX + 10_000


@pytest.fixture(params=[1, 2, 3])
def cluster(request: pytest.FixtureRequest) -> SimCluster:
    cluster = SimCluster(request.param)
    cluster.start_all()
    cluster.elect()
    cluster.run(2 * LOOK_MS)  # all have heard all clocks
    return cluster


def leader(cluster: SimCluster) -> str:
    found = cluster.leader()
    assert found is not None
    return found


def test_nobody_waits_for_an_election(cluster: SimCluster) -> None:
    old = leader(cluster)
    term = cluster.broker(old).node.term
    assert cluster.broker(old).hand_over("it stops")
    took_ms = cluster.run_until(lambda: cluster.leader() not in (None, old), 2_000, "another leader")
    assert took_ms < 150  # a time-out takes 200 at least
    assert cluster.broker(leader(cluster)).node.term == term + 1


def test_a_follower_and_a_leader_without_others_have_nothing_to_hand_over(cluster: SimCluster) -> None:
    old = leader(cluster)
    for follower in cluster.followers():
        assert not cluster.broker(follower).hand_over("it stops")
        cluster.kill(follower)
    assert cluster.broker(old).node.is_leader
    cluster.run(100)  # the connections have ended
    assert not cluster.broker(old).hand_over("it stops")


def test_it_goes_to_a_node_that_can_be_reached(cluster: SimCluster) -> None:
    old = leader(cluster)
    dead, alive = cluster.followers()
    cluster.kill(dead)
    cluster.run(100)
    assert cluster.broker(old).hand_over("it stops")
    cluster.run_until(lambda: cluster.leader() == alive, 1_000, "the one that is there leads")


def test_a_leader_whose_clock_is_wrong_gives_way_and_stays_out(cluster: SimCluster) -> None:
    old = leader(cluster)
    cluster.hosts[old].clock.jump_wall_ms(FAR_MS)
    cluster.run_until(lambda: cluster.leader() not in (None, old), 3 * LOOK_MS, "a leader with a right clock")
    states = {name: cluster.broker(name).clock_watch.state for name in cluster.hosts}
    assert states == {name: ClockState.FAR if name == old else ClockState.OK for name in cluster.hosts}
    assert cluster.broker(old).node_status()["clock"] == "far"
    new = leader(cluster)
    cluster.broker(new).node.transfer(old)  # as an election may go
    cluster.hosts[new].wake_ms = cluster.now_ms
    cluster.run_until(lambda: cluster.leader() == old, 1_000, "it leads again")
    cluster.run_until(lambda: cluster.leader() not in (None, old), 3 * LOOK_MS, "and gives way again")
    cluster.hosts[old].clock.jump_wall_ms(-FAR_MS)
    cluster.run(2 * LOOK_MS)
    assert cluster.broker(old).clock_watch.state is ClockState.OK


def test_it_is_not_given_to_a_node_whose_clock_is_wrong(cluster: SimCluster) -> None:
    old = leader(cluster)
    wrong, right = cluster.followers()
    cluster.hosts[wrong].clock.jump_wall_ms(-FAR_MS)
    cluster.run(2 * LOOK_MS)
    assert cluster.leader() == old
    assert cluster.broker(old).hand_over("it stops")
    cluster.run_until(lambda: cluster.leader() == right, 1_000, "the one with a right clock leads")


def test_a_leader_with_a_wrong_clock_leads_on_if_no_other_can(cluster: SimCluster) -> None:
    old = leader(cluster)
    wrong, dead = cluster.followers()
    cluster.kill(dead)
    cluster.hosts[old].clock.jump_wall_ms(FAR_MS)
    cluster.hosts[wrong].clock.jump_wall_ms(-FAR_MS)
    cluster.run(3 * LOOK_MS)
    assert cluster.broker(old).clock_watch.state is ClockState.FAR
    assert cluster.leader() == old


# ---- because somebody asks for it ------------------------------------------------------------------------


def ask(cluster: SimCluster, node: str, before: str | None, to: Any, change: str = "transfer") -> dict[str, Any]:
    """CHANGE_CLUSTER at a node. Raises its error."""
    client = cluster.hosts[node].connect()
    hello = client.ask(m.Hello, 1, 1, "operator")
    cluster.run_until(lambda: hello in client.answers, 2_000, "a greeting")
    rid = client.ask(m.ChangeCluster, change, {"from": before, "to": to})
    cluster.run_until(lambda: rid in client.answers, 2_000, "an answer")
    reply: Any = client.answers[rid]
    if isinstance(reply, m.ErrorReply):
        raise from_wire(reply.error)
    answer: dict[str, Any] = reply.answer
    return answer


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_the_node_that_is_asked_for_leads(cluster: SimCluster, at: str) -> None:
    old = leader(cluster)
    first, second = cluster.followers()
    for to in (first, second):
        assert ask(cluster, old if at == "leader" else second, old, to) == {"leader": old, "to": to}
        took_ms = cluster.run_until(lambda to=to: cluster.leader() == to, 1_000, "it leads")  # type: ignore[misc]
        assert took_ms < 150
        cluster.elect()
        old = to


def test_without_a_name_it_is_one_of_the_others(cluster: SimCluster) -> None:
    old = leader(cluster)
    target = ask(cluster, old, old, None)["to"]
    assert target in cluster.followers()
    cluster.run_until(lambda: cluster.leader() == target, 1_000, "it leads")


def test_who_asks_again_does_not_move_it_on(cluster: SimCluster) -> None:
    """The answer may be lost together with the leader that gave it."""
    old = leader(cluster)
    ask(cluster, old, old, None)
    cluster.run_until(lambda: cluster.leader() not in (None, old), 1_000, "another leads")
    new = cluster.elect()
    assert ask(cluster, new, old, None) == {"leader": new, "to": None}
    assert ask(cluster, new, new, new) == {"leader": new, "to": None}
    cluster.run(1_000)
    assert leader(cluster) == new


def test_while_one_is_on_its_way_no_other_can_be_asked_for(cluster: SimCluster) -> None:
    old = leader(cluster)
    first, second = cluster.followers()
    cluster.streams.cut(first, old)  # it cannot catch up as far as the leader hears
    cluster.streams.cut(old, first)
    assert ask(cluster, old, old, first) == {"leader": old, "to": first}
    assert ask(cluster, old, old, None)["to"] == first
    with pytest.raises(Backpressure, match=f"handed over to {first}"):
        ask(cluster, old, old, second)
    cluster.heal()
    cluster.elect()


def test_a_node_that_should_not_lead_is_refused_with_the_reason(cluster: SimCluster) -> None:
    old = leader(cluster)
    first, second = cluster.followers()
    with pytest.raises(InvalidRequest, match="one of the other nodes"):
        ask(cluster, old, old, "n9")
    cluster.hosts[second].clock.jump_wall_ms(FAR_MS)
    cluster.run(3 * LOOK_MS)
    with pytest.raises(InvalidRequest, match=f"{second} cannot lead now: its clock is wrong"):
        ask(cluster, old, old, second)
    cluster.kill(first)
    cluster.run(200)
    with pytest.raises(InvalidRequest, match=f"{first} cannot lead now: it cannot be reached"):
        ask(cluster, old, old, first)
    with pytest.raises(InvalidRequest, match="no other node can lead now"):
        ask(cluster, old, old, None)
    with pytest.raises(InvalidRequest):
        ask(cluster, old, old, 7)
    with pytest.raises(Unsupported):
        ask(cluster, old, old, None, change="split")
    assert leader(cluster) == old
