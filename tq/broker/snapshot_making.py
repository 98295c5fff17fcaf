"""The leader's side of a snapshot: made when a member needs one, kept while it is sent, removed when nobody reads it.

Theory
- It is a copy of the store's last checkpoint in a file of its own, because the store goes on and a snapshot must not
  change. It is made beside the loop, and not synced: a restart removes what is left of one.
- While it is made the log is not compacted above it (``hold_index``), or it would be of no use when it is there.
  From the offer on the node holds the log for as long as it sends. Both are bounded in time.
- One at a time: one that is no good any more goes before the next is made.
- It must not be the snapshot that fills the disk: below the watermark none is made, and one under way is given up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq import limits
from tq.broker.long_work import LongWork
from tq.errors import Backpressure, StorageFailed
from tq.raft.node import Node
from tq.raft.snapshots import DIRECTORY, FileSource, SnapshotId, new_digest
from tq.store.store import CopyFailed, ReaderEnded, Store, StoreCopy
from tq.world import Clock, Disk, File

COPY_SUFFIX = ".copy"
LOOK_BYTES = 32 * limits.MIB  # written between two looks at the free disk
OFFER_TURNS = 2  # after which the node has let go of what it was offered before


class NoRoom(Exception):
    """The disk would be below its watermark."""


class Source(FileSource):
    """A snapshot on offer. Knows when it was last of use."""

    def __init__(self, disk: Disk, path: str, snapshot_id: SnapshotId, clock: Clock) -> None:
        super().__init__(disk, path, snapshot_id)
        self._clock = clock
        self.used_ms = clock.monotonic_ms()

    def read(self, offset: int, count: int) -> bytes:
        self.used_ms = self._clock.monotonic_ms()
        return super().read(offset, count)


class Making:
    """One that is being written. ``run`` is the only part that runs elsewhere."""

    def __init__(self, copy: StoreCopy, term: int, disk: Disk, path: str, free_bytes_min: int, began_ms: int) -> None:
        self.copy = copy
        self.term = term
        self.path = path
        self.began_ms = began_ms
        self.size = 0
        self._disk = disk
        self._free_bytes_min = free_bytes_min
        self._digest = new_digest()
        self._file: File = disk.open(path, create=True)

    @property
    def id(self) -> SnapshotId:
        return SnapshotId(self.copy.applied_index, self.term, self.size, self._digest.digest())

    def run(self) -> None:
        """Raises ReaderEnded, CopyFailed, DataDamaged of the store; NoRoom, OSError of the disk."""
        look_at = 0
        while data := self.copy.read():
            if self.size >= look_at:
                look_at = self.size + LOOK_BYTES
                if self._disk.free_bytes() < self._free_bytes_min:
                    raise NoRoom
            self._file.append(data)
            self._digest.update(data)
            self.size += len(data)

    def close(self) -> None:
        self.copy.close()
        self._file.close()


class SnapshotMaking:
    """
    Args:
        wake: asks the shell for a turn.
        log: takes (level, event, fields).
    """

    def __init__(
        self, node: Node, store: Store, disk: Disk, clock: Clock, work: LongWork, free_bytes_min: int,
        wake: Callable[[], None], log: Any,
    ) -> None:  # fmt: skip
        self._node = node
        self._store = store
        self._disk = disk
        self._clock = clock
        self._work = work
        self._free_bytes_min = free_bytes_min
        self._wake = wake
        self._log = log
        self._making: Making | None = None
        self._source: Source | None = None
        self._leaving_turn: int | None = None  # then the source may go
        self._held_until_ms = 0
        self._next_ms = 0
        self._turns = 0
        self.made = 0
        self.given_up = 0
        self._remove_leftovers()

    def before_turn(self) -> None:
        self._turns += 1

    @property
    def hold_index(self) -> int | None:
        """Above it the log must not be compacted now."""
        if self._making is not None:
            return self._making.copy.applied_index
        if self._source is not None and self._clock.monotonic_ms() < self._held_until_ms:
            return self._source.id.index
        return None

    @property
    def offered(self) -> SnapshotId | None:
        return None if self._source is None else self._source.id

    @property
    def is_making(self) -> bool:
        return self._making is not None

    def look(self) -> None:
        """Go on with what is under way, or begin. Raises DataDamaged, StorageFailed."""
        if self._making is not None:
            self._go_on(self._making)
        elif self._source is not None:
            self._keep(self._source)
        elif self._node.wants_snapshot and self._clock.monotonic_ms() >= self._next_ms:
            self._begin()

    def close(self) -> None:
        """The process ends."""
        if self._making is not None:
            self._making.copy.close()  # ends the job
        self._work.close()
        if self._making is not None:
            self._making.close()
            self._making = None
        if self._source is not None:
            self._source.close()
            self._source = None

    # ---- one that is made ---------------------------------------------------------------------------

    def _begin(self) -> None:
        node, store = self._node, self._store
        index, base_index = store.checkpointed_index, node.journal.base_index
        if index < base_index:
            return  # its own state is not there yet
        need = store.statistics().used_bytes
        if self._disk.free_bytes() - need < self._free_bytes_min:
            self._give_up("there is no room on the disk for it", need_bytes=need)
            return
        now_ms = self._clock.monotonic_ms()
        term = node.journal.term_at(index)
        path = f"{DIRECTORY}/{index:020d}-{term}{COPY_SUFFIX}"
        try:
            copy = store.copy(limits.SNAPSHOT_MAKE_MS_MAX)
        except Backpressure as error:
            self._give_up(error.message)
            return
        try:
            self._disk.make_directory(DIRECTORY)  # this node may never have been sent one
            self._disk.sync_directory()
            self._making = Making(copy, term, self._disk, path, self._free_bytes_min, now_ms)
        except OSError as error:
            copy.close()
            self._give_up(f"{path} could not be made ({error.strerror})")
            return
        self._log.info("makes a snapshot", index=index)
        self._work.start(self._making.run)

    def _go_on(self, making: Making) -> None:
        if not self._node.leads_term:  # not by its role: a leader may have to send one before it can commit anything
            making.copy.close()  # nobody will ask for it; the job ends
        try:
            if not self._work.take():
                return
        except ReaderEnded:
            self._abandon(making, "the store did not wait for it, or this node leads no more")
        except CopyFailed as error:
            self._abandon(making, str(error))
        except NoRoom:
            self._abandon(making, "the disk has no room for it")
        except OSError as error:
            self._abandon(making, f"{making.path} could not be written ({error.strerror})")
        else:
            self._offer(making)

    def _abandon(self, making: Making, why: str) -> None:
        self._making = None
        making.close()
        self._remove(making.path)
        self._give_up(why, bytes=making.size)

    def _give_up(self, why: str, **facts: object) -> None:
        self.given_up += 1
        self._next_ms = self._clock.monotonic_ms() + limits.SNAPSHOT_RETRY_MS
        self._log.warning("gave up a snapshot that another node needs", reason=why, **facts)

    def _offer(self, making: Making) -> None:
        self._making = None
        making.close()
        snapshot_id = making.id
        now_ms = self._clock.monotonic_ms()
        try:
            self._source = Source(self._disk, making.path, snapshot_id, self._clock)
        except OSError as error:
            raise StorageFailed(f"opening {making.path} failed ({error.strerror or error})") from error
        self._held_until_ms = now_ms + limits.SNAPSHOT_OFFER_HOLD_MS
        self._node.offer_snapshot(self._source)
        self.made += 1
        self._log.info(
            "offers a snapshot", index=snapshot_id.index, bytes=snapshot_id.size, ms=now_ms - making.began_ms
        )
        self._wake()

    # ---- one on offer -------------------------------------------------------------------------------

    def _keep(self, source: Source) -> None:
        if self._leaving_turn is None:
            idle_ms = self._clock.monotonic_ms() - source.used_ms
            if not self._node.wants_snapshot and idle_ms < limits.SNAPSHOT_KEEP_MS:
                return
            self._node.offer_snapshot(None)
            self._leaving_turn = self._turns + OFFER_TURNS
        elif self._turns >= self._leaving_turn:
            self._source = self._leaving_turn = None
            source.close()
            self._remove(source.path)
            return
        self._wake()

    def _remove(self, path: str) -> None:
        try:
            if self._disk.exists(path):  # who follows now and installs another's has cleared the place
                self._disk.remove(path)
        except OSError as error:
            raise StorageFailed(f"removing {path} failed ({error.strerror or error})") from error

    def _remove_leftovers(self) -> None:
        for name in self._disk.list(DIRECTORY):
            if name.endswith(COPY_SUFFIX):
                self._remove(f"{DIRECTORY}/{name}")
