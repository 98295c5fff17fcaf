from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq import limits
from tq.errors import ProtocolError
from tq.protocol.frames import encode_frame
from tq.raft.transport.frames import CHUNK, IDENT, IDENT_BYTES_MAX, LAST, MORE, PING, WHOLE, Inbox


def opened(message_bytes_max: int = limits.PEER_MESSAGE_BYTES_MAX) -> Inbox:
    box = Inbox(message_bytes_max)
    box.identified()
    return box


def feed(box: Inbox, *frames: bytes) -> list[tuple[int, int, bytes]]:
    box.receive(b"".join(frames))
    found = []
    while (frame := box.next()) is not None:
        found.append(frame)
    return found


def test_other_frames_come_between_the_pieces_of_a_message() -> None:
    found = feed(
        opened(),
        encode_frame(CHUNK, bytes([1, MORE]) + b"ab"),
        encode_frame(PING, b"12345678"),
        encode_frame(WHOLE, b"\0small"),
        encode_frame(CHUNK, bytes([1, LAST]) + b"cd"),
    )
    assert found == [(PING, 0, b"12345678"), (WHOLE, 0, b"small"), (WHOLE, 1, b"abcd")]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (encode_frame(99, b""), "type 99"),
        (encode_frame(WHOLE, b""), "no channel"),
        (encode_frame(WHOLE, b"\x09x"), "no channel"),
        (encode_frame(CHUNK, b"\0"), "whether more come"),
        (encode_frame(CHUNK, b"\0\x07x"), "whether more come"),
        (encode_frame(PING, b"123"), "3 bytes"),
        (encode_frame(CHUNK, b"\0\0a") + encode_frame(CHUNK, b"\x01\0b"), "another message"),
        ((limits.PEER_CHUNK_BYTES + 100).to_bytes(4) + b"\x04", "at most"),
    ],
)
def test_what_is_not_ours_is_refused(frame: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        feed(opened(), frame)


def test_a_message_of_pieces_is_bounded() -> None:
    box = opened(message_bytes_max=100)
    assert feed(box, encode_frame(CHUNK, b"\0\0" + b"x" * 100)) == []
    with pytest.raises(ProtocolError, match="more than 100"):
        feed(box, encode_frame(CHUNK, b"\0\0x"))


def test_before_the_peer_is_known_frames_are_small() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        feed(Inbox(), encode_frame(IDENT, b"x" * IDENT_BYTES_MAX))


@given(st.lists(st.binary(max_size=64), max_size=6))
def test_random_bytes_give_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    box = opened()
    for piece in pieces:
        try:
            feed(box, piece)
        except ProtocolError:
            return
