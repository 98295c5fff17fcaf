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

from tq.errors import DataDamaged, InternalError, StorageFailed
from tq.raft.members import Members, is_members
from tq.raft.records import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES,
    SALT_BYTES,
    Pending,
    SegmentHeader,
    decode_record,
    encode_records,
)
from tq.raft.segments import (
    DIRECTORY,
    Segment,
    create_segment,
    damage_text,
    new_segment,
    remove_segments,
    segment_path,
)
from tq.raft.term_store import TermStore
from tq.world import Disk, Random

FIRST_BASE_INDEX = 1  # what SyncObj takes the first entry of an empty log to be


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
            segment.file = create_segment(self._disk, segment.path, segment.header.encode())
        segment.file.append(self.data)
        segment.file.sync()


@attrs.frozen
class JournalStatistics:
    bytes: int
    segments: int
    tail_bytes: int


class Journal:
    """Use ``recovery.open_journal``. Indices count from the base entry, which has no payload of ours.

    Attributes:
        base_index, base_term: of the entry before the first; it has no payload of ours.
        last_index, last_term: of the log, synced or not.
        durable_index: all up to it is synced.
        commit_index: the highest that ``set_commit`` or a stored record named; stored with later records, never
            above ``durable_index``.
        term, vote: as set.
        durable_term, durable_vote: as synced.
        members: who votes, as the log has it.
        failure: why it refuses everything, or None.
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
        self.failure: str | None = None
        self.members = Members(disk, None, [])
        self.base_index, self.base_term = runs[0]
        self.last_index = self.durable_index = segments[-1].last_index
        self.last_term = runs[-1][1]
        self.commit_index = commit_index
        self.term = self.durable_term = terms.current.term
        self.vote = self.durable_vote = terms.current.vote

    # ---- what stands in it ------------------------------------------------------------------------

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
        start, end = segment.span(index)
        try:
            data = segment.file.read(start, end - start)
        except OSError as error:
            raise self._fail("read of", segment.path, error) from error
        record = decode_record(segment.header, memoryview(data))
        if record is None or record.index != index or RECORD_BYTES + record.length != end - start:
            raise DataDamaged(damage_text(segment.path, start, f"entry {index} is not whole any more"))
        return data[RECORD_BYTES:]

    def payloads(self, first: int, count: int) -> list[bytes]:
        """Several, with one read for those of a segment. Raises DataDamaged, StorageFailed."""
        found: list[bytes] = []
        while len(found) < count:
            index = first + len(found)
            if index in self._tail:
                found.append(self._tail[index][0])
            else:
                found += self._read_run(index, first + count)
        return found

    def _read_run(self, index: int, end: int) -> list[bytes]:
        """Payloads from ``index`` on, below ``end``, that stand in one segment and not in memory."""
        segment = self._segment_of(index)
        last = index
        while last + 1 < end and last + 1 <= segment.last_index and last + 1 not in self._tail:
            last += 1
        start, stop = segment.span(index)[0], segment.span(last)[1]
        try:
            data = memoryview(segment.file.read(start, stop - start))
        except OSError as error:
            raise self._fail("read of", segment.path, error) from error
        found: list[bytes] = []
        for number in range(index, last + 1):
            at, behind = (place - start for place in segment.span(number))
            record = decode_record(segment.header, data[at:behind])
            if record is None or record.index != number or RECORD_BYTES + record.length != behind - at:
                raise DataDamaged(damage_text(segment.path, start + at, f"entry {number} is not whole any more"))
            found.append(bytes(data[at + RECORD_BYTES : behind]))
        return found

    def payload_bytes(self, index: int) -> int:
        """Its size, without a read."""
        entry = self._tail.get(index)
        if entry is not None:
            return len(entry[0])
        if not self.base_index < index <= self.last_index:
            raise InternalError(f"entry {index} is not in the log (base {self.base_index}, last {self.last_index})")
        segment = self._segment_of(index)
        start, end = segment.span(index)
        return end - start - RECORD_BYTES

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
        if self.failure is not None:
            raise StorageFailed(self.failure)
        if index != self.last_index + 1 or term < self.last_term:
            raise InternalError(f"entry {index} of term {term} cannot follow {self.last_index} of {self.last_term}")
        if not 1 <= len(payload) <= PAYLOAD_BYTES_MAX:
            raise InternalError(f"entry {index} has {len(payload)} bytes; 1 to {PAYLOAD_BYTES_MAX} are allowed")
        if is_members(payload):
            self.members.appended(index, payload)
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
        if self.failure is not None:
            raise StorageFailed(self.failure)
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
        return Segment(
            segment_path(base_index), last.file, header, array("I"), HEADER_BYTES
        )  # the job opens its own file

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
        if job.term_vote is not None:
            self.durable_term, self.durable_vote = job.term_vote
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
        self.failure = (
            f"{action} {path} failed ({error.strerror or error}); the node stops before it acknowledges anything"
        )
        return StorageFailed(self.failure, detail={"path": path, "errno": error.errno})

    # ---- cutting it ---------------------------------------------------------------------------------

    def truncate_from(self, index: int) -> None:
        """Drop ``index`` and all behind it, durably: entries that another leader's will replace.

        The cut is synced before anything is appended. Else a power loss could leave an old record behind new ones.
        """
        if self.failure is not None:
            raise StorageFailed(self.failure)
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
        self.members.cut(index)
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

    def compact(self, index: int, keep_bytes: int = 0) -> int:
        """Remove the segments whose entries are all ``<= index``; returns how many went.

        ``index`` must be in a durable checkpoint. The last segment always stays, and at least ``keep_bytes`` do.
        """
        if self.failure is not None:
            raise StorageFailed(self.failure)
        if index > self.durable_index:
            raise InternalError(f"entry {index} is not durable and cannot be compacted away")
        removed = 0
        size = sum(segment.end for segment in self._segments)
        while len(self._segments) > 1 and self._segments[1].header.base_index <= index:
            segment = self._segments[0]
            size -= segment.end
            if size < keep_bytes:
                break
            try:
                self.members.keep(self._segments[1].header.base_index)
                segment.file.close()
                self._disk.remove(segment.path)
                self._disk.sync_directory(DIRECTORY)  # one at a time: a power loss leaves no gap
            except OSError as error:
                raise self._fail("removal of", segment.path, error) from error
            del self._segments[0]
            removed += 1
        if removed:
            header = self._segments[0].header
            self.base_index, self.base_term = header.base_index, header.base_term
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

    def reset(self, index: int, term: int) -> None:
        """Begin anew behind the entry ``index``, durably: a snapshot that is durable holds all up to it.

        A crash in between leaves part of the old log, or none; ``recovery`` finishes this, by the snapshot's mark.
        """
        if self.failure is not None:
            raise StorageFailed(self.failure)
        if self._job is not None:
            raise InternalError("the log cannot be begun anew while a sync is under way")
        if index <= self.commit_index or not self.base_term <= term <= self.term:
            raise InternalError(
                f"the log cannot begin behind entry {index} of term {term}: committed {self.commit_index}, term {self.term}"
            )
        try:
            if self._term_waits:  # the log never knows a term that the term files do not
                self._terms.write(self.term, self.vote)
                self.durable_term, self.durable_vote, self._term_waits = self.term, self.vote, False
            remove_segments(self._disk, self._segments)
            self._segments = [new_segment(self._disk, self._random, index, term)]
        except OSError as error:
            raise self._fail("renewal of", DIRECTORY, error) from error
        self.members.begin_anew()
        self._runs = [(index, term)]
        self._tail.clear()
        self._tail_bytes, self._tail_first = 0, index + 1
        self._pending = []
        self.base_index = self.last_index = self.durable_index = self.commit_index = index
        self.base_term = self.last_term = term

    def close(self) -> None:
        """Close the files. What is not synced stays so: nobody was told of it."""
        self.failure = "the journal is closed"
        for segment in self._segments:
            segment.file.close()
        self._terms.close()
