from __future__ import annotations

import attrs
import pytest

from tq import cbor, limits
from tq.errors import ProtocolError
from tq.protocol.frames import encode_frame
from tq.raft.transport import frames
from tq.raft.transport.handshake import Side
from tq.raft.transport.link import Ident, Link
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom

CLUSTER = b"c" * 16
N1 = Ident(CLUSTER, "n1", b"1" * 16, "n2")
N2 = Ident(CLUSTER, "n2", b"2" * 16, "")


def anyone(_ident: Ident) -> str | None:
    return None


class Pair:
    """A dialer and an acceptor with a wire between them that is moved by hand."""

    def __init__(self, n1: Ident = N1, n2: Ident = N2, judge=anyone, secret: bytes = b"s" * 32) -> None:
        self.clock = VirtualClock()
        self.dialer = Link(Side.DIALER, n1, b"s" * 32, anyone, self.clock, SeededRandom(1))
        self.acceptor = Link(Side.ACCEPTOR, n2, secret, judge, self.clock, SeededRandom(2))

    def move(self) -> list[tuple[int, bytes]]:
        messages = []
        while True:
            there, back = self.dialer.data_to_send(), self.acceptor.data_to_send()
            if not there and not back:
                return messages
            if there:
                messages += self.acceptor.receive(there)
            if back:
                assert self.dialer.receive(back) == []


def test_each_learns_who_the_other_is_and_messages_go_one_way() -> None:
    pair = Pair()
    assert pair.move() == []
    assert pair.acceptor.peer == N1
    assert pair.dialer.peer == attrs.evolve(N2, to_id="n1")
    pair.dialer.outbox.push(frames.CHANNEL_RAFT, b"hello")
    pair.dialer.outbox.push(frames.CHANNEL_FORWARD, b"x" * 1_000_000)
    assert pair.move() == [(0, b"hello"), (1, b"x" * 1_000_000)]


def test_a_directory_that_was_admitted_later_says_so() -> None:
    later = attrs.evolve(N1, admitted_index=9)
    assert Ident.decode(later.encode()) == later
    assert len(cbor.loads(N1.encode())) == 4
    pair = Pair(n1=later)
    pair.move()
    assert pair.acceptor.peer == later


def test_a_connection_that_is_over_gives_nothing_out() -> None:
    pair = Pair()
    pair.move()
    pair.dialer.outbox.push(frames.CHANNEL_RAFT, b"said before it was ruled out")
    pair.acceptor.is_over = True
    assert pair.move() == []


def test_a_message_against_the_stream_is_refused() -> None:
    pair = Pair()
    pair.move()
    pair.acceptor.outbox.push(frames.CHANNEL_RAFT, b"the wrong way")
    with pytest.raises(ProtocolError, match="the other way"):
        pair.move()
    assert pair.dialer.is_over


@pytest.mark.parametrize(
    ("n1", "n2", "says"),
    [
        (attrs.evolve(N1, to_id="n3"), N2, "takes this node for n3"),
        (N1, attrs.evolve(N2, node_id="n9"), "takes this node for n2"),
    ],
)
def test_a_node_that_is_not_meant_is_refused(n1: Ident, n2: Ident, says: str) -> None:
    pair = Pair(n1, n2)
    with pytest.raises(ProtocolError, match=says):
        pair.move()


def test_the_judge_is_asked_and_its_word_reaches_the_peer() -> None:
    pair = Pair(judge=lambda ident: f"{ident.node_id} belongs to another cluster")
    with pytest.raises(ProtocolError, match="another cluster"):
        pair.move()
    pair.dialer.receive(pair.acceptor.farewell("n1 belongs to another cluster"))
    assert pair.dialer.farewell_heard == "n1 belongs to another cluster"
    assert pair.dialer.is_over


def test_a_stranger_gets_no_farewell() -> None:
    pair = Pair(secret=b"x" * 32)
    with pytest.raises(ProtocolError, match="secret"):
        pair.move()
    assert pair.dialer.farewell("why") == b""


@pytest.mark.parametrize(
    "ident",
    [b"", b"\xff", cbor.dumps(1), cbor.dumps(["c", "n1", None, "n2"]), cbor.dumps([None, "", None, "n2"]),
     cbor.dumps([None, "n1", None, "n2", 0]), cbor.dumps([None, "n1", None, "n2", True]), cbor.dumps([None, "n1", None, "n2", 1, 1]),
     cbor.dumps([None, "n1", b"short", "n2"]), cbor.dumps([None, "n" * 500, None, "n2"])],
)  # fmt: skip
def test_an_ident_that_is_none(ident: bytes) -> None:
    with pytest.raises(ProtocolError, match="IDENT"):
        Ident.decode(ident)


def test_nothing_comes_before_ident_and_ident_comes_once() -> None:
    pair = Pair()
    pair.acceptor.receive(pair.dialer.data_to_send())
    pair.dialer.receive(pair.acceptor.data_to_send())
    proof_and_ident = pair.dialer.data_to_send()
    with pytest.raises(ProtocolError, match="did not say who"):
        pair.acceptor.receive(proof_and_ident[:32] + encode_frame(frames.WHOLE, b"\0x"))
    pair = Pair()
    pair.move()
    with pytest.raises(ProtocolError, match="twice"):
        pair.acceptor.receive(encode_frame(frames.IDENT, N1.encode()))


def test_silence_is_asked_about_and_then_ends_it() -> None:
    pair = Pair()
    pair.move()
    pair.clock.advance_ms(limits.PEER_PING_MS)
    pair.dialer.tick()
    pair.acceptor.tick()
    pair.move()
    pair.clock.advance_ms(limits.PEER_SILENCE_MS - 1)
    pair.dialer.tick()
    assert not pair.dialer.is_over
    pair.dialer.data_to_send()  # lost
    pair.clock.advance_ms(1)
    pair.dialer.tick()
    assert pair.dialer.is_over


def test_who_does_not_say_who_it_is_has_little_time() -> None:
    pair = Pair()
    assert pair.acceptor.tick_at_ms - pair.clock.monotonic_ms() == limits.PEER_HANDSHAKE_MS
    pair.clock.advance_ms(limits.PEER_HANDSHAKE_MS)
    pair.acceptor.tick()
    assert pair.acceptor.is_over
