"""A node whose data directory is lost comes back under its name: `tq cluster rebuild`."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from tests.cluster.processes import Broker, Ground, eventually, start_all, tq
from tq import Client
from tq.errors import TqError

SETTINGS = {"cluster": {"profile": "fast"}, "limits": {"disk_free_min_bytes": 0}}


def config_of(node: Broker) -> Path:
    return node.data.with_name(f"{node.name}.toml")


def rebuild(node: Broker) -> str:
    done = tq("cluster", "rebuild", "--config", str(config_of(node)), "--yes")
    assert done.returncode == 0, done.stderr
    return done.stderr


class Load:
    """Submits until it is stopped; ``accepted`` is what was answered."""

    def __init__(self, addresses: list[str]) -> None:
        self.accepted: list[bytes] = []
        self._addresses = addresses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Client(self._addresses) as client:
            while not self._stop.is_set():
                try:
                    self.accepted.append(client.submit("echo", b"x").id)
                except TqError:
                    continue  # not accepted, or nobody knows: then it is not counted

    def stop(self) -> list[bytes]:
        self._stop.set()
        self._thread.join()
        return self.accepted


def test_a_node_that_lost_its_disk_is_rebuilt_under_load_and_counts_again(ground: Ground) -> None:
    nodes = ground.brokers(3, SETTINGS)
    start_all(nodes)
    lost = next(node for node in nodes if not node.leads())
    others = [node for node in nodes if node is not lost]
    load = Load([node.address for node in others])
    try:
        old = lost.data.with_name("old")
        lost.kill()
        shutil.copytree(lost.data, old)
        (lost.data / "raft" / "term-a").unlink()
        said = rebuild(lost)
        assert "lost-1" in said
        assert (lost.data / "lost-1" / "raft" / "term-b").exists()
        lost.start_ready()
        with Client([node.address for node in others]) as client:
            eventually("it counts again", lambda: client.cluster_status()["may_lose"] == 1, lost)
    finally:
        accepted = load.stop()
    gone = next(node for node in nodes if node.leads())
    gone.kill()
    left = [node for node in nodes if node is not gone]
    with Client([node.address for node in left]) as client:
        assert client.submit("echo", b"x").outcome == "created", "the rebuilt node makes a majority"
        client.list(limit=1, linearizable=True)
        assert len(accepted) > 10
        for id in accepted:
            assert client.get(id).state == "pending"
    lost.kill()
    shutil.rmtree(lost.data)
    old.rename(lost.data)
    lost.start()  # the directory that was lost
    eventually("it is told why", lambda: "rebuilt on another data directory" in lost.log.read_text(), lost)
