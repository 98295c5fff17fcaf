"""Three real brokers: any one of them may die, and nothing that was accepted is lost or done by half."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import attrs
import pytest

from tests.cluster.processes import Broker, Ground, Wire, eventually, start_all, tq
from tq import Client
from tq.bench.ways import Ways
from tq.client.specs import TaskSpec
from tq.errors import TqError
from tq.protocol import messages as m

SETTINGS = {
    "cluster": {"profile": "fast"},
    "leases": {"lease_ms": 1_500, "heartbeat_ms": 400, "session_ms": 1_500},
    "limits": {"disk_free_min_bytes": 0},
}
LATE_SECONDS = 2.0  # a call may come back so much behind its time-out, on a busy machine


@attrs.frozen
class Cluster:
    nodes: list[Broker]
    ways: Ways

    def restore(self) -> None:
        """All nodes run and hear each other, and one leads them all."""
        self.ways.heal_all()
        for node in self.nodes:
            if not node.alive:
                node.start()
            node.resume()
        for node in self.nodes:
            node.wait_ready()
        with Client(addresses(self.nodes)) as client:
            client.list(limit=1, linearizable=True)

    def leader(self) -> Broker:
        return leader_of(self.nodes)

    def followers(self) -> list[Broker]:
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]


@pytest.fixture(scope="module")
def made(shared_ground: Ground) -> Iterator[Cluster]:
    with Ways() as ways:
        cluster = Cluster(shared_ground.brokers(3, SETTINGS, ways), ways)
        for node in cluster.nodes:
            node.start()
        yield cluster


@pytest.fixture
def cluster(made: Cluster) -> Cluster:
    """One for all tests; each gets it whole, and uses a queue of its own."""
    made.restore()
    return made


@pytest.fixture
def nodes(cluster: Cluster) -> list[Broker]:
    return cluster.nodes


def leader_of(nodes: list[Broker]) -> Broker:
    """The one that leads, once one does."""
    found: list[Broker] = []

    def look() -> bool:
        found[:] = [node for node in nodes if node.alive and node.leads()]
        return len(found) == 1

    eventually("one node leads", look, next(node for node in nodes if node.alive))
    return found[0]


def addresses(nodes: list[Broker]) -> list[str]:
    return [node.address for node in nodes]


def in_time(seconds: float, call: Callable[[], Any]) -> Any:
    """What the call returns or the TqError it raises, if that came in its time."""
    begun = time.monotonic()
    try:
        return call()
    except TqError as error:
        return error
    finally:
        assert time.monotonic() - begun < seconds + LATE_SECONDS, "the call hung"


class Background:
    """A call in a thread; ``result`` waits for it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except TqError as error:
            self._error = error

    def result(self, seconds: float = 30.0) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"not within {seconds:g} s"
        if self._error is not None:
            raise self._error
        return self._value


# ---- any node ---------------------------------------------------------------------------------------


def test_any_node_takes_work_and_shows_all_of_it(nodes: list[Broker], queue: str) -> None:
    clients = [Client(node.address) for node in nodes]
    submitted = [client.submit("echo", b"%d" % number, queue=queue) for number, client in enumerate(clients * 3)]
    index = max(client.last_index for client in clients)
    for client in clients:
        seen = client.list(queue=queue, limit=100, min_index=index).tasks
        assert {task.id for task in seen} == {task.id for task in submitted}
        assert client.get(submitted[0].id, linearizable=True).state == "pending"
        client.close()


# ---- a node dies -----------------------------------------------------------------------------------


