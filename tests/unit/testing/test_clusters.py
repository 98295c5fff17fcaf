"""Three nodes in a process: what is done to them, what is promised all the same, and that a broken promise is seen."""

from __future__ import annotations

import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import BrokerUnavailable, InvalidRequest, InvalidState, Retry
from tq.sim.checkers.breach import Breach
from tq.store.tables import Table
from tq.testing import cluster

SEEDS = range(6)


def test_it_has_a_leader_and_others() -> None:
    with cluster(3) as nodes:
        assert nodes.nodes == ["n1", "n2", "n3"]
        assert nodes.leader in nodes.nodes
        leading = [node["id"] for node in nodes.client.cluster_status()["nodes"] if node["role"] == "leader"]
        assert leading == [nodes.leader]


@pytest.mark.parametrize("size", [0, 2, 4, 9])
def test_odd_sizes_alone(size: int) -> None:
    with pytest.raises(InvalidRequest, match="1, 3, 5 or 7"):
        cluster(size)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_leader_costs_nothing(seed: int) -> None:
    book = Book()
    with cluster(3, seed=seed) as nodes:
        nodes.worker(handlers(book))
        ids = [nodes.client.submit("echo", str(number).encode()).id for number in range(5)]
        killed = nodes.kill("leader")
        ids += [nodes.client.submit("echo", str(number).encode()).id for number in range(5, 10)]
        assert [nodes.client.wait(id, 60).result for id in ids] == [str(number).encode() for number in range(10)]
        assert sorted(line[1] for line in book.lines) == sorted(str(number).encode() for number in range(10))
        assert nodes.leader != killed
        nodes.restart(killed)
        nodes.advance(5)
        assert nodes.client.cluster_status()["nodes"]


def test_a_majority_that_is_gone_is_told_and_comes_back() -> None:
    with cluster(3) as nodes:
        nodes.worker(handlers(Book()))
        for name in nodes.nodes[:2]:
            nodes.kill(name)
        with pytest.raises(BrokerUnavailable):
            nodes.client.submit("echo", request_timeout=20)
        assert nodes.leader is None
        with pytest.raises(InvalidState, match="nobody leads"):
            nodes.kill("leader")
        with pytest.raises(Breach, match="a leader"):
            nodes.elect()
        nodes.restart("n1")
        nodes.elect()
        assert nodes.client.wait(nodes.client.submit("echo", b"x").id, 30).result == b"x"


def test_power_and_stop() -> None:
    with cluster(3) as nodes:
        nodes.worker(handlers(Book()))
        first = nodes.client.submit("echo", b"1")
        lost = nodes.lose_power("leader")
        assert nodes.client.wait(first.id, 60).result == b"1"
        nodes.restart(lost)
        nodes.advance(5)
        stopped = nodes.stop("leader")
        assert nodes.elect() != stopped
        with pytest.raises(InvalidState, match="does not run"):
            nodes.kill(stopped)
        nodes.restart(stopped)
        with pytest.raises(InvalidState, match="runs"):
            nodes.restart(stopped)


def test_a_leader_that_is_cut_off_is_replaced() -> None:
    with cluster(3) as nodes:
        old = nodes.elect()
        nodes.partition([old, "client"])
        nodes.advance(10)
        new = nodes.elect()
        assert new != old
        with pytest.raises(BrokerUnavailable):
            nodes.client.submit("echo", request_timeout=10)
        nodes.heal()
        assert nodes.client.submit("echo").outcome == "created"


def test_a_worker_that_is_cut_off_loses_its_task_and_is_refused() -> None:
    book = Book()
    with cluster(3, lease=5) as nodes:
        slow = nodes.worker(handlers(book), name="slow")
        submitted = nodes.client.submit("nap", b"8", retry=Retry(max_attempts=2))
        nodes.advance(1)
        nodes.partition([slow], nodes.nodes)
        nodes.worker(handlers(book), name="quick")
        info = nodes.client.wait(submitted.id, 60)
        assert (info.state, info.crashes) == ("completed", 1)
        nodes.heal()
        nodes.advance(10)
        assert nodes.client.get(submitted.id).fence == info.fence
        assert nodes.client.wait(nodes.client.submit("echo").id, 10).state == "completed"


def test_names_are_checked() -> None:
    with cluster(3) as nodes:
        with pytest.raises(InvalidRequest, match="leader"):
            nodes.kill("n9")
        with pytest.raises(InvalidRequest, match="two groups"):
            nodes.partition(["n1"], ["n1", "n2"])
        worker = nodes.worker(handlers(Book()))
        assert nodes.kill(worker) == worker.name
        assert not worker.is_up


def test_all_is_mended_for_the_verdict() -> None:
    with cluster(3) as nodes:
        nodes.client.submit("echo")
        nodes.kill("leader")
        nodes.partition(["n1"], ["n2"])


# ---- a broken promise is seen --------------------------------------------------------------------------------------


def test_a_node_with_another_state_is_seen() -> None:
    with pytest.raises(Breach, match="another state") as caught, cluster(3, seed=5) as nodes:  # noqa: PT012
        submitted = nodes.client.submit("echo")
        nodes.advance(1)
        store = nodes._world.hosts["n2"].store
        raw = store.txn.get(Table.TASKS, bytes.fromhex(submitted.id.replace("-", "")))
        assert raw is not None
        store.txn.put(Table.TASKS, b"\0" * 16, raw)
    assert any("seed=5" in note for note in caught.value.__notes__)


def test_a_task_that_is_lost_is_seen() -> None:
    with pytest.raises(Breach, match=r"the contract was not kept; this is a bug of tq:\nlost"), cluster(1) as nodes:  # noqa: PT012
        submitted = nodes.client.submit("echo")
        store = nodes._world.hosts["n1"].store
        store.txn.delete(Table.TASKS, bytes.fromhex(submitted.id.replace("-", "")))
        nodes._world.effects.digests.clear()
        nodes._history.records.reads.clear()


def test_the_verdict_can_be_left_out() -> None:
    with cluster(3, check=False) as nodes:
        nodes._world.hosts["n2"].store.txn.put(Table.TASKS, b"\0" * 16, b"nonsense")
