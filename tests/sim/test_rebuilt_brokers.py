"""Whole brokers with real handshakes: one loses its disk and is rebuilt, and the old disk comes back.

Raft alone is in test_lost_disks.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.test_cluster_scripts import Talk, equal_at_the_end, leader_and_followers, started
from tests.unit.broker.rig import task_id
from tq.broker import rebuild
from tq.errors import ConfigError, InvalidRequest, NotLeader
from tq.protocol import messages as m
from tq.sim.cluster import SimCluster
from tq.sim.disk import SimDisk
from tq.sim.platter import Platter
from tq.store.memory import MemoryStore


def lose_disk(cluster: SimCluster, name: str) -> tuple[SimDisk, MemoryStore]:
    """An empty one is in its place. Returns what was lost."""
    host = cluster.hosts[name]
    if host.is_up:
        cluster.kill(name)
    lost = host.disk, host.store
    host.disk = SimDisk()
    host.store = MemoryStore(host.disk.step, host.clock)
    host.platter = Platter()
    return lost


def replace(cluster: SimCluster, talk: Talk, name: str, incarnation: bytes | None) -> Any:
    """Asked for again as a client does it, until there is an answer."""
    for _ in range(50):
        try:
            return talk.call(m.ChangeCluster, "replace", {"node": name, "incarnation": incarnation}).answer
        except NotLeader:
            cluster.run(100)
    pytest.fail("never answered")


def rebuilt(cluster: SimCluster, talk: Talk, name: str) -> None:
    """What ``tq cluster rebuild`` and its operator do."""
    host = cluster.hosts[name]
    assert replace(cluster, talk, name, None) == {}
    incarnation, _ = rebuild.begin(host.disk, host.random.fork(), name)
    with pytest.raises(ConfigError, match="being rebuilt"):
        host.start()
    host.disk.unlock()
    answer = replace(cluster, talk, name, incarnation)
    assert replace(cluster, talk, name, incarnation) == answer
    rebuild.finish(host.disk, answer["cluster"], answer["members"], answer["index"])
    cluster.start(name)


@pytest.mark.parametrize("is_cut", [False, True], ids=["by log", "by snapshot"])
def test_a_rebuilt_broker_has_everything_and_makes_a_majority(is_cut: bool) -> None:
    cluster = SimCluster(1)
    for host in cluster.hosts.values():
        host.segment_bytes, host.keep_bytes = (1_500, 0) if is_cut else (host.segment_bytes, host.keep_bytes)
    cluster.start_all()
    leader, lost, other = leader_and_followers(cluster)
    talk = Talk(cluster, leader)
    for number in range(30):
        talk.submit(number)
    lose_disk(cluster, lost)
    cluster.run(3_000)
    rebuilt(cluster, Talk(cluster, other), lost)
    talk.submit(100)
    cluster.elect()
    cluster.settle()
    assert (cluster.installations > 0) == is_cut
    assert set(cluster.broker(leader).node.voters) == {leader, lost, other}
    cluster.kill(leader)
    cluster.elect()
    again = Talk(cluster, lost)
    again.submit(101)
    for number in (0, 29, 100, 101):
        assert again.call(m.GetTask, task_id(number), linearizable=True).task["state"] == "pending"
    equal_at_the_end(cluster)


def test_the_connections_of_the_old_disk_end_and_it_stays_out() -> None:
    """It runs on while it is replaced, so the leader is told not to see it: the worst hour for a rebuild."""
    cluster = started()
    leader, lost, other = leader_and_followers(cluster)
    talk = Talk(cluster, leader)
    talk.submit(1)
    with pytest.raises(InvalidRequest, match="runs with the data directory that it has: stop its broker"):
        talk.call(m.ChangeCluster, "replace", {"node": lost, "incarnation": b"n" * 16})
    node = cluster.broker(leader).node
    node.replace_voter(lost, b"n" * 16)
    cluster.hosts[leader].wake_ms = cluster.now_ms
    cluster.run_until(
        lambda: lost not in cluster.hosts[leader].reachable and lost not in cluster.hosts[other].reachable, 5_000, "cut"
    )
    talk.submit(2)
    applied = cluster.broker(lost).applied_index
    cluster.run(3_000)
    assert cluster.broker(lost).applied_index == applied
    assert cluster.leader() == leader
    peers = cluster.hosts[lost].peers
    assert peers is not None
    assert any("was rebuilt on another data directory" in refusal for refusal in peers.refusals)
    assert cluster.broker(other).applied_index > applied


def test_the_old_disk_comes_back_in_place_of_the_rebuilt_one() -> None:
    cluster = started()
    leader, lost, _other = leader_and_followers(cluster)
    talk = Talk(cluster, leader)
    talk.submit(1)
    disk, store = lose_disk(cluster, lost)
    cluster.run(100)
    rebuilt(cluster, talk, lost)
    cluster.settle()
    host = cluster.hosts[lost]
    cluster.kill(lost)
    new = host.disk, host.store, host.platter
    host.disk, host.store, host.platter = disk, store, Platter()
    cluster.start(lost)
    talk.submit(2)
    cluster.run(3_000)
    assert host.reachable == []
    assert cluster.leader() == leader
    cluster.kill(lost)
    host.disk, host.store, host.platter = new
    equal_at_the_end(cluster)
