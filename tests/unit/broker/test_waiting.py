"""A node that is in no cluster yet says so to whoever asks, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tq import config
from tq.broker import listen
from tq.broker.waiting import Waiting
from tq.errors import Backpressure, BrokerUnavailable
from tq.protocol import messages as m
from tq.sim.clock import VirtualClock

from .rig import task
from .test_listen import Client, free_port

PEERS = tuple(config.PeerEntry(f"n{n}", f"127.0.0.1:{n}", f"127.0.0.1:{n}0") for n in (1, 2, 3))
CONFIG = config.Config(
    node=config.NodeSection(id="n1"),
    cluster=config.ClusterSection(name="trio", peers=PEERS, secret_file="s"),
    limits=config.LimitsSection(connections_max=2),
)


class Node:
    def __init__(self) -> None:
        self.waits_for = ["n2", "n3"]
        self.ways: dict[str, dict[str, Any]] = {
            "n2": {"reachable": False, "reason": "Connection refused", "refused": None},
            "n3": {"reachable": True, "reason": None, "refused": None},
        }
        self.clock = VirtualClock()
        self.waiting = Waiting(CONFIG, self.clock, lambda: self.waits_for, lambda: self.ways)
        self.port = free_port()
        self.streams: list[trio.SocketStream] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with listen.open_listener("node.listen", f"127.0.0.1:{self.port}") as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen.accept_clients, self.waiting, listener, nursery)
                with trio.fail_after(30):
                    yield
                for stream in self.streams:
                    stream.socket.close()
                nursery.cancel_scope.cancel()

    async def connect(self, *, hello: bool = True) -> Client:
        client = Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.streams.append(client.stream)
        if hello:
            await client.call(m.Hello, 1, 1, "test")
        return client


async def test_it_shows_whom_it_waits_for_and_why():
    node = Node()
    node.clock.advance_ms(1_500)
    async with node.running():
        client = await node.connect()
        status = (await client.call(m.ClusterStatus)).status
        assert (await client.call(m.Ping)).index == 0
    waits = "n1 waits for n2 (Connection refused), n3 (it has not said yet that it belongs to it) to form the cluster"
    assert status["cluster"] == {
        "id": None, "name": "trio", "leader": None, "term": None, "answered_by": "n1", "waits": waits
    }  # fmt: skip
    assert status["may_lose"] == 0
    me, *others = status["nodes"]
    assert (me["id"], me["role"], me["serving"], me["uptime_ms"], me["waits"]) == ("n1", "waiting", False, 1_500, waits)
    assert [(other["id"], other["reachable"], other["reason"]) for other in others] == [
        ("n2", False, "Connection refused"),
        ("n3", False, "this node is in no cluster yet, and asks nobody"),
    ]


async def test_a_refusal_is_the_reason():
    node = Node()
    node.ways["n2"] = {"reachable": False, "reason": "closed", "refused": "n2 has another data directory"}
    async with node.running():
        client = await node.connect()
        assert "n2 (n2 has another data directory)" in (await client.call(m.ClusterStatus)).status["cluster"]["waits"]


async def test_other_requests_are_refused_and_the_connection_is_left():
    """A client that knows other nodes goes there, and one that does not tries again."""
    node = Node()
    async with node.running():
        client = await node.connect()
        with pytest.raises(BrokerUnavailable, match="nothing was done: n1 waits for n2") as caught:
            await client.call(m.SubmitTask, [task(1)], False)
        assert caught.value.retryable
        while -1 not in client.answers:  # pushes have no rid
            await client.receive()
        assert isinstance(client.answers[-1], m.GoAway)


async def test_it_takes_as_many_connections_as_a_broker():
    node = Node()
    async with node.running():
        assert [await node.connect(), await node.connect()]
        third = await node.connect(hello=False)
        with pytest.raises(Backpressure):
            await third.answer(None)


async def test_clients_are_let_go_when_a_broker_takes_over():
    node = Node()
    async with node.running():
        client = await node.connect()
        node.waiting.close()
        while await client.receive():
            pass
        assert isinstance(client.answers[-1], m.GoAway)
        assert not node.waiting.connections
