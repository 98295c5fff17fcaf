from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tq import limits
from tq.raft.transport.frames import CHANNEL_FORWARD, CHANNEL_RAFT, PING, WHOLE, Inbox
from tq.raft.transport.outbox import TAKE_BYTES, URGENT_FRAMES_MAX, Outbox

CHUNK = limits.PEER_CHUNK_BYTES


def inbox() -> Inbox:
    box = Inbox()
    box.identified()
    return box


def read(box: Inbox, data: bytes) -> list[tuple[int, int, bytes]]:
    box.receive(data)
    found = []
    while (frame := box.next()) is not None:
        found.append(frame)
    return found


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3 * CHUNK), st.booleans()), max_size=8))
def test_what_is_pushed_comes_out_whole_and_in_order_within_its_lane(messages: list[tuple[bool, int, bool]]) -> None:
    outbox = Outbox()
    wanted: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    for number, (urgent, size, forward) in enumerate(messages):
        size = min(size, CHUNK) if urgent else size
        channel = CHANNEL_FORWARD if forward else CHANNEL_RAFT
        body = bytes([number, urgent]) + b"x" * max(0, size - 2)
        assert outbox.push(channel, body, urgent=urgent)
        wanted[urgent].append((channel, body))
    box = inbox()
    got: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    while data := outbox.take():
        assert len(data) < TAKE_BYTES + CHUNK + 16
        for type_, channel, body in read(box, data):
            assert type_ == WHOLE
            got[bool(body[1])].append((channel, body))
    assert got == wanted
    assert outbox.is_empty
    assert outbox.waiting_bytes == 0


def test_a_sign_of_life_passes_a_large_entry() -> None:
    outbox = Outbox()
    outbox.push(CHANNEL_RAFT, b"L" * (20 * CHUNK))
    box = inbox()
    assert read(box, outbox.take()) == []
    outbox.push(CHANNEL_RAFT, b"alive", urgent=True)
    outbox.push_frame(PING, b"12345678")
    found = read(box, outbox.take())
    assert found == [(WHOLE, CHANNEL_RAFT, b"alive"), (PING, 0, b"12345678")]


def test_a_full_outbox_refuses_but_keeps_room_for_signs_of_life() -> None:
    outbox = Outbox(bytes_max=3 * limits.PEER_URGENT_BYTES_MAX)
    big = b"x" * limits.PEER_URGENT_BYTES_MAX
    assert outbox.push(CHANNEL_RAFT, big)
    assert outbox.push(CHANNEL_RAFT, big)
    assert not outbox.push(CHANNEL_RAFT, b"one more")
    assert outbox.push(CHANNEL_RAFT, b"alive", urgent=True)
    assert outbox.dropped == 1
    while outbox.take():
        pass
    assert outbox.push(CHANNEL_RAFT, big)


def test_a_peer_that_reads_nothing_does_not_pile_up_small_frames() -> None:
    outbox = Outbox()
    for _ in range(URGENT_FRAMES_MAX):
        outbox.push_frame(PING, b"12345678")
    assert not outbox.push(CHANNEL_RAFT, b"alive", urgent=True)
    outbox.push_frame(PING, b"12345678")
    taken = 0
    box = inbox()
    while data := outbox.take():
        taken += len(read(box, data))
    assert taken == URGENT_FRAMES_MAX
