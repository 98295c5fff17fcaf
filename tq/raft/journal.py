"""The log on disk: entries, term and vote; nothing is reported durable that a power loss could take.

Theory
- ``append`` and ``set_term`` change memory alone. ``begin_sync`` takes all of it as one SyncJob; ``job.run()`` does
  the disk's work (on the loop or on a thread) and ``end_sync`` takes note. One job at a time: **group commit**.
- A job writes term and vote first, then the entries, and syncs each. So the log never holds a term that the
  term files do not know.
- Entries stand in segments. A job that finds the active segment full starts a new one: written beside, synced,
  renamed, directory synced. All older segments are synced whole, so only the last can have a torn tail.
- At open, what is good of the last segment is copied into a new file and synced before anything counts as
  durable: after a failed sync the page cache shows bytes that the platter may not hold.
- A failed write or sync is never retried. The journal refuses everything from then on (StorageFailed).
- A bad record is damage (DataDamaged) when anything shows that it was synced: a good record behind it, the store's
  applied index, or a segment behind it. Else it is a torn tail and is cut. See records.py.
- ``compact`` removes whole segments below an index. The header of the first one left names the base entry.

In memory: 4 bytes an entry (its offset), the last few MiB of payloads, and what is not synced yet. Other payloads
are read back when asked for.

Rejected: writing as entries are appended (a write each, and holes in the order of writes and syncs); truncating in
place at open (trusts the page cache); a sync per append.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

import attrs

from tq import limits
from tq.errors import DataDamaged, InternalError, StorageFailed
from tq.raft.records import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES,
    SALT_BYTES,
    BadHeader,
    Pending,
    Scan,
    SegmentHeader,
    decode_record,
    encode_records,
    scan_segment,
    synced_behind,
)
from tq.raft.term_store import TermStore
from tq.world import Disk, File, Random

DIRECTORY = "raft"
FIRST_BASE_INDEX = 1  # what SyncObj takes the first entry of an empty log to be
_SUFFIX = ".seg"
_TEMPORARY = ".tmp"


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


class SyncJob:
    """What one sync makes durable. ``run`` is the only part that may run on another thread."""

    __slots__ = ("_disk", "_terms", "data", "lengths", "segment", "segment_new", "term_vote", "upto")

    def __init__(self, disk: Disk, terms: TermStore, upto: int) -> None:
        self._disk = disk
        self._terms = terms
        self.upto = upto
        self.term_vote: tuple[int, str | None] | None = None
        self.segment: Segment | None = None
        self.segment_new = False
        self.data = b""
        self.lengths: list[int] = []

    def run(self) -> None:
        """Write and sync; durable when this returns. Raises OSError, after which nothing may be retried."""
        if self.term_vote is not None:
            self._terms.write(*self.term_vote)
        segment = self.segment
        if segment is None:
            return
        if self.segment_new:
            segment.file = _create_segment(self._disk, segment.path, segment.header.encode())
        segment.file.append(self.data)
        segment.file.sync()


@attrs.frozen
class JournalStatistics:
    bytes: int
    segments: int
    tail_bytes: int


class Journal:
    """Use ``open_journal``. Indices count from the base entry, which has no payload of ours.

    Attributes:
        last_index, last_term: of the log, synced or not.
        durable_index: all up to it is synced.
        commit_index: the highest that ``set_commit`` or a stored record named; stored with later records, never
            above ``durable_index``.
        term, vote: as set; durable when ``needs_sync`` is false.
    """

    def __init__(
        self, disk: Disk, random: Random, terms: TermStore, segments: list[Segment], runs: list[tuple[int, int]],
        commit_index: int, segment_bytes: int, tail_bytes_max: int,
    ) -> None:  # fmt: skip
        self._disk = disk
        self._random = random
        self._terms = terms
        self._segments = segments
        self._runs = runs  # (first index, term); the first is the base entry
        self._segment_bytes = segment_bytes
        self._tail_bytes_max = tail_bytes_max
        self._tail: dict[int, Pending] = {}
        self._tail_first = segments[-1].last_index + 1
        self._tail_bytes = 0
        self._pending: list[Pending] = []
        self._term_waits = False
        self._job: SyncJob | None = None
        self._failure: str | None = None
        self.last_index = self.durable_index = segments[-1].last_index
        self.last_term = runs[-1][1]
        self.commit_index = commit_index
        self.term = terms.current.term
        self.vote = terms.current.vote

    # ---- what stands in it ------------------------------------------------------------------------

    @property
    def base_index(self) -> int:
        return self._segments[0].header.base_index

    @property
    def base_term(self) -> int:
        return self._segments[0].header.base_term

    def term_at(self, index: int) -> int:
        """Of the base entry or any after it."""
        if index == self.last_index:
            return self.last_term
        if not self.base_index <= index <= self.last_index:
            raise InternalError(f"the log has no entry {index}; it goes from {self.base_index} to {self.last_index}")
        return self._runs[bisect_right(self._runs, index, key=lambda run: run[0]) - 1][1]

    def in_memory(self, index: int) -> Pending | None:
        """The entry, if it needs no read."""
        return self._tail.get(index)

    def payload(self, index: int) -> bytes:
        """Read back if need be. Raises DataDamaged, StorageFailed."""
        entry = self._tail.get(index)
        if entry is not None:
            return entry[0]
        if not self.base_index < index <= self.last_index:
            raise InternalError(f"entry {index} is not in the log (base {self.base_index}, last {self.last_index})")
        segment = self._segment_of(index)
        position = index - segment.header.base_index - 1
        start = segment.offsets[position]
        end = segment.offsets[position + 1] if position + 1 < len(segment.offsets) else segment.end
        try:
            data = segment.file.read(start, end - start)
        except OSError as error:
            raise self._fail("read of", segment.path, error) from error
        record = decode_record(segment.header, memoryview(data))
        if record is None or record.index != index or RECORD_BYTES + record.length != end - start:
            raise DataDamaged(_damage(segment.path, start, f"entry {index} is not whole any more"))
        return data[RECORD_BYTES:]

    def _segment_of(self, index: int) -> Segment:
        for segment in reversed(self._segments):
            if index > segment.header.base_index:
                return segment
        raise InternalError(f"no segment holds entry {index}")

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(
            sum(segment.end for segment in self._segments), len(self._segments), self._tail_bytes
        )  # fmt: skip

    # ---- changes, in memory until synced -----------------------------------------------------------

    def append(self, payload: bytes, index: int, term: int) -> None:
        """Put the next entry behind the last."""
        if self._failure is not None:
            raise StorageFailed(self._failure)
        if index != self.last_index + 1 or term < self.last_term:
            raise InternalError(f"entry {index} of term {term} cannot follow {self.last_index} of {self.last_term}")
        if not 1 <= len(payload) <= PAYLOAD_BYTES_MAX:
            raise InternalError(f"entry {index} has {len(payload)} bytes; 1 to {PAYLOAD_BYTES_MAX} are allowed")
        entry = (payload, index, term)
        self._pending.append(entry)
        self._tail[index] = entry
        self._tail_bytes += len(payload)
        if term != self.last_term:
            self._runs.append((index, term))
            self.last_term = term
        self.last_index = index

    def set_term(self, term: int, vote: str | None) -> None:
        """Terms never go back, and a vote in a term is never changed."""
        if term < self.term or (term == self.term and self.vote is not None and vote != self.vote):
            raise InternalError(f"term {self.term}, vote {self.vote} cannot become term {term}, vote {vote}")
        self.term, self.vote = term, vote
        self._term_waits = (term, vote) != (self._terms.current.term, self._terms.current.vote)

    def set_commit(self, index: int) -> None:
        self.commit_index = max(self.commit_index, index)

    # ---- making it durable -------------------------------------------------------------------------

    @property
    def needs_sync(self) -> bool:
        return bool(self._pending) or self._term_waits

    @property
    def syncing(self) -> bool:
        return self._job is not None

    def begin_sync(self) -> SyncJob:
        """All that waits, as one job. ``end_sync`` must follow before the next."""
        if self._failure is not None:
            raise StorageFailed(self._failure)
        if self._job is not None:
            raise InternalError("a sync is under way")
        job = SyncJob(self._disk, self._terms, self.last_index)
        if self._term_waits:
            job.term_vote = (self.term, self.vote)
        if self._pending:
            segment = self._segments[-1]
            if segment.end >= self._segment_bytes:
                segment = self._next_segment(segment)
                job.segment_new = True
            job.segment = segment
            commit = min(self.commit_index, self.durable_index)
            job.data = b"".join(encode_records(segment.header, self._pending, self.durable_index, commit))
            job.lengths = [RECORD_BYTES + len(entry[0]) for entry in self._pending]
            self._pending = []
        self._job = job
        return job

    def _next_segment(self, last: Segment) -> Segment:
        base_index = last.last_index
        header = SegmentHeader(base_index, self.term_at(base_index), self._random.bytes(SALT_BYTES))
        return Segment(_path(base_index), last.file, header, array("I"), HEADER_BYTES)  # the job opens its own file

    def end_sync(self, job: SyncJob, error: OSError | None) -> None:
        """Take note of how ``job.run`` ended. Raises StorageFailed if it did with an error."""
        if job is not self._job:
            raise InternalError("that sync was not under way")
        self._job = None
        if error is not None:
            path = job.segment.path if job.segment is not None else DIRECTORY
            raise self._fail("write or sync of", path, error) from error
        segment = job.segment
        if segment is not None:
            if job.segment_new:
                self._segments.append(segment)
            at = segment.end
            for length in job.lengths:
                segment.offsets.append(at)
                at += length
            segment.end = at
        self.durable_index = job.upto
        self._term_waits = (self.term, self.vote) != (self._terms.current.term, self._terms.current.vote)
        self._forget_tail()

    def sync(self) -> None:
        """Make all that waits durable now, on this thread."""
        if self.needs_sync:
            job = self.begin_sync()
            failure: OSError | None = None
            try:
                job.run()
            except OSError as error:
                failure = error
            self.end_sync(job, failure)

    def _forget_tail(self) -> None:
        while self._tail_bytes > self._tail_bytes_max and self._tail_first <= self.durable_index:
            entry = self._tail.pop(self._tail_first, None)
            if entry is not None:
                self._tail_bytes -= len(entry[0])
            self._tail_first += 1

    def _fail(self, action: str, path: str, error: OSError) -> StorageFailed:
        self._failure = (
            f"{action} {path} failed ({error.strerror or error}); the node stops before it acknowledges anything"
        )
        return StorageFailed(self._failure, detail={"path": path, "errno": error.errno})

    # ---- cutting it ---------------------------------------------------------------------------------

    def truncate_from(self, index: int) -> None:
        """Drop ``index`` and all behind it, durably: entries that another leader's will replace.

        The cut is synced before anything is appended. Else a power loss could leave an old record behind new ones.
        """
        if self._failure is not None:
            raise StorageFailed(self._failure)
        if self._job is not None:
            raise InternalError("the log cannot be cut while a sync is under way")
        if not max(self.commit_index, self.base_index) < index <= self.last_index:
            raise InternalError(
                f"the log cannot be cut at {index}: base {self.base_index}, committed {self.commit_index},"
                f" last {self.last_index}"
            )
        self._pending = [entry for entry in self._pending if entry[1] < index]
        for gone in range(max(index, self._tail_first), self.last_index + 1):
            entry = self._tail.pop(gone, None)
            if entry is not None:
                self._tail_bytes -= len(entry[0])
        self._tail_first = min(self._tail_first, index)
        try:
            self._cut_files(index)
        except OSError as error:
            raise self._fail("cut of", self._segments[-1].path, error) from error
        last_term = self.term_at(index - 1)
        while self._runs[-1][0] >= index:
            self._runs.pop()
        self.last_index, self.last_term = index - 1, last_term
        self.durable_index = min(self.durable_index, index - 1)

    def _cut_files(self, index: int) -> None:
        while len(self._segments) > 1 and self._segments[-1].header.base_index >= index:
            segment = self._segments[-1]
            segment.file.close()
            self._disk.remove(segment.path)
            self._disk.sync_directory(DIRECTORY)
            self._segments.pop()
        segment = self._segments[-1]
        position = index - segment.header.base_index - 1
        if position < len(segment.offsets):
            segment.end = segment.offsets[position]
            segment.file.truncate(segment.end)
            segment.file.sync()
            del segment.offsets[position:]

    def compact(self, index: int) -> int:
        """Remove the segments whose entries are all ``<= index``; returns how many went.

        ``index`` must be in a durable checkpoint. The last segment always stays.
        """
        if self._failure is not None:
            raise StorageFailed(self._failure)
        if index > self.durable_index:
            raise InternalError(f"entry {index} is not durable and cannot be compacted away")
        removed = 0
        while len(self._segments) > 1 and self._segments[1].header.base_index <= index:
            segment = self._segments[0]
            try:
                segment.file.close()
                self._disk.remove(segment.path)
                self._disk.sync_directory(DIRECTORY)  # one at a time: a power loss leaves no gap
            except OSError as error:
                raise self._fail("removal of", segment.path, error) from error
            del self._segments[0]
            removed += 1
        if removed:
            self._forget_below_base()
        return removed

    def _forget_below_base(self) -> None:
        base = self.base_index
        runs = [run for run in self._runs if run[0] > base]
        self._runs = [(base, self.base_term), *runs]
        while self._tail_first <= base:
            entry = self._tail.pop(self._tail_first, None)
            if entry is not None:
                self._tail_bytes -= len(entry[0])
            self._tail_first += 1

    def close(self) -> None:
        """Close the files. What is not synced stays so: nobody was told of it."""
        self._failure = "the journal is closed"
        for segment in self._segments:
            segment.file.close()
        self._terms.close()


# ---- opening ----------------------------------------------------------------------------------------


def open_journal(
    disk: Disk,
    random: Random,
    *,
    floor_index: int,
    segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES,
    tail_bytes_max: int = limits.JOURNAL_TAIL_BYTES_MAX,
) -> Journal:
    """Open the journal below ``raft/``, or make it if the disk is empty.

    Args:
        floor_index: the store's checkpointed index: entries up to it were committed, and those behind it are needed.

    Raises:
        DataDamaged: what was synced is not there, or not whole.
        StorageFailed: the disk failed, or is full.
    """
    try:
        return _open(disk, random, floor_index, segment_bytes, tail_bytes_max)
    except OSError as error:
        path = error.filename or DIRECTORY
        raise StorageFailed(f"opening the journal failed at {path} ({error.strerror or error})") from error


def _open(disk: Disk, random: Random, floor_index: int, segment_bytes: int, tail_bytes_max: int) -> Journal:
    disk.make_directory(DIRECTORY)
    disk.sync_directory()
    names = disk.list(DIRECTORY)
    for name in names:
        if name.endswith(_TEMPORARY):
            disk.remove(f"{DIRECTORY}/{name}")
    paths = [f"{DIRECTORY}/{name}" for name in names if name.endswith(_SUFFIX)]
    terms = TermStore.open(disk, DIRECTORY) if any(name.startswith("term-") for name in names) else None
    if not paths:
        return _create(disk, random, floor_index, terms, segment_bytes, tail_bytes_max)
    segments, scans = _load(disk, paths, floor_index)
    if terms is None:
        if segments[-1].last_index > FIRST_BASE_INDEX:
            raise DataDamaged(_damage(DIRECTORY, 0, "the files that hold term and vote are missing or damaged"))
        terms = TermStore.create(disk, DIRECTORY)
    disk.sync_directory(DIRECTORY)
    runs = [(scans[0].header.base_index, scans[0].header.base_term)]
    for scan in scans:
        runs += scan.terms
    if runs[-1][1] > terms.current.term:
        text = f"the log has entries of term {runs[-1][1]}, but the stored term is {terms.current.term}"
        raise DataDamaged(_damage(f"{DIRECTORY}/term-a", 0, text))
    commit_index = max(max(scan.commit for scan in scans), floor_index)
    return Journal(disk, random, terms, segments, runs, commit_index, segment_bytes, tail_bytes_max)


def _create(
    disk: Disk, random: Random, floor_index: int, terms: TermStore | None, segment_bytes: int, tail_bytes_max: int
) -> Journal:
    if floor_index > 0 or (terms is not None and terms.current.term > 0):
        raise DataDamaged(_damage(DIRECTORY, 0, f"no segment is there, but the store has applied entry {floor_index}"))
    header = SegmentHeader(FIRST_BASE_INDEX, 0, random.bytes(SALT_BYTES))
    path = _path(FIRST_BASE_INDEX)
    file = _create_segment(disk, path, header.encode())
    if terms is None:
        terms = TermStore.create(disk, DIRECTORY)
        disk.sync_directory(DIRECTORY)
    segment = Segment(path, file, header, array("I"), HEADER_BYTES)
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
            raise DataDamaged(_damage(path, 0, f"the file {error}")) from error
        header = scan.header
        if path != _path(header.base_index):
            raise DataDamaged(_damage(path, 0, f"the file says that it begins behind entry {header.base_index}"))
        if scans and (header.base_index, header.base_term) != (scans[-1].last_index, _last_term(scans[-1])):
            text = f"it begins behind entry {header.base_index}, but the one before ends at {scans[-1].last_index}"
            raise DataDamaged(_damage(path, 0, text))
        if scan.end < scan.size:
            _judge_tail(file, scan, path, floor_index, is_last=path == paths[-1])
        segments.append(Segment(path, file, header, scan.offsets, scan.end))
        scans.append(scan)
    first, last = scans[0].header.base_index, scans[-1].last_index
    if last < floor_index:
        text = f"the log ends at entry {last}, but the store has applied {floor_index}"
        raise DataDamaged(_damage(paths[-1], scans[-1].end, text))
    if first > max(floor_index, FIRST_BASE_INDEX):
        text = f"the log begins behind entry {first}, but the store has applied only {floor_index}"
        raise DataDamaged(_damage(paths[0], 0, text))
    _renew(disk, segments[-1])
    return segments, scans


def _judge_tail(file: File, scan: Scan, path: str, floor_index: int, *, is_last: bool) -> None:
    """Raise DataDamaged unless the bytes behind ``scan.end`` may be a write that was never synced."""
    index = scan.last_index + 1
    if not is_last or index <= floor_index or index <= synced_behind(file, scan):
        raise DataDamaged(_damage(path, scan.end, f"entry {index} was synced and is not whole any more"))


def _renew(disk: Disk, segment: Segment) -> None:
    """Copy what is good into a new file, sync it and put it in the place of the old."""
    temporary = segment.path + _TEMPORARY
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


def _create_segment(disk: Disk, path: str, header: bytes) -> File:
    temporary = path + _TEMPORARY
    file = disk.open(temporary, create=True)
    file.append(header)
    file.sync()
    disk.rename(temporary, path)
    disk.sync_directory(DIRECTORY)
    return file


def _path(base_index: int) -> str:
    return f"{DIRECTORY}/{base_index:020d}{_SUFFIX}"


def _last_term(scan: Scan) -> int:
    return scan.terms[-1][1] if scan.terms else scan.header.base_term


def _damage(path: str, offset: int, what: str) -> str:
    return (
        f"{path}, offset {offset}: {what}. The node does not start, because it might have promised what is lost."
        " Restore the data directory from a backup; where other members hold the data, give this one an empty"
        " directory and join it anew"
    )

