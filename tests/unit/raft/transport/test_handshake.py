from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.errors import ProtocolError
from tq.raft.transport.handshake import MAGIC, NONCE_BYTES, PROOF_BYTES, VERSION, Handshake, Side
from tq.sim.random import SeededRandom

SECRET = b"s" * 32
HELLO_BYTES = 6 + NONCE_BYTES


def pair(dialer_secret: bytes = SECRET, acceptor_secret: bytes = SECRET) -> tuple[Handshake, Handshake]:
    return (
        Handshake(Side.DIALER, dialer_secret, SeededRandom(1)),
        Handshake(Side.ACCEPTOR, acceptor_secret, SeededRandom(2)),
    )


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_both_are_done_and_keep_what_comes_behind(step: int) -> None:
    dialer, acceptor = pair()
    for side, other, tail in ((dialer, acceptor, b""), (acceptor, dialer, b"more"), (dialer, acceptor, b"IDENT")):
        data = side.data_to_send() + tail
        for at in range(0, len(data), step):
            if other.is_done:
                other.rest += data[at : at + step]  # as the link does it
            else:
                other.receive(data[at : at + step])
    assert dialer.is_done
    assert acceptor.is_done
    assert (dialer.rest, acceptor.rest) == (b"more", b"IDENT")


def test_the_acceptor_proves_first_so_a_dialer_tells_a_stranger_nothing() -> None:
    dialer, acceptor = pair(acceptor_secret=b"x" * 32)
    first = dialer.data_to_send()
    assert len(first) == HELLO_BYTES
    acceptor.receive(first)
    with pytest.raises(ProtocolError, match="does not know the secret"):
        dialer.receive(acceptor.data_to_send())
    assert dialer.data_to_send() == b""
    assert not dialer.is_done


def test_a_dialer_with_another_secret_is_refused() -> None:
    _, acceptor = pair()
    other, _ = pair(dialer_secret=b"x" * 32)
    acceptor.receive(other.data_to_send())
    acceptor.data_to_send()
    with pytest.raises(ProtocolError, match="does not know the secret"):
        acceptor.receive(b"\0" * PROOF_BYTES)


def test_a_recorded_handshake_proves_nothing() -> None:
    dialer, acceptor = pair()
    hello = dialer.data_to_send()
    acceptor.receive(hello)
    dialer.receive(acceptor.data_to_send())
    proof = dialer.data_to_send()
    again = Handshake(Side.ACCEPTOR, SECRET, SeededRandom(3))
    again.receive(hello)
    with pytest.raises(ProtocolError, match="does not know the secret"):
        again.receive(proof)


def test_a_proof_sent_back_to_its_maker_is_refused() -> None:
    """Reflection: a stranger dials us while we dial it, and hands us our own answers."""
    dialer, _ = pair()
    hello = dialer.data_to_send()
    with pytest.raises(ProtocolError, match="our own nonce"):
        dialer.receive(hello + b"\0" * PROOF_BYTES)
    dialer, _ = pair()
    acceptor = Handshake(Side.ACCEPTOR, SECRET, SeededRandom(4))
    acceptor.receive(dialer.data_to_send())
    answer = acceptor.data_to_send()
    with pytest.raises(ProtocolError, match="does not know the secret"):
        acceptor.receive(answer[HELLO_BYTES:])


def test_another_version_is_named() -> None:
    _, acceptor = pair()
    with pytest.raises(ProtocolError, match="version 9"):
        acceptor.receive(MAGIC + (9).to_bytes(2) + b"n" * NONCE_BYTES)
    assert VERSION == 1


@given(st.binary(max_size=200))
def test_strangers_are_refused_or_waited_for_and_nothing_else(data: bytes) -> None:
    for handshake in pair():
        try:
            handshake.receive(data)
        except ProtocolError:
            continue
        assert not handshake.is_done
        assert MAGIC.startswith(data[:4]) or data.startswith(MAGIC)
