"""Three nodes find each other on real sockets, and what they say reaches whom it is for."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tq.broker.peers import Peers
from tq.config import ClusterSection, Config, NodeSection, PeerEntry
from tq.errors import ProtocolError
from tq.raft.identity import Identity
from tq.raft.transport.frames import CHANNEL_FORWARD, CHANNEL_RAFT
from tq.sim.disk import SimDisk
from tq.world import RealClock, RealRandom


class Here:
    """One node: its identity, its peers, and what its Raft and its broker were given."""

    def __init__(self, id: str, config: Config, listener: socket.socket) -> None:
        self.listener = listener
        self.config = config
        self.raft: list[tuple[str, bytes]] = []
        self.broker: list[tuple[str, int, bytes]] = []
        self.passes: list[int] = []  # how many messages each of them found
        self.changes: list[tuple[str, bool]] = []
        ids = [entry.id for entry in config.cluster.peers]
        self.identity = Identity(SimDisk(), RealRandom(), node_id=id, peers=ids, has_journal=False)
        self.peers = Peers(config, self.identity, b"s" * 32, RealClock(), RealRandom())
        self.node: Any = SimpleNamespace(
            receive=self.receive, refusal=lambda *_: None, send=None, needs_turn=True, run_now=self.run_now
        )

    def receive(self, peer: str, message: bytes, incarnation: bytes) -> None:
        assert incarnation == self.identity.members[peer]
        if message == b"nonsense":
            raise ProtocolError("no message of ours")
        self.raft.append((peer, message))

    def run_now(self) -> None:
        self.passes.append(len(self.raft))

    def attach(self) -> None:
        broker: Any = SimpleNamespace(
            on_peer=lambda peer, reachable: self.changes.append((peer, reachable)),
            on_peer_message=lambda *message: self.broker.append(message),
        )
        self.peers.attach(self.node, broker)


@pytest.fixture
async def three(nursery: trio.Nursery) -> AsyncIterator[list[Here]]:
    listeners = []
    for _ in range(3):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        listeners.append(listener)
    entries = tuple(
        PeerEntry(f"n{number}", f"127.0.0.1:{listener.getsockname()[1]}", f"127.0.0.1:{number}")
        for number, listener in enumerate(listeners, 1)
    )
    cluster = ClusterSection(peers=entries, secret_file="secret")
    found = []
    for entry, listener in zip(entries, listeners, strict=True):
        found.append(Here(entry.id, Config(node=NodeSection(id=entry.id), cluster=cluster), listener))
    yield found
    nursery.cancel_scope.cancel()
    for listener in listeners:
        listener.close()


async def until(look: Any) -> None:
    with trio.fail_after(60):
        while not look():
            await trio.sleep(0.005)


async def test_three_form_a_cluster_and_talk(three: list[Here], nursery: trio.Nursery) -> None:
    for here in three:
        nursery.start_soon(here.peers.run, here.listener)
    with trio.fail_after(60):
        for here in three:
            await here.peers.formed()
    assert len({here.identity.cluster_id for here in three}) == 1
    n1, n2, n3 = three
    await until(lambda: n1.peers.send("n2", CHANNEL_RAFT, b"nobody is there yet"))
    n1.attach()
    n2.attach()
    await until(lambda: ("n2", True) in n1.changes and ("n1", True) in n2.changes)

    def said(message: bytes) -> bool:
        n1.node.send("n2", message)
        n1.peers.send("n2", CHANNEL_FORWARD, message)
        return ("n1", message) in n2.raft and ("n1", CHANNEL_FORWARD, message) in n2.broker

    await until(lambda: said(b"hello"))
    await until(lambda: n2.passes[-1] == len(n2.raft))
    assert n3.raft == n3.broker == []
    # Nodes introduce themselves again when the cluster is formed.
    await until(lambda: n1.peers.statistics()["n2"]["reachable"])
    n1.node.send("n2", b"nonsense")
    await until(lambda: ("n2", False) in n1.changes)  # the connection is given up, and made again
    passes = len(n2.passes)
    with pytest.raises(ProtocolError):
        n2.peers._on_message(n1.identity.ident(), CHANNEL_RAFT, b"nonsense")
    assert len(n2.passes) == passes + 1, "what came before it waits for a pass"
    await until(lambda: said(b"again"))


async def test_without_the_third_the_others_wait(three: list[Here], nursery: trio.Nursery) -> None:
    for here in three[:2]:
        nursery.start_soon(here.peers.run, here.listener)
    await until(lambda: three[0].identity.waits_for == ["n3"])
    with trio.move_on_after(0.2) as waiting:
        await three[0].peers.formed()
    assert waiting.cancelled_caught


async def test_a_node_on_another_disk_is_refused_and_that_can_be_seen(three: list[Here], nursery: trio.Nursery) -> None:
    for here in three:
        nursery.start_soon(here.peers.run, here.listener)
    with trio.fail_after(60):
        for here in three:
            await here.peers.formed()
    n1 = three[0]
    assert n1.peers.statistics()["n2"]["refused"] is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        wiped = Here("n2", three[1].config, listener)
        nursery.start_soon(wiped.peers.run, listener)
        await until(lambda: n1.peers.statistics()["n2"]["refused"] is not None)
    assert "another data directory" in str(n1.peers.statistics()["n2"]["refused"])
