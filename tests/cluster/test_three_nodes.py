"""Three real brokers: any one of them may die, and nothing that was accepted is lost or done by half."""

from __future__ import annotations

import shutil

import pytest

from tests.cluster.processes import Broker, Ground, eventually
from tq import Client
from tq.client.specs import TaskSpec

SETTINGS = {
    "cluster": {"profile": "fast"},
    "leases": {"lease_ms": 1_500, "heartbeat_ms": 400, "session_ms": 1_500},
    "limits": {"disk_free_min_bytes": 0},
}


@pytest.fixture
def nodes(ground: Ground) -> list[Broker]:
    nodes = ground.brokers(3, SETTINGS)
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_ready()
    return nodes


def leader_of(nodes: list[Broker]) -> Broker:
    """The one that leads, once one does."""
    found: list[Broker] = []

    def look() -> bool:
        found[:] = [node for node in nodes if node.alive and node.leads()]
        return len(found) == 1

    eventually("one node leads", look, next(node for node in nodes if node.alive))
    return found[0]


def all_addresses(nodes: list[Broker]) -> list[str]:
    return [node.address for node in nodes]


def test_any_node_takes_work_and_shows_all_of_it(nodes: list[Broker]) -> None:
    clients = [Client(node.address) for node in nodes]
    submitted = [client.submit("echo", b"%d" % number) for number, client in enumerate(clients * 3)]
    index = max(client.last_index for client in clients)
    for client in clients:
        assert {task.id for task in client.list(limit=100, min_index=index).tasks} == {task.id for task in submitted}
        assert client.get(submitted[0].id, linearizable=True).state == "pending"
        client.close()


def test_the_leader_dies_and_what_was_accepted_is_done(ground: Ground, nodes: list[Broker]) -> None:
    worker = ground.process(
        "worker", [*worker_argv(), "--brokers", ",".join(all_addresses(nodes)), "--concurrency", "20"]
    )
    worker.start()
    with Client(all_addresses(nodes)) as client:
        before = client.submit_many([TaskSpec(type="echo", payload=b"%d" % number) for number in range(300)])
        leader = leader_of(nodes)
        leader.kill()
        after = client.submit_many([TaskSpec(type="echo", payload=b"after %d" % number) for number in range(300)])
        for number, item in enumerate([*before, *after]):
            assert item.outcome == "created", item
            ended = client.wait(item.id, timeout=60)
            assert ended.state == "completed"
            assert ended.result == (b"%d" % number if number < 300 else b"after %d" % (number - 300))
        leader.start_ready()
        eventually("the old leader follows", lambda: leader.ready() and not leader.leads(), leader)
        status = client.cluster_status()
        assert (status["may_lose"], len([node for node in status["nodes"] if node["reachable"]])) == (1, 3)


def test_a_node_that_was_down_catches_up(nodes: list[Broker]) -> None:
    down = next(node for node in nodes if not node.leads())
    down.kill()
    with Client([node.address for node in nodes if node is not down]) as client:
        items = client.submit_many([TaskSpec(type="echo", payload=b"x") for _ in range(500)])
        index = client.last_index
    down.start_ready()
    with Client(down.address) as client:
        assert client.get(items[-1].id, min_index=index).state == "pending"


def test_without_a_majority_nothing_is_accepted_and_reads_go_on(nodes: list[Broker]) -> None:
    from tq.errors import TqError

    with Client(all_addresses(nodes)) as client:
        kept = client.submit("echo", b"kept")
    alone = nodes[0]
    eventually("it has heard of the task", lambda: Client(alone.address).list().tasks != [], alone)
    for node in nodes[1:]:
        node.kill()
    with Client(alone.address) as client:
        with pytest.raises(TqError):
            client.submit("echo", b"refused", timeout=3)
        assert client.get(kept.id).state == "pending"
        status = client.cluster_status()
        assert [node["reachable"] for node in status["nodes"]] == [True, False, False]
    nodes[1].start_ready()
    with Client(all_addresses(nodes)) as client:
        assert client.submit("echo", b"again").outcome == "created"


def test_a_node_with_a_new_disk_is_refused(nodes: list[Broker]) -> None:
    """It has forgotten its votes: under its old name it may not come back by itself."""
    wiped = next(node for node in nodes if not node.leads())
    wiped.kill()
    shutil.rmtree(wiped.data)
    wiped.start()
    others = [node for node in nodes if node is not wiped]
    eventually("it is told why", lambda: "another data directory" in wiped.log.read_text(), wiped)
    assert not wiped.ready()
    with Client([node.address for node in others]) as client:
        assert client.submit("echo", b"x").outcome == "created"


def worker_argv() -> list[str]:
    from tq.bench.processes import TQ

    return [*TQ, "worker", "tq.samples"]
