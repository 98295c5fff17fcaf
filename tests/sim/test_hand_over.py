"""Who gives leadership away, to whom, and how short the pause is: three whole brokers in a simulated world."""

from __future__ import annotations

import pytest

from tq import limits
from tq.broker.clock_watch import LOOK_MS, ClockState
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