def test_the_leader_dies_and_what_was_accepted_is_done(ground: Ground, nodes: list[Broker], queue: str) -> None:
    worker = ground.worker(",".join(addresses(nodes)), "tq.samples", "--queues", queue, "--concurrency", "20")
    worker.start()
    specs = [TaskSpec(type="echo", payload=b"%d" % number, queue=queue) for number in range(600)]
    with Client(addresses(nodes)) as client:
        before = client.submit_many(specs[:300])
        leader = leader_of(nodes)
        leader.kill()
        after = client.submit_many(specs[300:])
        for number, item in enumerate([*before, *after]):
            assert item.outcome == "created", item
            ended = client.wait(item.id, timeout=60)
            assert (ended.state, ended.result) == ("completed", b"%d" % number)
        leader.start_ready()
        eventually("the old leader follows", lambda: leader.ready() and not leader.leads(), leader)

        def is_whole() -> bool:
            """Not at once: the others reach it again within a second."""
            status = client.cluster_status()
            return (status["may_lose"], sum(node["reachable"] for node in status["nodes"])) == (1, 3)

        eventually("all nodes see each other again", is_whole, leader)


def test_a_client_that_knows_one_follower_goes_on_while_the_leader_changes(cluster: Cluster, queue: str) -> None:
    follower = cluster.followers()[0]
    with Client(follower.address) as client:
        items = [client.submit("echo", queue=queue)]
        cluster.leader().kill()
        items += [client.submit("echo", queue=queue, request_timeout=10) for _ in range(5)]
        assert [item.outcome for item in items] == ["created"] * 6
        assert len(client.list(queue=queue, linearizable=True).tasks) == 6


def test_a_node_that_was_down_catches_up(cluster: Cluster, queue: str) -> None:
    down = cluster.followers()[0]
    down.kill()
    with Client([node.address for node in cluster.nodes if node is not down]) as client:
        items = client.submit_many([TaskSpec(type="echo", payload=b"x", queue=queue) for _ in range(500)])
        index = client.last_index
    down.start_ready()
    with Client(down.address) as client:
        assert client.get(items[-1].id, min_index=index).state == "pending"


def test_without_a_majority_nothing_is_accepted_no_call_hangs_and_reads_go_on(cluster: Cluster, queue: str) -> None:
    with Client(addresses(cluster.nodes)) as client:
        kept = client.submit("echo", queue=queue)
        held = client.register_worker(["echo"], [queue])
        index = client.last_index
    alone, *others = cluster.nodes
    with Client(alone.address) as client:
        client.get(kept.id, min_index=index)  # it has heard of the task
        for node in others:
            node.kill()
        calls: dict[str, Callable[[], Any]] = {
            "submit": lambda: client.submit("echo", queue=queue, request_timeout=1),
            "cancel": lambda: client.cancel(kept.id, timeout=1),
            "purge": lambda: client.purge(kept.id, timeout=1),
            "linearizable read": lambda: client.get(kept.id, linearizable=True, timeout=1),
            "workers": lambda: client.workers(timeout=1),
            "register": lambda: client.register_worker(["echo"], [queue], timeout=1),
        }
        for name, call in calls.items():
            assert isinstance(in_time(1, call), TqError), name
        assert client.get(kept.id).state == "pending"
        status = client.cluster_status()
        assert [node["reachable"] for node in status["nodes"]] == [True, False, False]
        assert status["may_lose"] == 0
        others[0].start_ready()
        assert client.submit("echo", queue=queue, request_timeout=10).outcome == "created"
        assert client.get(kept.id, linearizable=True).state == "pending"
    assert held.id


def test_five_nodes_bear_the_loss_of_two(ground: Ground) -> None:
    nodes = ground.brokers(5, SETTINGS)
    start_all(nodes)
    with Client(addresses(nodes)) as client:
        first = client.submit("echo")
        leader = leader_of(nodes)
        eventually("all see each other", lambda: client.cluster_status()["may_lose"] == 2, leader)
        leader.kill()
        next(node for node in nodes if node.alive).kill()
        second = client.submit("echo", request_timeout=10)
        seen = {task.id for task in client.list(linearizable=True).tasks}
        assert {first.id, second.id} <= seen
        alive = next(node for node in nodes if node.alive)
        eventually("three see each other", lambda: client.cluster_status()["may_lose"] == 0, alive)


