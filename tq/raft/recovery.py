"""What stands on the disk becomes a journal again, or the node does not start.

Damaged or torn: a bad record in the last segment is the torn tail of a write that was never synced, unless a good
record behind it says that it was, or the store has applied it. Everywhere else a bad record is damage.

The last segment may hold bytes that only the page cache has (its sync failed, or the process died before it). So
what is good of it is copied to a new file and synced before any of it counts as durable.
"""

from __future__ import annotations

from tq import limits
from tq.errors import DataDamaged, StorageFailed
from tq.raft.journal import FIRST_BASE_INDEX, Journal
from tq.raft.members import Members, Voters, decode
from tq.raft.members import load as load_members
from tq.raft.records import HEADER_BYTES, BadHeader, Scan, SegmentHeader, scan_segment, synced_behind
from tq.raft.segments import (
    DIRECTORY,
    SEGMENT_SUFFIX,
    TEMPORARY_SUFFIX,
    Segment,
    damage_text,
    new_segment,
    renew_segment,
    segment_path,
)
from tq.raft.term_store import TermStore
from tq.world import Disk, File, Random


def open_journal(
    disk: Disk,
    random: Random,
    *,
    floor_index: int,
    segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES,
    tail_bytes_max: int = limits.JOURNAL_TAIL_BYTES_MAX,
    snapshot: tuple[int, int] | None = None,
) -> Journal:
    """Open the journal below ``raft/``, or make it if the disk is empty.

    Args:
        floor_index: the store's checkpointed index: entries up to it were committed, and those behind it are needed.
        snapshot: index and term of one whose installation was cut short. If the log does not begin behind it yet, it
            is begun anew: the snapshot has all that was committed of it.

    Raises:
        DataDamaged: what was synced is not there, or not whole.
        StorageFailed: the disk failed, or is full.
    """
    try:
        if snapshot is not None:
            _begin_behind(disk, random, *snapshot)
        return _open(disk, random, floor_index, segment_bytes, tail_bytes_max)
    except OSError as error:
        path = error.filename or DIRECTORY
        raise StorageFailed(f"opening the journal failed at {path} ({error.strerror or error})") from error


def _begin_behind(disk: Disk, random: Random, index: int, term: int) -> None:
    names = disk.list(DIRECTORY)
    paths = [f"{DIRECTORY}/{name}" for name in names if name.endswith(SEGMENT_SUFFIX)]
    terms = TermStore.open(disk, DIRECTORY)
    if terms is None:
        raise DataDamaged(damage_text(DIRECTORY, 0, "the files that hold term and vote are missing or damaged"))
    try:
        if terms.current.term < term:
            terms.write(term, None)
    finally:
        terms.close()
    if paths and paths[0] == segment_path(index) and _base_term(disk, paths[0]) == term:
        return
    for name in reversed(names):
        if name.endswith((SEGMENT_SUFFIX, TEMPORARY_SUFFIX)):
            disk.remove(f"{DIRECTORY}/{name}")
            disk.sync_directory(DIRECTORY)
    new_segment(disk, random, index, term).file.close()


def _base_term(disk: Disk, path: str) -> int | None:
    file = disk.open(path)
    try:
        return SegmentHeader.decode(file.read(0, HEADER_BYTES)).base_term
    except BadHeader:
        return None
    finally:
        file.close()


