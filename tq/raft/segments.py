"""Files of the journal: their names, how one comes to be, and what is said of a damaged one."""

from __future__ import annotations

from array import array

from tq import limits
from tq.raft.records import HEADER_BYTES, SALT_BYTES, SegmentHeader
from tq.world import Disk, File, Random

DIRECTORY = "raft"
SEGMENT_SUFFIX = ".seg"
TEMPORARY_SUFFIX = ".tmp"


class Segment:
    """One file of entries ``base_index + 1 ..`` and where each begins."""

    __slots__ = ("end", "file", "header", "offsets", "path")

    def __init__(self, path: str, file: File, header: SegmentHeader, offsets: array[int], end: int) -> None:
        self.path = path
        self.file = file
        self.header = header
        self.offsets = offsets
        self.end = end

    @property
    def last_index(self) -> int:
        return self.header.base_index + len(self.offsets)

    def span(self, index: int) -> tuple[int, int]:
        """Where the record of ``index`` begins and ends."""
        position = index - self.header.base_index - 1
        end = self.offsets[position + 1] if position + 1 < len(self.offsets) else self.end
        return self.offsets[position], end


def create_segment(disk: Disk, path: str, header: bytes) -> File:
    temporary = path + TEMPORARY_SUFFIX
    file = disk.open(temporary, create=True)
    file.append(header)
    file.sync()
    disk.rename(temporary, path)
    disk.sync_directory(DIRECTORY)
    return file


def new_segment(disk: Disk, random: Random, base_index: int, base_term: int) -> Segment:
    """An empty one, durable."""
    header = SegmentHeader(base_index, base_term, random.bytes(SALT_BYTES))
    path = segment_path(base_index)
    return Segment(path, create_segment(disk, path, header.encode()), header, array("I"), HEADER_BYTES)


def remove_segments(disk: Disk, segments: list[Segment]) -> None:
    """From the last to the first, so that what a crash leaves has no gap."""
    for segment in reversed(segments):
        segment.file.close()
        disk.remove(segment.path)
        disk.sync_directory(DIRECTORY)


def renew_segment(disk: Disk, segment: Segment) -> None:
    """Copy what is good into a new file, sync it and put it in the place of the old."""
    temporary = segment.path + TEMPORARY_SUFFIX
    copy = disk.open(temporary, create=True)
    at = 0
    while at < segment.end:
        part = segment.file.read(at, min(limits.MIB, segment.end - at))
        copy.append(part)
        at += len(part)
    copy.sync()
    disk.rename(temporary, segment.path)
    disk.sync_directory(DIRECTORY)
    segment.file.close()
    segment.file = copy


def segment_path(base_index: int) -> str:
    return f"{DIRECTORY}/{base_index:020d}{SEGMENT_SUFFIX}"


REBUILD = "tq cluster rebuild"
"""What gets a node of several back that lost its data; docs/operations.md has it."""


def damage_text(path: str, offset: int, what: str) -> str:
    return (
        f"{path}, offset {offset}: {what}. The node does not start, because it might have promised what is lost."
        " If it is alone, restore a backup. If it is one of several, the others go on without it: never start it on an older copy"
        f' of its directory, run {REBUILD}; see docs/operations.md, "A damaged file"'
    )