def test_a_node_that_waits_for_the_others_says_so_at_once(ground: Ground) -> None:
    nodes = ground.brokers(3, SETTINGS)
    nodes[0].start()
    eventually("it answers", lambda: tq("cluster-status", brokers=nodes[0].address).returncode == 0, nodes[0])
    shown = tq("cluster-status", brokers=nodes[0].address)
    assert "NOT FORMED" in shown.stderr
    assert re.search(r"n1 waits for n2 \(.*refused\), n3 \(.*refused\) to form the cluster", shown.stderr), shown.stderr
    assert "waiting" in shown.stdout
    assert tq("cluster", "wait-ready", "--within", "1s", brokers=nodes[0].address).returncode == 1
    with Client(nodes[0].address) as client, ThreadPoolExecutor(1) as pool:
        early = pool.submit(client.submit, "echo", b"early")
        for node in nodes[1:]:
            node.start()
        assert early.result(30).outcome == "created", "it waited until there was a cluster"


def test_a_node_with_a_new_disk_is_refused(ground: Ground) -> None:
    """It has forgotten its votes: under its old name it may not come back by itself."""
    nodes = ground.brokers(3, SETTINGS)
    start_all(nodes)
    wiped = next(node for node in nodes if not node.leads())
    wiped.kill()
    shutil.rmtree(wiped.data)
    wiped.start()
    others = [node for node in nodes if node is not wiped]
    eventually("it is told why", lambda: "another data directory" in wiped.log.read_text(), wiped)
    assert not wiped.ready()
    told = tq("cluster-status", brokers=wiped.address).stderr
    assert "NOT FORMED" in told
    assert "another data directory" in told
    with Client([node.address for node in others]) as client:
        assert client.submit("echo", b"x").outcome == "created"


def test_leadership_is_transferred_to_a_node_that_is_named_or_not(cluster: Cluster, queue: str) -> None:
    with Client(addresses(cluster.nodes)) as client:
        client.submit("echo", b"before", queue=queue)
        for node in cluster.followers():
            done = tq("cluster", "transfer", node.name, brokers=",".join(addresses(cluster.nodes)))
            assert (done.returncode, done.stderr.strip()) == (0, f"{node.name} leads now")
            assert cluster.leader() is node
            client.submit("echo", b"after", queue=queue)
        before = cluster.leader()
        assert client.transfer_leadership() != before.name
        assert cluster.leader() is not before
        refused = tq("cluster", "transfer", "n9", brokers=before.address)
        assert refused.returncode == 1
        assert "one of the other nodes" in refused.stderr
        assert client.queues()


# ---- a node stands still, or is cut off --------------------------------------------------------------


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
def test_a_leader_that_stood_still_shows_nothing_old_as_new(cluster: Cluster, queue: str, is_cut: bool) -> None:
    """Linearizable reads wait in its sockets while others lead and decide. What these have sent waits beside them, or
    does not reach it: then it believes that it leads when it looks at the reads."""
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    with ExitStack() as stack:
        client = stack.enter_context(Client(addresses(others)))
        wires = [stack.enter_context(Wire(leader.address)) for _ in range(20)]
        task = client.submit("echo", queue=queue)
        raw = bytes.fromhex(task.id.replace("-", ""))
        if is_cut:
            cluster.ways.isolate(leader.name)
        leader.pause()
        eventually("another one leads", lambda: any(node.leads() for node in others), others[0])
        assert client.cancel(task.id, timeout=10) == "cancelled"
        for wire in wires:
            wire.send(m.GetTask(1, raw, 0, 0, True))
        leader.resume()
        for wire in wires:
            (answer,) = wire.receive(1)
            if isinstance(answer, m.GetReply):
                assert answer.task["state"] == "cancelled"
            else:
                assert isinstance(answer, m.ErrorReply)
        cluster.ways.rejoin(leader.name)
        eventually("it follows", lambda: leader.ready() and not leader.leads(), leader)
    with Client(leader.address) as client:
        assert client.get(task.id, linearizable=True, timeout=10).state == "cancelled"


