"""The worker's socket, against a broker of threads on the loopback."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from tests.unit.client.fake_broker import CLOSE, FakeBroker
from tq.errors import Unsupported, to_wire
from tq.protocol import messages as m
from tq.protocol.addresses import Address, parse_one
from tq.protocol.connection import NEED_DATA, BrokerConnection
from tq.worker.connection import Connection, ConnectionLost, dial


def pong(request: Any) -> m.Message:
    return m.PingReply(request.rid, 7)


async def test_it_says_hello_and_gets_answers() -> None:
    with FakeBroker(pong) as broker:
        connection = await dial(parse_one(broker.address))
        hello = await connection.greet("w")
        assert (hello.node, connection.address) == ("n1", broker.address)
        connection.send([m.Ping(1), m.Ping(2)])
        answers: list[m.Message] = []
        while len(answers) < 2:
            answers += await connection.read()
        assert answers == [m.PingReply(1, 7), m.PingReply(2, 7)]
        connection.close()


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: Address = listener.getsockname()
    with pytest.raises(ConnectionLost, match=r"[Rr]efused"):
        await dial(address)


async def test_the_end_of_the_connection_comes_out_of_read() -> None:
    with FakeBroker(lambda _request: CLOSE) as broker:
        connection = await dial(parse_one(broker.address))
        await connection.greet("w")
        connection.send([m.Ping(1)])
        with pytest.raises(ConnectionLost):
            await connection.read()
        connection.send([m.Ping(2)])  # takes nothing, says nothing
        connection.close()


class Peer:
    """The broker's end, by hand."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        ours.setblocking(False)
        self.socket.setblocking(False)
        self.protocol = BrokerConnection()
        self.connection = Connection(ours, ("127.0.0.1", 7379))

    async def receive(self) -> Any:
        while (event := self.protocol.next_event()) is NEED_DATA:
            await trio.lowlevel.wait_readable(self.socket)
            self.protocol.receive_data(self.socket.recv(1 << 20))
        return event

    def say(self, *messages: m.Message) -> None:
        self.socket.sendall(b"".join(self.protocol.send(message) for message in messages))

    async def open(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.connection.greet, "w")
            hello = await self.receive()
            self.say(m.HelloReply(hello.rid, 1, [], {}, 1_000, b"C" * 16, "n1", None, "tq/test", 0))

    def close(self) -> None:
        self.socket.close()
        self.connection.close()


async def test_a_refusal_of_hello_is_raised() -> None:
    peer = Peer()
    peer.connection.send([])

    async def refuse() -> None:
        hello = await peer.receive()
        peer.say(m.ErrorReply(hello.rid, to_wire(Unsupported("too old"))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(Unsupported, match="too old"):
            await peer.connection.greet("w")
    peer.close()


async def test_a_broker_that_stops_before_hello_is_no_connection() -> None:
    peer = Peer()
    peer.say(m.GoAway("stopping"))
    with pytest.raises(ConnectionLost):
        await peer.connection.greet("w")
    peer.close()


async def test_a_hello_that_is_not_answered_has_an_end(autojump_clock: trio.abc.Clock) -> None:
    peer = Peer()
    with pytest.raises(ConnectionLost, match="HELLO was not answered"):
        await peer.connection.greet("w")
    peer.close()


async def test_what_the_kernel_does_not_take_at_once_leaves_in_order() -> None:
    peer = Peer()
    await peer.open()
    connection = peer.connection
    big = [[bytes(16), n, 0, ["", b"x" * 1_000_000]] for n in range(4)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.drain_output)
        connection.send([m.TaskResult(1, bytes(16), big)])
        peer.protocol.receive_data(peer.socket.recv(1 << 20))  # there is room again, but not for the next one
        connection.send([m.Ping(2)])
        first, second = await peer.receive(), await peer.receive()
        assert (first.rid, second.rid) == (1, 2)
        assert first.items == big
        nursery.cancel_scope.cancel()
    connection.send([m.Ping(3)])
    assert (await peer.receive()).rid == 3
    peer.close()


async def test_after_goaway_nothing_is_sent() -> None:
    peer = Peer()
    await peer.open()
    peer.say(m.GoAway("stopping"))
    (goaway,) = await peer.connection.read()
    assert isinstance(goaway, m.GoAway)
    peer.connection.send([m.Ping(1)])
    with pytest.raises(BlockingIOError):
        peer.socket.recv(1)
    peer.close()


async def test_messages_before_the_end_are_read_first() -> None:
    peer = Peer()
    await peer.open()
    peer.connection.send([m.Ping(1)])
    await peer.receive()
    peer.say(m.PingReply(1, 5))
    peer.socket.close()
    assert await peer.connection.read() == [m.PingReply(1, 5)]
    with pytest.raises(ConnectionLost, match="closed the connection"):
        await peer.connection.read()
    peer.connection.close()


async def test_another_protocol_is_told_as_such() -> None:
    peer = Peer()
    peer.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionLost, match="does not speak our protocol"):
        await peer.connection.greet("w")
    peer.close()
