"""Frames between a worker and its child processes."""

from __future__ import annotations

from tq.worker import pipe

FRAMES = [[pipe.READY, None], [pipe.SAID, 0, ["", b"x" * 5_000]], [pipe.STOP, True]]


def test_frames_come_out_as_they_went_in_however_they_are_split() -> None:
    data = b"".join(map(pipe.pack, FRAMES))
    for step in (1, 3, 4, 1_000, len(data)):
        unpacker = pipe.Unpacker()
        found = []
        for start in range(0, len(data), step):
            found += unpacker.feed(data[start : start + step])
        assert found == FRAMES, f"in pieces of {step}"


def test_a_tail_waits() -> None:
    unpacker = pipe.Unpacker()
    assert unpacker.feed(pipe.pack(FRAMES[0]) + pipe.pack(FRAMES[1])[:-1]) == FRAMES[:1]
    assert unpacker.feed(pipe.pack(FRAMES[1])[-1:]) == FRAMES[1:2]