def test_a_leader_that_is_cut_off_accepts_nothing_and_follows_when_it_is_back(cluster: Cluster, queue: str) -> None:
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    with Client(leader.address) as minority, Client(addresses(others)) as majority:
        before = minority.submit("echo", queue=queue)
        cluster.ways.isolate(leader.name)
        refused = in_time(3, lambda: minority.submit("echo", queue=queue, request_timeout=3))
        assert isinstance(refused, TqError)
        assert isinstance(in_time(1, lambda: minority.get(before.id, linearizable=True, timeout=1)), TqError)
        accepted = majority.submit("echo", queue=queue, request_timeout=10)
        assert not leader.leads()
        cluster.ways.rejoin(leader.name)
        # What was refused may have been done meanwhile, and nobody may forget what was accepted.
        seen = {task.id for task in minority.list(queue=queue, linearizable=True, timeout=20).tasks}
        assert {before.id, accepted.id} <= seen
        eventually("all show the same", lambda: len({shown(node, queue) for node in cluster.nodes}) == 1, leader)


def shown(node: Broker, queue: str) -> tuple[str, ...]:
    with Client(node.address) as client:
        return tuple(sorted(task.id for task in client.list(queue=queue, limit=100).tasks))


def test_a_client_of_a_node_that_is_cut_off_goes_to_another(cluster: Cluster, queue: str) -> None:
    follower = cluster.followers()[0]
    others = [node for node in cluster.nodes if node is not follower]
    with Client(addresses([follower, *others])) as client:
        client.submit("echo", queue=queue)
        cluster.ways.isolate(follower.name)
        assert client.submit("echo", queue=queue, request_timeout=15).outcome == "created"


def test_a_client_of_a_leader_that_stands_still_goes_to_another(cluster: Cluster, queue: str) -> None:
    """Nothing ends its connection: it must find out by itself, and soon."""
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    with Client(addresses([leader, *others])) as client:
        client.submit("echo", queue=queue)
        leader.pause()
        assert client.submit("echo", queue=queue, request_timeout=8).outcome == "created"


def test_a_worker_of_a_leader_that_stands_still_goes_to_another(ground: Ground, cluster: Cluster, queue: str) -> None:
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    known = ",".join(addresses([leader, *others]))
    ground.worker(known, "tq.samples", "--queues", queue).start()
    with Client(addresses(others)) as client:
        assert client.wait(client.submit("echo", queue=queue).id, 30).state == "completed"
        leader.pause()
        begun = time.monotonic()
        assert client.wait(client.submit("echo", queue=queue).id, 30).state == "completed"
        assert time.monotonic() - begun < 12


@pytest.mark.parametrize("direction", ["deaf", "mute"])
def test_a_leader_that_is_deaf_or_mute_is_replaced(cluster: Cluster, queue: str, direction: str) -> None:
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    cluster.ways.isolate(leader.name, out=direction == "mute", into=direction == "deaf")
    with Client(addresses(others)) as client:
        assert client.submit("echo", queue=queue, request_timeout=15).outcome == "created"


def test_no_call_hangs_past_its_time_out_when_all_nodes_stand_still(cluster: Cluster, queue: str) -> None:
    follower = cluster.followers()[0]
    with Client(addresses(cluster.nodes)) as any_, Client(follower.address) as one:
        task = any_.submit("echo", queue=queue)
        one.get(task.id, linearizable=True)  # the node that it is connected to may be a moment behind
        for node in cluster.nodes:
            node.pause()
        for client in (any_, one):
            for name, call in {
                "submit": lambda: client.submit("echo", queue=queue, request_timeout=0.5),  # noqa: B023
                "get": lambda: client.get(task.id, timeout=0.5),  # noqa: B023
                "wait": lambda: client.wait(task.id, timeout=0.5),  # noqa: B023
                "status": lambda: client.cluster_status(timeout=0.5),  # noqa: B023
            }.items():
                assert isinstance(in_time(0.5, call), TqError), name
        for node in cluster.nodes:
            node.resume()
        assert any_.submit("echo", queue=queue, request_timeout=15).outcome == "created"
        assert one.submit("echo", queue=queue, request_timeout=15).outcome == "created"


