"""The bytes of a journal segment: a header, then records, one behind the other. All numbers are little-endian.

Theory. What a reader of a damaged segment must decide is whether a bad record was ever promised to anybody. Bytes
behind the last sync were promised to nobody, and a power loss may leave them whole, torn, or with holes: a good
record may stand behind a bad one. So each record says up to which index the journal was synced when it was
written (``durable``). A bad record is damage if a good one behind it says that it was synced; else it is the torn
tail of the last write, and is cut.

``mark`` and the start value of the checksum come from a random salt of the segment. So bytes that a user put
into a task can never be taken for a record while the reader looks for good ones behind a bad one.

The commit index rides in the records (``commit``): it is at most ``durable``, hence below the record's own index,
and is lost together with the record. So it cannot run ahead of the log, whatever the disk does.

Rejected: a bad checksum with anything behind it is damage (refuses an honest power loss); is always a torn tail
(cuts acknowledged entries). A file of its own for the commit index (one more sync, and it can run ahead).

    segment header, 40 bytes            record, 44 bytes and the payload
     0  8  magic "tqjrnl" 0 1            0  4  mark: the first half of the salt
     8  8  base index                    4  4  CRC-32C, seeded, of all that follows
    16  8  base term                     8  4  length of the payload, at least 1
    24  8  salt                         12  8  index
    32  4  CRC-32C of bytes 0..31       20  8  term
    36  4  zero                         28  8  durable
                                        36  8  commit
                                        44     payload

The base is the entry before the first record: of the segment before, or compacted away.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable

import attrs
from crc32c import crc32c

from tq import limits
from tq.world import File

MAGIC = b"tqjrnl\x00\x01"
_HEADER = struct.Struct("<8sQQ8sII")
_HEADER_CHECKED_BYTES = 32
_RECORD = struct.Struct("<4sIIQQQQ")
_BODY = struct.Struct("<IQQQQ")
_CHECKED_AT = 8  # the checksum covers the record from here
HEADER_BYTES = _HEADER.size
RECORD_BYTES = _RECORD.size
SALT_BYTES = 8
MARK_BYTES = 4
MEMBERS_MARK = b"\x01\xff"  # begins an entry that holds a list of voters, see members.py
PAYLOAD_BYTES_MAX = limits.ENTRY_BYTES_MAX + 1  # and the byte that SyncObj looks at
WINDOW_BYTES = 1 * limits.MIB

assert HEADER_BYTES == 40
assert RECORD_BYTES == 44

Pending = tuple[bytes, int, int]
"""Payload, index, term: the order in which SyncObj has them."""


class BadHeader(ValueError):
    """The first bytes of a segment are not a header of ours."""


@attrs.frozen
class SegmentHeader:
    base_index: int
    base_term: int
    salt: bytes

    @property
    def mark(self) -> bytes:
        return self.salt[:MARK_BYTES]

    @property
    def seed(self) -> int:
        """What the checksums of this segment's records start from."""
        return crc32c(self.salt)

    def encode(self) -> bytes:
        checked = struct.pack("<8sQQ8s", MAGIC, self.base_index, self.base_term, self.salt)
        return checked + struct.pack("<II", crc32c(checked), 0)

    @classmethod
    def decode(cls, data: bytes) -> SegmentHeader:
        """Raises BadHeader."""
        if len(data) < HEADER_BYTES:
            raise BadHeader(f"has {len(data)} bytes, a header has {HEADER_BYTES}")
        magic, base_index, base_term, salt, check, zero = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise BadHeader("does not begin as a journal segment of this version")
        if check != crc32c(data[:_HEADER_CHECKED_BYTES]) or zero != 0:
            raise BadHeader("has a header that fails its checksum")
        return cls(base_index, base_term, salt)


def encode_records(header: SegmentHeader, entries: Iterable[Pending], durable: int, commit: int) -> list[bytes]:
    """The parts to write for ``entries``; their bytes are RECORD_BYTES and the payload each."""
    seed, mark = header.seed, header.mark
    parts: list[bytes] = []
    for payload, index, term in entries:
        body = _BODY.pack(len(payload), index, term, durable, commit)
        parts.append(mark + crc32c(payload, crc32c(body, seed)).to_bytes(4, "little") + body)
        parts.append(payload)
    return parts


@attrs.frozen
class Record:
    length: int
    index: int
    term: int
    durable: int
    commit: int


def decode_record(header: SegmentHeader, data: memoryview) -> Record | None:
    """The record at the start of ``data``, or None if no good one is there."""
    if len(data) < RECORD_BYTES:
        return None
    mark, check, length, index, term, durable, commit = _RECORD.unpack_from(data)
    if mark != header.mark or not 1 <= length <= PAYLOAD_BYTES_MAX or len(data) < RECORD_BYTES + length:
        return None
    if check != crc32c(data[_CHECKED_AT : RECORD_BYTES + length], header.seed):
        return None
    return Record(length, index, term, durable, commit)


@attrs.define
class Scan:
    """What a reader found in a segment.

    Attributes:
        offsets: where each good record begins; the first has index ``header.base_index + 1``.
        terms: (first index, term) where the term changes.
        end: behind the last good record.
        size: of the file. More than ``end`` means that the bytes between are no good record.
        members: indices of entries that hold a list of voters.
        commit: the highest commit index a record names, or 0. (The base says nothing: a segment may begin behind an entry
            that was synced and not committed.)
    """

    header: SegmentHeader
    offsets: array[int]
    terms: list[tuple[int, int]]
    end: int
    size: int
    commit: int
    members: list[int] = attrs.field(factory=list)

    @property
    def last_index(self) -> int:
        return self.header.base_index + len(self.offsets)


def scan_segment(file: File) -> Scan:
    """Read and check a segment up to the first record that is not good. Raises BadHeader, OSError."""
    size = file.size()
    header = SegmentHeader.decode(file.read(0, HEADER_BYTES))
    scan = Scan(header, array("I"), [], HEADER_BYTES, size, 0)
    index, term = header.base_index, header.base_term
    window = memoryview(b"")
    window_at = 0
    while scan.end < size:
        at = scan.end - window_at
        record = decode_record(header, window[at:])
        if record is None:
            needed = RECORD_BYTES
            if len(window) - at >= RECORD_BYTES:
                needed += int.from_bytes(window[at + 8 : at + 12], "little")
            if len(window) - at >= min(needed, size - scan.end) or needed > RECORD_BYTES + PAYLOAD_BYTES_MAX:
                return scan
            window_at = scan.end
            window = memoryview(file.read(window_at, max(WINDOW_BYTES, needed)))
            continue
        if record.index != index + 1 or record.term < term or not record.commit <= record.durable <= index:
            return scan
        index += 1
        if record.term != term:
            term = record.term
            scan.terms.append((index, term))
        if record.length > 1 and window[at + RECORD_BYTES : at + RECORD_BYTES + 2] == MEMBERS_MARK:
            scan.members.append(index)
        scan.offsets.append(scan.end)
        scan.commit = max(scan.commit, record.commit)
        scan.end += RECORD_BYTES + record.length
    return scan


def synced_behind(file: File, scan: Scan) -> int:
    """The highest index that good records behind ``scan.end`` say was synced; 0 if there is no good one."""
    rest = file.read(scan.end, scan.size - scan.end)
    view = memoryview(rest)
    highest = 0
    at = rest.find(scan.header.mark)
    while at >= 0:
        record = decode_record(scan.header, view[at:])
        if record is not None:
            highest = max(highest, record.durable)
        at = rest.find(scan.header.mark, at + 1)
    return highest
