"""Frames come out alike however the bytes come in, and a length is judged before memory is taken."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq import limits
from tq.errors import PayloadTooLarge, ProtocolError
from tq.protocol.frames import FrameReader, encode_frame

Frame = tuple[int, bytes]


def read(pieces: list[bytes], frame_bytes_max: int = limits.FRAME_BYTES_MAX) -> list[Frame]:
    reader = FrameReader(frame_bytes_max)
    frames = []
    for piece in pieces:
        reader.receive(piece)
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    return frames


def test_layout() -> None:
    assert encode_frame(0x1F, b"\x81\x07") == bytes.fromhex("00000003 1f 8107")


FRAMES: list[Frame] = [(1, b""), (255, b"a"), (0, bytes(3)), (7, b"x" * 300), (9, bytes(70_000))]
WHOLE = b"".join(encode_frame(*frame) for frame in FRAMES)


def test_whole() -> None:
    assert read([WHOLE]) == FRAMES


def test_byte_by_byte() -> None:
    assert read([bytes((byte,)) for byte in WHOLE]) == FRAMES


@pytest.mark.parametrize("size", [2, 3, 5, 7, 299, 304, 305, 306, 65_536])
def test_in_pieces(size: int) -> None:
    assert read([WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]) == FRAMES


def test_tail_waits() -> None:
    for end in range(1, 12):
        reader = FrameReader(100)
        whole = encode_frame(3, b"hello")
        reader.receive(whole + encode_frame(4, b"world!!")[:end])
        assert reader.next_frame() == (3, b"hello")
        assert reader.next_frame() is None
        assert not reader.is_at_border
        reader.receive(encode_frame(4, b"world!!")[end:])
        assert reader.next_frame() == (4, b"world!!")
        assert reader.next_frame() is None
        assert reader.is_at_border


def test_data_may_come_before_all_frames_were_taken() -> None:
    reader = FrameReader(100)
    reader.receive(encode_frame(1, b"a") + encode_frame(2, b"b"))
    assert reader.next_frame() == (1, b"a")
    reader.receive(encode_frame(3, b"c"))
    assert [reader.next_frame() for _ in range(3)] == [(2, b"b"), (3, b"c"), None]


@pytest.mark.parametrize("length", [0, 101, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("by_byte", [False, True])
def test_bad_length(length: int, by_byte: bool) -> None:
    """Known when four bytes are there, and told again each time."""
    reader = FrameReader(100)
    head = length.to_bytes(4, "big")
    for piece in [bytes((byte,)) for byte in head] if by_byte else [head]:
        assert reader.next_frame() is None
        reader.receive(piece)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.next_frame()
    reader.receive(b"\x01")
    with pytest.raises(ProtocolError):
        reader.next_frame()


def test_bound_is_of_type_and_body() -> None:
    assert read([encode_frame(1, bytes(99))], 100) == [(1, bytes(99))]
    with pytest.raises(ProtocolError, match="at most 100"):
        read([encode_frame(1, bytes(100))], 100)


def test_no_more_memory_than_bytes_that_came() -> None:
    reader = FrameReader(limits.FRAME_BYTES_MAX)
    reader.receive((limits.FRAME_BYTES_MAX).to_bytes(4, "big") + b"\x01" + bytes(100))
    assert reader.next_frame() is None
    assert len(reader._body) == 100


def test_what_a_peer_would_refuse_is_not_written() -> None:
    encode_frame(1, bytes(limits.FRAME_BYTES_MAX - 1))
    with pytest.raises(PayloadTooLarge):
        encode_frame(1, bytes(limits.FRAME_BYTES_MAX))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6), st.data())
def test_any_cut(frames: list[Frame], data: st.DataObject) -> None:
    whole = b"".join(encode_frame(*frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    assert read([whole[a:b] for a, b in pairwise(edges)]) == frames
