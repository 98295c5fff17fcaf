"""The client's end of a simulated connection, and the line that dials again."""

from __future__ import annotations

from typing import Any

import pytest

from tq.protocol import messages as m
from tq.protocol.addresses import Addresses, parse
from tq.testing import Cluster, cluster
from tq.testing.wire import HELLO_MS, Line, Refused


class Owner:
    """Of a line; writes down what it is told."""

    def __init__(self, nodes: Cluster, endpoint: str = "owner") -> None:
        self.world = nodes._world
        self.told: list[Any] = []
        self.line = Line(
            self.world, endpoint, "a test", Addresses(parse(self.world.addresses)), self.world.random.fork(),
            lambda hello: self.told.append(f"hello of {hello.node}"), self.told.append, lambda: self.told.append("lost"),
        )  # fmt: skip
        self.world.actors.append(self)
        self.sessions: dict[bytes, int] = {}

    def pump(self) -> bool:
        return self.line.pump()

    def due_ms(self) -> int | None:
        return self.line.due_ms()


def test_it_greets_and_talks() -> None:
    with cluster(3) as nodes:
        owner = Owner(nodes)
        nodes.advance(1)
        assert owner.told == ["hello of n1"]
        owner.line.send([m.Ping(1)])
        nodes.advance(1)
        assert [type(message) for message in owner.told[1:]] == [m.PingReply]


def test_it_dials_the_next_when_one_dies() -> None:
    with cluster(3) as nodes:
        owner = Owner(nodes)
        nodes.advance(1)
        nodes.kill("n1")
        nodes.advance(1)
        assert owner.told == ["hello of n1", "lost", "hello of n2"]
        assert owner.line.due_ms() is None


def test_what_a_cut_holds_back_arrives_when_it_is_healed() -> None:
    with cluster(3) as nodes:
        owner = Owner(nodes)
        nodes.advance(1)
        nodes._world.groups = [{"owner"}, set(nodes.nodes)]
        owner.line.send([m.Ping(1)])
        nodes.advance(60)
        assert owner.told == ["hello of n1"], "nobody told it that the connection is of no use"
        held = [wire for wire in nodes._world.hosts["n1"].clients if wire.socket.to_broker]
        assert len(held) == 1, "the broker has not seen it either"
        nodes.heal()
        nodes.advance(1)
        assert [type(message) for message in owner.told[1:]] == [m.PingReply]


def test_a_greeting_that_is_not_answered_is_given_up() -> None:
    with cluster(3) as nodes:
        world = nodes._world
        owner = Owner(nodes)
        owner.line.pump()  # the greeting is on its way
        world.groups = [{"owner"}, set(nodes.nodes)]
        nodes.advance(HELLO_MS / 1000 + 2)
        assert owner.told == []
        world.groups = []
        nodes.advance(3)
        assert len(owner.told) == 1


def test_nobody_and_a_partition_refuse() -> None:
    with cluster(3) as nodes:
        world = nodes._world
        with pytest.raises(Refused, match="connection refused"):
            world.dial("owner", ("127.0.0.1", 1))
        nodes.kill("n2")
        with pytest.raises(Refused, match="connection refused"):
            world.dial("owner", ("127.0.0.1", 9002))
        world.groups = [{"owner"}, {"n1"}]
        with pytest.raises(Refused, match="partition"):
            world.dial("owner", ("127.0.0.1", 9001))
        world.groups = []


def test_a_process_that_is_gone_says_nothing_more() -> None:
    with cluster(1) as nodes:
        owner = Owner(nodes)
        nodes.advance(1)
        before = nodes.client.stats()["connections"]
        owner.line.vanish()
        nodes.advance(1)
        assert nodes.client.stats()["connections"] == before, "it dialed again, and the old one is gone"
        assert owner.told == ["hello of n1", "lost", "hello of n1"]
