"""On real sockets, on loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tq import limits
from tq.raft.transport.frames import CHANNEL_FORWARD, CHANNEL_RAFT
from tq.raft.transport.handshake import Side
from tq.raft.transport.link import Ident, Link
from tq.raft.transport.shell import PeerTransport
from tq.world import RealClock, RealRandom

SECRET = b"s" * 32


def listener(port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(100)
    sock.setblocking(False)
    return sock


class Peer:
    """One node of a pair."""

    def __init__(
        self, name: str, secret: bytes = SECRET, judge: Callable[[Ident], str | None] = lambda _: None
    ) -> None:
        self.name = name
        self.secret = secret
        self.judge = judge
        self.listener = listener()
        self.port = self.listener.getsockname()[1]
        self.messages: list[tuple[str, int, bytes]] = []
        self.changes: list[tuple[str, bool]] = []
        self.gone: list[str] = []
        self.moved = trio.Event()
        self.transport: PeerTransport | None = None

    @asynccontextmanager
    async def running(self, **peers: int) -> AsyncIterator[PeerTransport]:
        def message(peer: Ident, channel: int, body: bytes) -> None:
            self.messages.append((peer.node_id, channel, body))
            self._move()

        def change(peer: str, reachable: bool) -> None:
            self.changes.append((peer, reachable))
            self._move()

        def gone(peer: str) -> None:
            self.gone.append(peer)
            self._move()

        transport = PeerTransport(
            me=lambda: Ident(b"c" * 16, self.name, b"i" * 16, ""),
            peers={peer: ("127.0.0.1", port) for peer, port in peers.items()},
            secret=self.secret, judge=self.judge, on_message=message, on_change=change,
            on_gone=gone,
            clock=RealClock(), random=RealRandom(),
        )  # fmt: skip
        self.transport = transport
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.run, self.listener)
            try:
                yield transport
            finally:
                nursery.cancel_scope.cancel()

    def _move(self) -> None:
        self.moved.set()
        self.moved = trio.Event()

    async def until(self, look: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not look():
                await self.moved.wait()

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Peer, Peer]]:
    one, two = Peer("n1"), Peer("n2")
    yield one, two
    one.close()
    two.close()


async def test_both_ways_small_and_large(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    async with one.running(n2=two.port) as to_two, two.running(n1=one.port) as to_one:
        await one.until(lambda: to_two.can_send("n2"))
        await two.until(lambda: to_one.can_send("n1"))
        large = bytes(range(256)) * 40_000
        assert to_two.send("n2", CHANNEL_RAFT, large)
        assert to_two.send("n2", CHANNEL_RAFT, b"alive", urgent=True)
        assert to_one.send("n1", CHANNEL_FORWARD, b"request")
        await two.until(lambda: len(two.messages) == 2)
        await one.until(lambda: len(one.messages) == 1)
        assert sorted(two.messages, key=lambda m: len(m[2])) == [("n1", 0, b"alive"), ("n1", 0, large)]
        assert one.messages == [("n2", 1, b"request")]
        assert not to_two.send("n3", CHANNEL_RAFT, b"nobody")


async def test_another_secret_reaches_nobody(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    two.secret = b"x" * 32
    async with one.running(n2=two.port) as to_two, two.running(n1=one.port):
        with trio.fail_after(30):
            while "secret" not in str(to_two.statistics()["n2"]["reason"]):
                await trio.lowlevel.checkpoint()
        assert not to_two.send("n2", CHANNEL_RAFT, b"psst")
        assert one.changes == two.changes == []


async def test_a_refusal_is_told_to_who_dialed(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    two.judge = lambda ident: f"{ident.node_id} has another data directory"
    async with one.running(n2=two.port) as to_two, two.running(n1=one.port):
        with trio.fail_after(30):
            while to_two.statistics()["n2"]["reason"] != "the peer refused: n1 has another data directory":
                await trio.lowlevel.checkpoint()


async def test_connections_with_who_is_ruled_out_end_and_nothing_more_is_given_out(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    async with one.running(n2=two.port) as to_two, two.running(n1=one.port) as to_one:
        await one.until(lambda: to_two.can_send("n2"))
        await two.until(lambda: to_one.can_send("n1"))
        await one.until(lambda: len(to_two._heard) == 1)
        one.judge = lambda ident: "it was rebuilt"
        assert to_one.send("n1", CHANNEL_RAFT, b"under way")
        to_two.drop(lambda ident: ident.node_id == "n2")
        await one.until(lambda: ("n2", False) in one.changes)
        await two.until(
            lambda: "it was rebuilt" in str(to_one.statistics()["n1"]["reason"]) or two.changes[-1:] == [("n1", False)]
        )
        assert one.messages == []


async def test_a_refusal_while_something_is_being_sent_ends_the_connection_without_a_word(
    pair: tuple[Peer, Peer],
) -> None:
    """One task reads a connection that was dialed and another one writes it: the last word may not cut into a message."""
    one, two = pair
    near, _far = trio.testing.memory_stream_pair()
    gate = trio.Event()
    near.send_stream.send_all_hook = gate.wait
    link = Link(Side.DIALER, Ident(None, "n1", None, "n2"), SECRET, one.judge, RealClock(), RealRandom())
    link._handshake = None  # as after it
    async with one.running(n2=two.port) as to_two, trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, b"message")
        await trio.testing.wait_all_tasks_blocked()
        await to_two._farewell(link, near, "you may not come back")
        nursery.cancel_scope.cancel()


async def test_a_process_that_ended_is_told_of(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    async with one.running(n2=two.port) as to_two:
        async with two.running(n1=one.port) as to_one:
            await one.until(lambda: to_two.can_send("n2"))
            await two.until(lambda: to_one.can_send("n1"))
            two.close()  # as the kernel does, in one go
        await one.until(lambda: bool(one.gone))
    assert set(one.gone) == {"n2"}


async def test_who_refuses_calls_and_still_talks_has_not_ended(pair: tuple[Peer, Peer]) -> None:
    """What it sends is heard, or to be read yet."""
    one, two = pair
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        async with one.running(n2=nobody.getsockname()[1]) as to_two:
            async with two.running(n1=one.port) as to_one:
                await two.until(lambda: to_one.can_send("n1"))
                await one.until(lambda: bool(one.gone) or "refused" in str(to_two.statistics()["n2"]["reason"]))
                one.gone.clear()  # of the time before the call
                for number in range(5):
                    to_two.introduce_again()
                    to_one.send("n1", CHANNEL_RAFT, b"%d" % number)
                    await one.until(lambda number=number: len(one.messages) == number + 1)
                assert one.gone == []
            await one.until(lambda: bool(one.gone))
    assert set(one.gone) == {"n2"}


async def test_a_connection_that_breaks_is_no_end_of_the_process(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    async with one.running(n2=two.port) as to_two, two.running(n1=one.port) as to_one:
        await two.until(lambda: to_one.can_send("n1"))
        for number in range(1, 5):
            await one.until(lambda number=number: one.changes.count(("n2", True)) == number)
            for scope in [*two.transport._accepted.values()]:
                scope.cancel()
        await one.until(lambda: to_two.can_send("n2"))
    assert one.gone == two.gone == []


async def test_a_peer_that_comes_back_is_reached_again(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    async with one.running(n2=two.port) as to_two:
        async with two.running(n1=one.port):
            await one.until(lambda: one.changes == [("n2", True)])
        await one.until(lambda: one.changes[-1] == ("n2", False))
        assert not to_two.send("n2", CHANNEL_RAFT, b"lost")
        async with two.running(n1=one.port):
            await one.until(lambda: one.changes[-1] == ("n2", True))
            assert to_two.send("n2", CHANNEL_RAFT, b"again")
            await two.until(lambda: two.messages == [("n1", 0, b"again")])


async def test_a_node_that_dials_again_replaces_its_older_connection(pair: tuple[Peer, Peer]) -> None:
    """Its older one may be half open, and would take a place for ever."""
    one, two = pair
    twin = Peer("n1")
    async with two.running(n1=one.port), one.running(n2=two.port):
        await one.until(lambda: one.changes == [("n2", True)])
        async with twin.running(n2=two.port) as to_two:
            await twin.until(lambda: to_two.can_send("n2"))
            await one.until(lambda: ("n2", False) in one.changes)
    twin.close()


async def test_strangers_are_bounded_and_stop_no_peer(pair: tuple[Peer, Peer]) -> None:
    one, two = pair
    async with two.running(n1=one.port):
        strangers = [socket.create_connection(("127.0.0.1", two.port)) for _ in range(limits.PEER_STRANGERS_MAX)]
        one_too_many = socket.create_connection(("127.0.0.1", two.port))
        one_too_many.setblocking(False)
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(one_too_many)
        assert one_too_many.recv(1) == b""
        strangers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        strangers[0].setblocking(False)
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(strangers[0])
        assert strangers[0].recv(1) == b""  # cut off at once, and its place is free
        async with one.running(n2=two.port) as to_two:
            await one.until(lambda: to_two.can_send("n2"))
        for sock in (*strangers, one_too_many):
            sock.close()


async def test_a_peer_that_comes_back_is_dialed_at_once(
    pair: tuple[Peer, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the pause was going to be."""
    one, two = pair
    monkeypatch.setattr(limits, "PEER_DIAL_MS_MIN", 3_600_000)
    monkeypatch.setattr(limits, "PEER_DIAL_MS_MAX", 3_600_000)
    two.listener.close()
    async with one.running(n2=two.port) as to_two:
        with trio.fail_after(30):
            while "refused" not in str(to_two.statistics()["n2"]["reason"]):
                await trio.lowlevel.checkpoint()
        two.listener = listener(two.port)
        async with two.running(n1=one.port):
            await one.until(lambda: to_two.can_send("n2"))
