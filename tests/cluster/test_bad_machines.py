"""Three real brokers, of which one stands on a machine that is out of order: its clock is wrong, its disk full or slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from tests.cluster.processes import Broker, Ground, eventually
from tests.faulty.machine import Machine, Machines, why_not
from tq import Client
from tq.client.specs import TaskSpec
from tq.errors import DiskFull

SETTINGS = {
    "leases": {"lease_ms": 1_500, "heartbeat_ms": 400, "session_ms": 1_500},
    "limits": {"disk_free_min_bytes": 1 << 20},
}
MINUTE_MS = 60_000

MISSING = why_not()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))  # a C compiler on Linux builds the faults


@attrs.frozen
class Cluster:
    nodes: list[Broker]
    machines: list[Machine]

    def machine(self, node: Broker) -> Machine:
        return self.machines[self.nodes.index(node)]

    def leader(self) -> Broker:
        found: list[Broker] = []

        def look() -> bool:
            found[:] = [node for node in self.nodes if node.alive and node.leads()]
            return len(found) == 1

        eventually("one node leads", look, next(node for node in self.nodes if node.alive))
        return found[0]

    def followers(self) -> list[Broker]:
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    @contextmanager
    def client(self, *nodes: Broker) -> Iterator[Client]:
        with Client([node.address for node in nodes or self.nodes]) as client:
            yield client

    def until_status(self, what: str, of: Broker, look: Callable[[dict[str, Any]], bool], timeout: float = 40) -> None:
        """Wait until ``look`` is true of what the status says of a node."""
        with self.client() as client:
            eventually(
                what,
                lambda: any(look(node) for node in client.cluster_status()["nodes"] if node["id"] == of.name),
                next(node for node in self.nodes if node.alive),
                timeout,
            )


@pytest.fixture(scope="module")
def made(shared_ground: Ground) -> Cluster:
    machines = Machines(shared_ground.folder)
    nodes = shared_ground.brokers(3, SETTINGS)
    cluster = Cluster(nodes, [machines.under(node) for node in nodes])
    for node in nodes:
        node.start()
    return cluster


@pytest.fixture
def cluster(made: Cluster) -> Cluster:
    """One for all tests; each gets it whole, on machines in order."""
    for node, machine in zip(made.nodes, made.machines, strict=True):
        machine.repair()
        if not node.alive:
            node.start()
    for node in made.nodes:
        node.wait_ready()
        made.until_status(f"the clock of {node.name} is right", node, lambda found: found.get("clock") == "ok")
    return made


# ---- clocks -------------------------------------------------------------------------------------------


def test_a_leader_whose_clock_is_wrong_hands_over_and_fires_nothing_early(cluster: Cluster, queue: str) -> None:
    leader = cluster.leader()
    with cluster.client() as client:
        delayed = client.submit("echo", queue=queue, delay=1_800)
        expiring = client.submit("echo", queue=queue, expires_in=1_800)
        cluster.machine(leader).wall_offset_ms = 60 * MINUTE_MS
        eventually(
            "another one leads", lambda: any(node.leads() for node in cluster.nodes if node is not leader), leader
        )
        cluster.until_status("its clock is called wrong", leader, lambda found: found.get("clock") == "far")
        assert not leader.leads()
        assert client.submit("echo", queue=queue, request_timeout=10).outcome == "created"
        assert client.get(delayed.id, linearizable=True).state == "scheduled"
        assert client.get(expiring.id, linearizable=True).state == "pending"


def test_a_node_whose_clock_is_wrong_is_not_chosen_while_another_can_lead(cluster: Cluster, queue: str) -> None:
    leader = cluster.leader()
    wrong, right = cluster.followers()
    cluster.machine(wrong).wall_offset_ms = -10 * MINUTE_MS
    cluster.until_status("its clock is called wrong", wrong, lambda found: found.get("clock") == "far")
    leader.terminate()  # it hands over, and knows to whom
    eventually("the one with the right clock leads", right.leads, right)
    with cluster.client(right, wrong) as client:
        due = client.submit("echo", queue=queue, delay=1.0)
        held = client.register_worker(["echo"], [queue])
        (grant,) = held.claim(wait=10)
        assert grant.id == due.id
        assert held.complete(grant, b"") == "applied"
    leader.wait(20)


def test_a_clock_that_differs_a_little_is_told_and_leads_on(cluster: Cluster) -> None:
    leader = cluster.leader()
    cluster.machine(leader).wall_offset_ms = 20_000
    cluster.until_status("it warns", leader, lambda found: found.get("clock") == "warn")
    assert leader.leads()


# ---- disks --------------------------------------------------------------------------------------------


def test_a_follower_whose_disk_fills_stops_and_comes_back_when_there_is_room(cluster: Cluster, queue: str) -> None:
    full = cluster.followers()[0]
    others = [node for node in cluster.nodes if node is not full]
    cluster.machine(full).is_full = True
    with cluster.client(*others) as client:
        items = [client.submit("echo", b"%d" % number, queue=queue, request_timeout=10) for number in range(20)]
        assert {item.outcome for item in items} == {"created"}
        eventually("the one with the full disk stops", lambda: not full.alive, others[0])
        assert "No space left on device" in full.log.read_text()
        more = client.submit("echo", queue=queue, request_timeout=10)
        cluster.machine(full).repair()
        full.start_ready()
        index = client.last_index
    with cluster.client(full) as client:
        for item in [*items, more]:
            assert client.get(item.id, min_index=index).state == "pending"


def test_a_leader_whose_disk_fills_loses_nothing_that_it_accepted(cluster: Cluster, queue: str) -> None:
    """It refuses, or stops and another one leads: in both cases what was accepted is there."""
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    accepted = []
    with cluster.client() as client:
        for number in range(60):
            if number == 20:
                cluster.machine(leader).is_full = True
            try:
                accepted.append(client.submit("echo", b"%d" % number, queue=queue, request_timeout=10).id)
            except DiskFull:
                break  # by its watermark, before the disk itself
    cluster.machine(leader).repair()
    if not leader.alive:
        leader.start_ready()
    with cluster.client(*others) as client:
        seen = {task.id for task in client.list(queue=queue, limit=100, linearizable=True, timeout=20).tasks}
        assert set(accepted) <= seen


def test_when_room_is_short_submissions_are_refused_and_all_else_goes_on(cluster: Cluster, queue: str) -> None:
    with cluster.client() as client:
        kept = client.submit("echo", queue=queue)
        for machine in cluster.machines:
            machine.is_low = True
        for node in cluster.nodes:
            cluster.until_status("its disk is called low", node, lambda found: bool(found.get("disk_is_low")))
        with pytest.raises(DiskFull):
            client.submit("echo", queue=queue)
        held = client.register_worker(["echo"], [queue])
        (grant,) = held.claim(wait=10)
        assert grant.id == kept.id
        assert held.complete(grant, b"done") == "applied"
        assert client.purge(kept.id)
        for machine in cluster.machines:
            machine.repair()
        eventually("tasks are taken again", lambda: takes(client, queue), cluster.nodes[0])


def takes(client: Client, queue: str) -> bool:
    try:
        return client.submit("echo", queue=queue).outcome == "created"
    except DiskFull:
        return False


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_a_slow_disk_slows_but_loses_nothing(cluster: Cluster, queue: str, who: str) -> None:
    """One that syncs in 300 ms. A follower that is so slow holds nobody up; a leader does, and says so."""
    slow = cluster.leader() if who == "leader" else cluster.followers()[0]
    cluster.machine(slow).sync_ms = 300
    with cluster.client() as client:
        specs = [TaskSpec(type="echo", payload=b"%d" % number, queue=queue) for number in range(200)]
        items = [item for at in range(0, 200, 20) for item in client.submit_many(specs[at : at + 20], timeout=20)]
        assert {item.outcome for item in items} <= {"created", "duplicate"}
        seen = client.list(queue=queue, limit=500, linearizable=True, timeout=20).tasks
        assert {task.id for task in seen} == {item.id for item in items}
