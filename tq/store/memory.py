"""The store in memory: for tests, the simulator and users' in-memory broker. Power loss is ``power_loss()``.

Each table is a dict, so point reads and writes cost what a dict costs, and a sorted list of its keys that is brought
up to date only when somebody scans: a row that comes and goes between two scans never reaches it. ``undo`` keeps, for
each key touched since the last checkpoint, what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sortedcontainers import SortedList

from tq.errors import Backpressure, DataDamaged, StorageFailed
from tq.store.dump import dump, load
from tq.store.keys import after
from tq.store.store import (
    APPLIED_INDEX,
    KEY_BYTES_MAX,
    LOCAL_PREFIX,
    LOCAL_ROWS_MAX,
    READER_LIMIT_MS_DEFAULT,
    READERS_MAX,
    STORE_FORMAT,
    STORE_FORMAT_KEY,
    BadKey,
    ReaderEnded,
    StoreFull,
    StoreIntake,
    StoreStatistics,
    pack_index,
)
from tq.store.tables import Table
from tq.store.txn import Pair, ReadTxn
from tq.world import Clock

ROW_OVERHEAD_BYTES = 32


class _Rows:
    """One table. ``order`` has the keys of ``data``, less ``fresh``, plus ``stale``."""

    __slots__ = ("data", "fresh", "order", "stale", "undo")

    def __init__(self, data: dict[bytes, bytes] | None = None) -> None:
        self.data: dict[bytes, bytes] = {} if data is None else data
        self.order: SortedList = SortedList()
        self.fresh: set[bytes] = set(self.data)
        self.stale: set[bytes] = set()
        self.undo: dict[bytes, bytes | None] = {}

    def settled(self) -> SortedList:
        if self.stale:
            if len(self.stale) * 8 > len(self.order):
                self.order = SortedList(self.data)
                self.fresh.clear()
            else:
                for key in self.stale:
                    self.order.remove(key)
            self.stale.clear()
        if self.fresh:
            self.order.update(self.fresh)
            self.fresh.clear()
        return self.order

    def before(self) -> dict[bytes, bytes]:
        """A copy of the rows of the last checkpoint."""
        rows = dict(self.data)
        for key, value in self.undo.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        return rows

    def take_back(self) -> None:
        for key, value in self.undo.items():
            old = self.data.get(key)
            if value is None:
                if old is not None:
                    self.remove(key)
            else:
                if old is None:
                    self.insert(key)
                self.data[key] = value
        self.undo.clear()

    def insert(self, key: bytes) -> None:
        if key in self.stale:
            self.stale.remove(key)
        else:
            self.fresh.add(key)

    def remove(self, key: bytes) -> None:
        del self.data[key]
        if key in self.fresh:
            self.fresh.remove(key)
        else:
            self.stale.add(key)


class _MemoryReads:
    def __init__(self, tables: list[_Rows]) -> None:
        self._tables = tables

    def get(self, table: Table, key: bytes) -> bytes | None:
        value = self._tables[table].data.get(key)
        if value is None and not key:
            raise BadKey(table, key)
        return value

    def get_many(self, table: Table, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        data = self._tables[table].data
        found = {}
        for key in keys:
            value = data.get(key)
            if value is not None:
                found[key] = value
            elif not key:
                raise BadKey(table, key)
        return found

    def first(self, table: Table, start: bytes, stop: bytes) -> Pair | None:
        rows = self._tables[table]
        order = rows.settled()
        at = order.bisect_left(start)
        if at == len(order):
            return None
        key = order[at]
        return (key, rows.data[key]) if key < stop else None

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        rows = self._tables[table]
        data = rows.data
        order = rows.settled()
        begin = order.bisect_left(start)
        end = min(len(order) if stop is None else order.bisect_left(stop), begin + limit)
        return [(key, data[key]) for key in order.islice(begin, end)] if begin < end else []

    def scan_back(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        rows = self._tables[table]
        data = rows.data
        order = rows.settled()
        end = len(order) if stop is None else order.bisect_left(stop)
        begin = max(order.bisect_left(start), end - limit)
        return [(key, data[key]) for key in order.islice(begin, end, reverse=True)] if begin < end else []

    def count(self, table: Table) -> int:
        return len(self._tables[table].data)


class _MemoryReader:
    """The last checkpoint, copied, until it is ended."""

    def __init__(self, tables: list[_Rows], end_ms: int | None) -> None:
        self._reads = _MemoryReads(tables)
        self.end_ms = end_ms
        self.ended = False

    def get(self, table: Table, key: bytes) -> bytes | None:
        return self._live().get(table, key)

    def get_many(self, table: Table, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return self._live().get_many(table, keys)

    def first(self, table: Table, start: bytes, stop: bytes) -> Pair | None:
        return self._live().first(table, start, stop)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        return self._live().scan(table, start, stop, limit)

    def scan_back(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        return self._live().scan_back(table, start, stop, limit)

    def count(self, table: Table) -> int:
        return self._live().count(table)

    def _live(self) -> _MemoryReads:
        if self.ended:
            raise ReaderEnded
        return self._reads


class MemoryTxn(_MemoryReads):
    """The write transaction."""

    def __init__(self, tables: list[_Rows]) -> None:
        super().__init__(tables)
        self.dirty_bytes = 0
        self.puts_until_full: int | None = None

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise BadKey(table, key)
        if self.puts_until_full is not None:
            self._fill()
        rows = self._tables[table]
        old = rows.data.get(key)
        if old is None:
            rows.insert(key)
        if key not in rows.undo:
            rows.undo[key] = old
        rows.data[key] = value
        self.dirty_bytes += len(value) + ROW_OVERHEAD_BYTES

    def put_many(self, table: Table, pairs: Iterable[Pair]) -> None:
        put = self.put
        for key, value in pairs:
            put(table, key, value)

    def delete(self, table: Table, key: bytes) -> bool:
        rows = self._tables[table]
        old = rows.data.get(key)
        if old is None:
            if not key:
                raise BadKey(table, key)
            return False
        rows.remove(key)
        if key not in rows.undo:
            rows.undo[key] = old
        self.dirty_bytes += ROW_OVERHEAD_BYTES
        return True

    def delete_many(self, table: Table, keys: Iterable[bytes]) -> int:
        return sum([self.delete(table, key) for key in keys])

    def _fill(self) -> None:
        assert self.puts_until_full is not None
        if self.puts_until_full == 0:
            raise StoreFull
        self.puts_until_full -= 1


class MemoryCopy:
    """Plays ``StoreCopy``: a dump of what was checkpointed when it was made."""

    def __init__(self, reader: _MemoryReader, applied_index: int, forget: Callable[[_MemoryReader], None]) -> None:
        self.applied_index = applied_index
        self._reader = reader
        self._forget = forget
        self._pieces: list[bytes] | None = None

    def read(self) -> bytes:
        if self._reader.ended:
            raise ReaderEnded
        if self._pieces is None:
            self._pieces = []
            dump(self._reader, self._pieces.append)
            self._pieces.reverse()
        return self._pieces.pop() if self._pieces else b""

    def close(self) -> None:
        self._reader.ended = True
        self._forget(self._reader)


class MemoryIntake:
    """Plays ``StoreIntake``."""

    def __init__(self, local: list[Pair]) -> None:
        self._pieces: list[bytes] = []
        self._local = local
        self.state: MemoryStore | None = None

    def write(self, data: bytes) -> None:
        self._pieces.append(data)

    def finish(self, applied_index: int) -> None:
        state = MemoryStore()
        facts = load(state, self._pieces, "the state that arrives")
        if facts.applied_index != applied_index:
            raise DataDamaged(f"the state that arrives is of index {facts.applied_index}, not {applied_index}")
        state.txn.put_many(Table.META, self._local)
        self.state = state

    def drop(self) -> None:
        self._pieces.clear()
        self.state = None


class MemoryStore:
    """Plays ``Store``. ``between`` is called twice in a checkpoint, where the power may go: before it is durable and
    after; a simulated disk's ``step`` fits. Without a ``clock`` readers have no time limit.

    Faults to set: ``full_after(puts)`` (StoreFull until ``grow``), ``fail_checkpoint()`` (StorageFailed).
    """

    def __init__(self, between: Callable[[], None] | None = None, clock: Clock | None = None) -> None:
        self._tables = [_Rows() for _ in Table]
        self._txn = MemoryTxn(self._tables)
        self._between = between
        self._clock = clock
        self._index = 0
        self._checkpoints = 0
        self._readers: list[_MemoryReader] = []
        self._readers_ended = 0
        self._fails = False  # the next checkpoint will
        self._failed = False
        self._closed = False
        self._txn.put(Table.META, STORE_FORMAT_KEY, STORE_FORMAT.to_bytes(4, "big"))
        self._settle()

    @property
    def tables(self) -> list[_Rows]:
        """For whoever adopts it."""
        return self._tables

    @property
    def txn(self) -> MemoryTxn:
        return self._txn

    @property
    def checkpointed_index(self) -> int:
        return self._index

    @property
    def dirty_bytes(self) -> int:
        return self._txn.dirty_bytes

    def checkpoint(self, applied_index: int) -> None:
        if applied_index < self._index:
            raise AssertionError(f"applied index fell from {self._index} to {applied_index}")
        self._check()
        self._end_late_readers()
        if applied_index == self._index and not self._txn.dirty_bytes:
            return
        self._txn.put(Table.META, APPLIED_INDEX, pack_index(applied_index))
        if self._between is not None:
            self._between()
        if self._fails:
            self._failed = True
            raise StorageFailed("the checkpoint failed, as a test asked")
        self._settle()
        self._index = applied_index
        self._checkpoints += 1
        if self._between is not None:
            self._between()

    def _settle(self) -> None:
        for rows in self._tables:
            rows.undo.clear()
        self._txn.dirty_bytes = 0

    def rollback(self) -> None:
        self._check()
        self._take_back()

    def _take_back(self) -> None:
        for rows in self._tables:
            rows.take_back()
        self._txn.dirty_bytes = 0

    def grow(self) -> None:
        self._check()
        if self._txn.dirty_bytes:
            raise AssertionError("grow() with changes open: roll back first")
        self._txn.puts_until_full = None
        self._end_all_readers()

    @contextmanager
    def reader(self, limit_ms: int = READER_LIMIT_MS_DEFAULT) -> Iterator[ReadTxn]:
        reader = self._new_reader(limit_ms)
        try:
            yield reader
        finally:
            reader.ended = True
            self._forget(reader)

    def _new_reader(self, limit_ms: int) -> _MemoryReader:
        self._check()
        if len(self._readers) >= READERS_MAX:
            raise Backpressure(f"{READERS_MAX} long reads are open; try again later", retry_after=1)
        end_ms = None if self._clock is None else self._clock.monotonic_ms() + limit_ms
        reader = _MemoryReader([_Rows(rows.before()) for rows in self._tables], end_ms)
        self._readers.append(reader)
        return reader

    def _forget(self, reader: _MemoryReader) -> None:
        if reader in self._readers:
            self._readers.remove(reader)

    def copy(self, limit_ms: int) -> MemoryCopy:
        return MemoryCopy(self._new_reader(limit_ms), self._index, self._forget)

    def intake(self) -> MemoryIntake:
        self._check()
        return MemoryIntake(self._txn.scan(Table.META, LOCAL_PREFIX, after(LOCAL_PREFIX), LOCAL_ROWS_MAX))

    def adopt(self, intake: StoreIntake) -> None:
        assert isinstance(intake, MemoryIntake)
        assert intake.state is not None, "adopt() of an intake that is not finished"
        self._check()
        self._end_all_readers()
        if self._between is not None:
            self._between()
        self._tables[:] = intake.state.tables
        self._index = intake.state.checkpointed_index
        self._settle()
        intake.drop()
        if self._between is not None:
            self._between()

    def _end_all_readers(self) -> None:
        for reader in self._readers:
            reader.ended = True
        self._readers_ended += len(self._readers)
        self._readers.clear()

    def _end_late_readers(self) -> None:
        if self._clock is None or not self._readers:
            return
        now_ms = self._clock.monotonic_ms()
        for reader in list(self._readers):
            if reader.end_ms is not None and reader.end_ms <= now_ms:
                reader.ended = True
                self._readers_ended += 1
                self._readers.remove(reader)

    def statistics(self) -> StoreStatistics:
        self._check()
        used = sum(len(key) + len(value) for rows in self._tables for key, value in rows.data.items())
        return StoreStatistics(
            map_bytes=0,
            file_bytes=0,
            used_bytes=used,
            dirty_bytes=self._txn.dirty_bytes,
            rows={table.name.lower(): len(self._tables[table].data) for table in Table},
            checkpointed_index=self._index,
            checkpoints=self._checkpoints,
            checkpoint_ms_last=0.0,
            checkpoint_ms_max=0.0,
            readers=len(self._readers),
            readers_ended=self._readers_ended,
        )

    def close(self) -> None:
        self._closed = True
        self._end_all_readers()

    def _check(self) -> None:
        if self._failed or self._closed:
            raise StorageFailed(f"the store is closed{' by an earlier error' if self._failed else ''}")

    # ---- what a test may do to it -----------------------------------------------------------------

    def power_loss(self) -> None:
        """The node dies and opens it again: the last checkpoint is what is left."""
        self._end_all_readers()
        self._take_back()
        self._fails = self._failed = self._closed = False

    def full_after(self, puts: int) -> None:
        self._txn.puts_until_full = puts

    def fail_checkpoint(self) -> None:
        self._fails = True
