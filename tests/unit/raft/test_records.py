from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq.raft.records import (
    HEADER_BYTES,
    RECORD_BYTES,
    WINDOW_BYTES,
    BadHeader,
    SegmentHeader,
    decode_record,
    encode_records,
    scan_segment,
    synced_behind,
)
from tq.sim.disk import SimDisk

HEADER = SegmentHeader(base_index=10, base_term=2, salt=b"saltsalt")


def segment_of(*parts: bytes):
    file = SimDisk().open("s", create=True)
    for part in parts:
        file.append(part)
    return file


def records(*entries: tuple[bytes, int, int], durable: int = 10, commit: int = 10) -> bytes:
    return b"".join(encode_records(HEADER, entries, durable, commit))


def test_header_round_trip_and_layout():
    data = HEADER.encode()
    assert len(data) == HEADER_BYTES == 40
    assert data[:8] == b"tqjrnl\x00\x01"
    assert data[8:16] == (10).to_bytes(8, "little")
    assert SegmentHeader.decode(data) == HEADER


@pytest.mark.parametrize("at", range(HEADER_BYTES))
def test_a_changed_header_is_refused(at):
    data = bytearray(HEADER.encode())
    data[at] ^= 0x10
    with pytest.raises(BadHeader):
        SegmentHeader.decode(bytes(data))


def test_a_short_header_is_refused():
    with pytest.raises(BadHeader, match="39 bytes"):
        SegmentHeader.decode(HEADER.encode()[:39])


def test_record_layout():
    data = records((b"\x01abc", 11, 3), durable=10, commit=9)
    assert len(data) == RECORD_BYTES + 4 == 48
    assert data[:4] == b"salt"
    assert data[8:12] == (4).to_bytes(4, "little")
    assert [int.from_bytes(data[at : at + 8], "little") for at in (12, 20, 28, 36)] == [11, 3, 10, 9]
    assert data[44:] == b"\x01abc"


@given(st.binary(min_size=1, max_size=40), st.integers(0, 1 << 20), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_record_with_a_flipped_bit_is_not_good(payload, where, bit):
    data = bytearray(records((payload, 11, 3)))
    data[where % len(data)] ^= 1 << bit
    assert decode_record(HEADER, memoryview(data)) is None


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_no_bytes_make_the_scan_fail_or_run_on(rest):
    scan = scan_segment(segment_of(HEADER.encode(), records((b"\x01a", 11, 3)), rest))
    assert scan.last_index == 11
    assert scan.end == HEADER_BYTES + RECORD_BYTES + 2


def test_scan_reads_across_windows():
    sizes = [WINDOW_BYTES - 100, 3, 2 * WINDOW_BYTES, 1, WINDOW_BYTES]
    entries = [(b"\x01" * size, 11 + n, 3) for n, size in enumerate(sizes)]
    scan = scan_segment(segment_of(HEADER.encode(), records(*entries)))
    assert scan.last_index == 15
    assert scan.end == scan.size
    assert scan.terms == [(11, 3)]
    assert scan.offsets[0] == HEADER_BYTES
    assert [b - a for a, b in zip(scan.offsets, scan.offsets[1:], strict=False)] == [44 + size for size in sizes[:-1]]


@pytest.mark.parametrize(
    ("index", "term", "durable", "commit"),
    [(12, 3, 10, 10), (10, 3, 9, 9), (11, 1, 10, 10), (11, 3, 11, 10), (11, 3, 9, 10)],
    ids=["gap", "again", "term goes back", "synced before it was written", "commit above durable"],
)
def test_scan_stops_at_a_record_that_cannot_follow(index, term, durable, commit):
    scan = scan_segment(segment_of(HEADER.encode(), records((b"\x01", index, term), durable=durable, commit=commit)))
    assert scan.end == HEADER_BYTES < scan.size


def test_synced_behind_finds_good_records_behind_a_bad_one():
    bad = bytearray(records((b"\x01a", 11, 3)))
    bad[-1] ^= 1
    behind = records((b"\x01b", 12, 3), durable=11) + records((b"\x01c", 13, 3), durable=10)
    file = segment_of(HEADER.encode(), bytes(bad), b"junk", behind)
    assert synced_behind(file, scan_segment(file)) == 11


def test_a_user_cannot_write_a_record_into_a_task():
    """Bytes that are a record of a segment with another salt are no record here."""
    other = SegmentHeader(10, 2, b"saltSALT")  # even with the same mark
    forged = b"".join(encode_records(other, [(b"\x01x", 12, 3)], 11, 11))
    bad = bytearray(records((b"\x01" + forged, 11, 3)))
    bad[5] ^= 1
    file = segment_of(HEADER.encode(), bytes(bad))
    assert synced_behind(file, scan_segment(file)) == 0
