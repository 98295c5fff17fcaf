"""Three real brokers that keep little log: who was away for long gets the state, and nothing is lost by it.

Sizes are chosen so that what is to be interrupted takes long enough to be met: 40 MiB of state travel in 40 parts.
"""

from __future__ import annotations

import os
import threading

import pytest

from tests.cluster.processes import Broker, Ground, eventually, start_all
from tq import Client
from tq.client.specs import TaskSpec
from tq.errors import TqError
from tq.store.dump import state_digest
from tq.store.lmdb_store import LmdbStore
from tq.world import RealClock, RealDisk

MIB = 1 << 20
SETTINGS = {
    "cluster": {"profile": "default"},  # on a busy machine the fast one changes leaders, which is not the matter here
    "leases": {"lease_ms": 1_500, "heartbeat_ms": 400, "session_ms": 1_500},
    "limits": {"disk_free_min_bytes": 0},
    "storage": {"log_keep_bytes": 1 * MIB},
}


@pytest.fixture
def nodes(ground: Ground) -> list[Broker]:
    nodes = ground.brokers(3, SETTINGS)
    start_all(nodes)
    return nodes


def follower_of(nodes: list[Broker]) -> Broker:
    leader_of(nodes)
    return next(node for node in nodes if not node.leads())


def leader_of(nodes: list[Broker]) -> Broker:
    found: list[Broker] = []

    def look() -> bool:
        found[:] = [node for node in nodes if node.alive and node.leads()]
        return len(found) == 1

    eventually("one node leads", look, next(node for node in nodes if node.alive))
    return found[0]


def client_of(nodes: list[Broker]) -> Client:
    return Client([node.address for node in nodes])


def write(client: Client, mib: int) -> int:
    """Tasks of a MiB each; the index behind them."""
    for _ in range(mib // 8):
        for item in client.submit_many([TaskSpec(type="echo", payload=os.urandom(MIB)) for _ in range(8)]):
            assert item.outcome in ("created", "duplicate"), item  # it was sent again to a new leader
    return client.last_index


def segments(node: Broker) -> list[str]:
    return sorted(name for name in os.listdir(node.data / "raft") if name.endswith(".seg"))


def snapshot_files(node: Broker, suffix: str) -> list[os.DirEntry[str]]:
    folder = node.data / "snapshot"
    return [entry for entry in os.scandir(folder) if entry.name.endswith(suffix)] if folder.exists() else []


def wait_applied(node: Broker, index: int) -> None:
    """Until it is ready and has applied it."""

    def look() -> bool:
        if not node.ready():
            return False
        with Client(node.address) as client:
            return bool(client.stats()["applier"]["applied_index"] >= index)

    eventually(f"{node.name} has applied {index}", look, node)


def statistics(node: Broker) -> dict[str, int]:
    with Client(node.address) as client:
        found: dict[str, int] = client.stats()["snapshots"]
        return found


class Load:
    """Submits without pause, from a thread, whatever happens to the nodes. ``ids`` were accepted."""

    def __init__(self, nodes: list[Broker]) -> None:
        self.ids: list[bytes] = []
        self._client = client_of(nodes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ids.append(self._client.submit("echo", os.urandom(2_000), queue="load", timeout=30).id)
            except TqError:
                if self._stop.wait(0.05):
                    return

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


def compare(nodes: list[Broker], load: Load | None = None) -> None:
    """All nodes hold the same, and all that was accepted."""
    with client_of(nodes) as client:
        for id in load.ids[:: 1 + len(load.ids) // 50] if load is not None else []:
            assert client.get(id).state == "pending"
    for _ in range(5):  # who stops last may have decided something alone
        with client_of(nodes) as client:
            index = client.submit("echo", b"the last").id and client.last_index
        for node in nodes:
            wait_applied(node, index)
        for node in nodes:
            node.terminate()
        assert [node.wait(40) for node in nodes] == [0, 0, 0]
        ends = {state_of(node) for node in nodes}
        if len({index for index, _ in ends}) == 1:
            assert len(ends) == 1, "the states of the nodes differ"
            return
        start_all(nodes)
    raise AssertionError("the nodes never stopped at one index")


def state_of(node: Broker) -> tuple[int, bytes]:
    store = LmdbStore.open(RealDisk(str(node.data)), "store", RealClock())
    try:
        return store.checkpointed_index, state_digest(store.txn)
    finally:
        store.close()


@pytest.fixture
def behind(nodes: list[Broker]) -> Broker:
    """A node that is down, and needs entries that the others have cut off."""
    down = follower_of(nodes)
    down.kill()
    had = segments(down)[-1]
    others = [node for node in nodes if node is not down]
    with client_of(others) as client:
        write(client, 40)
    for node in others:
        eventually("its log is cut", lambda node=node: segments(node)[0] > had, node)  # type: ignore[misc]
    return down


def test_a_node_that_was_down_for_long_catches_up_under_load(nodes: list[Broker], behind: Broker) -> None:
    with Load(nodes) as load:
        eventually("the load runs", lambda: len(load.ids) > 10, leader_of(nodes))
        behind.start_ready()
        with client_of(nodes) as client:
            index = client.submit("echo", b"to be seen").id and client.last_index
        with Client(behind.address) as client:
            assert client.list(min_index=index, limit=1).tasks  # it waits, and is answered by the new state
        eventually("it has installed one", lambda: statistics(behind)["installed"] == 1, behind)
        accepted = len(load.ids)
        eventually("the load goes on", lambda: len(load.ids) > accepted + 10, behind)
    assert snapshot_files(behind, ".whole") == snapshot_files(behind, ".part") == []
    compare(nodes, load)
    assert all("gave up" not in node.log.read_text() for node in nodes)


def test_its_process_dies_while_it_is_sent(nodes: list[Broker], behind: Broker) -> None:
    behind.start()
    eventually(
        "some of it is there",
        lambda: any(part.stat().st_size > 4 * MIB for part in snapshot_files(behind, ".part")),
        behind,
    )
    behind.kill()
    assert snapshot_files(behind, ".whole") == []
    assert snapshot_files(behind, ".part") != []
    leader = leader_of(nodes)
    behind.start_ready()
    eventually("it has installed it", lambda: statistics(behind)["installed"] == 1, behind)
    if leader_of(nodes) is leader:
        assert leader.log.read_text().count("offers a snapshot") == 1, "it went on with the same one"
    compare(nodes)


def test_the_leader_dies_while_it_sends(nodes: list[Broker], behind: Broker) -> None:
    leader = leader_of(nodes)
    behind.start()
    eventually(
        "some of it is there",
        lambda: any(part.stat().st_size > 4 * MIB for part in snapshot_files(behind, ".part")),
        behind,
    )
    leader.kill()
    eventually(
        "another leads and sends its own", lambda: behind.ready() and statistics(behind)["installed"] == 1, behind
    )
    leader.start_ready()
    assert snapshot_files(leader, ".copy") == []
    compare(nodes)


@pytest.mark.parametrize("times", [1, 3])
def test_its_process_dies_while_it_installs(nodes: list[Broker], behind: Broker, times: int) -> None:
    for _ in range(times):
        behind.start()
        eventually("it is whole", lambda: snapshot_files(behind, ".whole") != [], behind)
        behind.kill()
        assert snapshot_files(behind, ".whole") != [], "it was too quick for this test"
    behind.start_ready()
    with client_of(nodes) as client:
        index = client.submit("echo", b"to be seen").id and client.last_index
    with Client(behind.address) as client:
        assert client.list(min_index=index, limit=1).tasks
    assert snapshot_files(behind, ".whole") == []
    compare(nodes)