def _open(disk: Disk, random: Random, floor_index: int, segment_bytes: int, tail_bytes_max: int) -> Journal:
    disk.make_directory(DIRECTORY)
    disk.sync_directory()
    names = disk.list(DIRECTORY)
    for name in names:
        if name.endswith(TEMPORARY_SUFFIX):
            disk.remove(f"{DIRECTORY}/{name}")
    paths = [f"{DIRECTORY}/{name}" for name in names if name.endswith(SEGMENT_SUFFIX)]
    terms = TermStore.open(disk, DIRECTORY) if any(name.startswith("term-") for name in names) else None
    if not paths:
        return _create(disk, random, floor_index, terms, segment_bytes, tail_bytes_max)
    segments, scans = _load(disk, paths, floor_index)
    if terms is None:
        raise DataDamaged(damage_text(DIRECTORY, 0, "the files that hold term and vote are missing or damaged"))
    runs = [(scans[0].header.base_index, scans[0].header.base_term)]
    for scan in scans:
        runs += scan.terms
    if runs[-1][1] > terms.current.term:
        text = f"the log has entries of term {runs[-1][1]}, but the stored term is {terms.current.term}"
        raise DataDamaged(damage_text(f"{DIRECTORY}/term-a", 0, text))
    commit_index = max(scans[0].header.base_index, max(scan.commit for scan in scans), floor_index)  # below: compacted
    journal = Journal(disk, random, terms, segments, runs, commit_index, segment_bytes, tail_bytes_max)
    entries = [index for scan in scans for index in scan.members]
    journal.members = Members(disk, load_members(disk), [voters_of(journal, index) for index in entries])
    return journal


def voters_of(journal: Journal, index: int) -> Voters:
    try:
        return decode(journal.payload(index), index)
    except ValueError as error:
        raise DataDamaged(damage_text(DIRECTORY, 0, f"entry {index} has no list of voters: {error}")) from error


def _create(
    disk: Disk, random: Random, floor_index: int, terms: TermStore | None, segment_bytes: int, tail_bytes_max: int
) -> Journal:
    if floor_index > 0 or (terms is not None and terms.current.term > 0):
        raise DataDamaged(
            damage_text(DIRECTORY, 0, f"no segment is there, but the store has applied entry {floor_index}")
        )
    if terms is None:
        terms = TermStore.create(disk, DIRECTORY)
        disk.sync_directory(DIRECTORY)  # before the segment: where one is, term and vote must be
    segment = new_segment(disk, random, FIRST_BASE_INDEX, 0)
    runs = [(FIRST_BASE_INDEX, 0)]
    return Journal(disk, random, terms, [segment], runs, FIRST_BASE_INDEX, segment_bytes, tail_bytes_max)


def _load(disk: Disk, paths: list[str], floor_index: int) -> tuple[list[Segment], list[Scan]]:
    segments: list[Segment] = []
    scans: list[Scan] = []
    for path in paths:
        file = disk.open(path)
        try:
            scan = scan_segment(file)
        except BadHeader as error:
            raise DataDamaged(damage_text(path, 0, f"the file {error}")) from error
        header = scan.header
        if path != segment_path(header.base_index):
            raise DataDamaged(damage_text(path, 0, f"the file says that it begins behind entry {header.base_index}"))
        if scans and (header.base_index, header.base_term) != (scans[-1].last_index, _last_term(scans[-1])):
            text = f"it begins behind entry {header.base_index}, but the one before ends at {scans[-1].last_index}"
            raise DataDamaged(damage_text(path, 0, text))
        if scan.end < scan.size:
            _judge_tail(file, scan, path, floor_index, is_last=path == paths[-1])
        segments.append(Segment(path, file, header, scan.offsets, scan.end))
        scans.append(scan)
    first, last = scans[0].header.base_index, scans[-1].last_index
    if last < floor_index:
        text = f"the log ends at entry {last}, but the store has applied {floor_index}"
        raise DataDamaged(damage_text(paths[-1], scans[-1].end, text))
    if first > max(floor_index, FIRST_BASE_INDEX):
        text = f"the log begins behind entry {first}, but the store has applied only {floor_index}"
        raise DataDamaged(damage_text(paths[0], 0, text))
    renew_segment(disk, segments[-1])
    return segments, scans


def _judge_tail(file: File, scan: Scan, path: str, floor_index: int, *, is_last: bool) -> None:
    """Raise DataDamaged unless the bytes behind ``scan.end`` may be a write that was never synced."""
    index = scan.last_index + 1
    if not is_last or index <= floor_index or index <= synced_behind(file, scan):
        raise DataDamaged(damage_text(path, scan.end, f"entry {index} was synced and is not whole any more"))


def _last_term(scan: Scan) -> int:
    return scan.terms[-1][1] if scan.terms else scan.header.base_term