def test_what_waits_for_a_paused_leader_by_way_of_a_follower_goes_on_with_the_next(
    cluster: Cluster, queue: str
) -> None:
    """The follower's connection to it is not closed: it must not wait for that."""
    leader, follower = cluster.leader(), cluster.followers()[0]
    with Client(follower.address) as client:
        session = client.register_worker(["echo"], [queue])
        parked = Background(lambda: session.claim(wait=20))
        eventually("the claim is parked", lambda: client.stats()["requests"] > 0 and parked_at(leader) == 1, leader)
        leader.pause()
        begun = time.monotonic()
        task = client.submit("echo", queue=queue, request_timeout=15)
        (grant,) = parked.result()
        assert time.monotonic() - begun < 8
        assert grant.id == task.id


def parked_at(node: Broker) -> int:
    with Client(node.address) as client:
        parked: int = client.stats()["claims_parked"]
        return parked


# ---- what goes on over a change of leader ------------------------------------------------------------


def test_a_worker_at_a_follower_keeps_its_leases(cluster: Cluster, queue: str) -> None:
    follower = cluster.followers()[0]
    with Client(follower.address) as client:
        task = client.submit("echo", queue=queue)
        session = client.register_worker(["echo"], [queue])
        (grant,) = session.claim(wait=5)
        cluster.leader().kill()
        leader = leader_of([node for node in cluster.nodes if node.alive])
        end = time.monotonic() + 2 * session.lease

        def beats_past_two_leases() -> bool:
            assert session.heartbeat(timeout=5).lost == ()
            return time.monotonic() > end

        eventually("two leases are over", beats_past_two_leases, leader)
        assert session.complete(grant, b"done") == "applied"
        ended = client.get(task.id)
        assert (ended.state, ended.crashes, ended.fence) == ("completed", 0, grant.fence)


def test_waits_events_parked_claims_and_cancels_go_on(cluster: Cluster, queue: str) -> None:
    follower = cluster.followers()[0]
    with Client(follower.address) as client, Client(follower.address) as looker:
        task = client.submit("echo", queue=queue)
        running = client.submit("sleep", queue=queue)
        waited = Background(lambda: looker.wait(task.id, 60))
        with looker.events(timeout=10) as events:
            holder = client.register_worker(["sleep"], [queue])
            (held,) = holder.claim(wait=5)
            assert client.cancel(running.id, grace=60) == "cancelling"
            claimer = client.register_worker(["other"], [queue])
            parked = Background(lambda: claimer.claim(wait=25))
            eventually("the claim is parked", lambda: parked_at(cluster.leader()) == 1, follower)

            cluster.leader().kill()

            other = client.submit("other", queue=queue, request_timeout=10)
            (grant,) = parked.result()
            assert grant.id == other.id
            assert [cancel.id for cancel in holder.heartbeat(timeout=10).cancel] == [running.id]
            assert holder.cancelled(held) == "applied"
            worker = client.register_worker(["echo"], [queue])
            (mine,) = worker.claim(wait=5)
            assert worker.complete(mine, b"done") == "applied"
            assert waited.result().state == "completed"
            seen = []
            for event in events:
                seen.append((event.kind, event.id))
                if event.kind == "completed" and event.id == task.id:
                    break
            assert events.complete
            for expected in (("created", other.id), ("cancelled", running.id), ("completed", task.id)):
                assert seen.count(expected) == 1, (expected, seen)
