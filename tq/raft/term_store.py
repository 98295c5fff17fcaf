"""Term and vote on disk: two files with the same content, each behind a checksum.

A member that forgets its vote can vote twice, and two leaders of one term follow. So both files are written and
synced, one after the other, before a term or vote counts; then either may be lost to damage and the other still
knows. At open the better one is taken, and both are written again before anything relies on them: after a failed
sync the page cache shows what the platter does not hold. The copy that is trusted is written last, so that
a whole copy is on the platter at any moment.

Rejected: one file replaced by rename (one bad sector and the vote is gone); records in the journal (a damaged
last record cannot be told from a torn one, and the vote goes back).

    0  4  magic "tqTV"        8  8  sequence number, rises with each write
    4  4  CRC-32C of the rest 16 8  term     24 2  length of the vote     26  vote, UTF-8 (empty: none)
"""

from __future__ import annotations

import struct

import attrs
from crc32c import crc32c

from tq.world import Disk, File

FILE_NAMES = ("term-a", "term-b")
_MAGIC = b"tqTV"
_FIXED = struct.Struct("<4sIQQH")
_CHECKED_AT = 8
_FILE_BYTES_MAX = 4096


@attrs.frozen
class TermVote:
    sequence: int
    term: int
    vote: str | None

    def encode(self) -> bytes:
        vote = (self.vote or "").encode()
        body = struct.pack("<QQH", self.sequence, self.term, len(vote)) + vote
        return _MAGIC + crc32c(body).to_bytes(4, "little") + body

    @classmethod
    def decode(cls, data: bytes) -> TermVote | None:
        """None if the bytes are not a whole copy."""
        if len(data) < _FIXED.size:
            return None
        magic, check, sequence, term, vote_bytes = _FIXED.unpack_from(data)
        if magic != _MAGIC or len(data) != _FIXED.size + vote_bytes or check != crc32c(data[_CHECKED_AT:]):
            return None
        return cls(sequence, term, data[_FIXED.size :].decode() or None)


class TermStore:
    """``current`` is what both files hold. OSErrors of the disk pass through: the caller stops for good."""

    def __init__(self, files: tuple[File, File], current: TermVote) -> None:
        self._files = files
        self.current = current

    @classmethod
    def create(cls, disk: Disk, directory: str) -> TermStore:
        """Make both files with term 0. Their names are durable after the caller's ``sync_directory``."""
        first = TermVote(0, 0, None)
        files = []
        for name in FILE_NAMES:
            path = f"{directory}/{name}"
            if disk.exists(path):  # what a creation that was cut short left
                disk.remove(path)
            file = disk.open(path, create=True)
            _write(file, first)
            files.append(file)
        return cls((files[0], files[1]), first)

    @classmethod
    def open(cls, disk: Disk, directory: str) -> TermStore | None:
        """None if neither file holds a whole copy."""
        files: list[File] = []
        made = False
        for name in FILE_NAMES:
            path = f"{directory}/{name}"
            lost = not disk.exists(path)
            files.append(disk.open(path, create=lost))
            made = made or lost
        first, second = (TermVote.decode(file.read(0, _FILE_BYTES_MAX)) for file in files)
        if first is None and second is None:
            for file in files:
                file.close()
            return None
        if second is None or first == second:
            trusted, current = 0, first
        else:
            trusted = 1
            current = first if first is not None and first.sequence > second.sequence else second
        assert current is not None
        _write(files[1 - trusted], current)
        _write(files[trusted], current)
        if made:
            disk.sync_directory(directory)
        return cls((files[0], files[1]), current)

    def write(self, term: int, vote: str | None) -> None:
        """Durable when this returns. The only part of this object that may run on the sync thread."""
        record = TermVote(self.current.sequence + 1, term, vote)
        for file in self._files:
            _write(file, record)
        self.current = record

    def close(self) -> None:
        for file in self._files:
            file.close()


def _write(file: File, record: TermVote) -> None:
    file.truncate(0)
    file.append(record.encode())
    file.sync()
