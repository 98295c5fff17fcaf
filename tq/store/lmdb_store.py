"""The store on disk: LMDB, one environment, one named database per table.

Theory. LMDB is copy-on-write: a commit writes the changed pages to free places, syncs them, and then writes one of two
meta pages, synced too. So after a power loss the file shows the last commit that ended, or the one that was under way,
whole. That holds only with sync on and without writemap, so both are fixed here. What LMDB does not do for us:

- It never syncs the directory, and an environment cut off in its first moments does not open. So a new one is made
  under another name, synced, and then renamed. Each open syncs file and directory before it speaks of a checkpoint:
  the process before us may have been killed between a write and its sync.
- A file that is shorter than its meta page says makes the first read end the process (SIGBUS). LMDB itself leaves it so
  when the last pages of a commit were freed again in the same one. So each checkpoint lengthens the file, and one that
  is short at open (the power went in between, or bytes are gone) is verified page by page before it is lengthened.
- The map must be large enough. It costs address space only and grows when no transaction is open: at checkpoints,
  while less than ``MAP_HEADROOM_BYTES`` is left, and in ``grow()``.
- A state that arrives from another node is made beside, synced, looked at, and renamed over the file while nothing is
  open. The lock file is removed before: the table in it is about the old file.
- Errors of a damaged page may come out of any call. They close the store: DataDamaged. Any other error of LMDB in a
  write means that the disk is full or broken: StorageFailed, and closed too. Neither is retried. There are no checksums:
  a page with wrong bytes is found by its shape, here, by LMDB, or by one of LMDB's assertions, which end the process
  (SIGABRT), or not at all. What a scan finds must lie in its range, so that a loop over a damaged table ends.

Each table has one cursor for point reads and writes, kept for the life of the transaction: faster than the
transaction's own methods by a third. Scans use it too, since they end before anyone else can move it.

Rejected: one database with table numbers in the key (locality of a table is lost, all cursors share one tree);
``meminit=False`` (nothing gained, and old memory would get into the file).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Final, NoReturn

import lmdb

from tq import limits
from tq.errors import Backpressure, DataDamaged, StorageFailed, Unsupported
from tq.store import lmdb_file
from tq.store.keys import after
from tq.store.lmdb_copy import LmdbCopy
from tq.store.lmdb_intake import LmdbIntake
from tq.store.store import (
    APPLIED_INDEX,
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
    unpack_index,
)
from tq.store.tables import Table
from tq.store.txn import Pair, ReadTxn
from tq.world import Clock, RealDisk, RealFile

ROW_OVERHEAD_BYTES: Final = 32  # of a change, for the estimate of dirty bytes
MAP_GROWTH_BYTES_MAX: Final = lmdb_file.MAP_GROWTH_BYTES_MAX
_value_of: Final = itemgetter(1)


class _LmdbReads:
    """Reads of one LMDB transaction. ``renew`` binds it; methods of cursors are kept, bound, by table number."""

    def __init__(self, owner: LmdbStore) -> None:
        self._owner = owner

    def renew(self, txn: Any, databases: list[Any]) -> None:
        cursors = [txn.cursor(database) for database in databases]
        self._inner = txn
        self._databases = databases
        self._cursors = cursors
        self._gets = [cursor.get for cursor in cursors]

    def get(self, table: Table, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._gets[table](key)
            return value
        except lmdb.Error as error:
            self._fail(error, table, key)

    def get_many(self, table: Table, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        try:
            return dict(self._cursors[table].getmulti(keys))
        except lmdb.Error as error:
            self._fail(error, table, b"")

    def first(self, table: Table, start: bytes, stop: bytes) -> Pair | None:
        cursor = self._cursors[table]
        try:
            if cursor.set_range(start):
                key: bytes = cursor.key()
                if key < stop:
                    return key, cursor.value()
            return None
        except lmdb.Error as error:
            self._fail(error, table, start)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        cursor = self._cursors[table]
        rows: list[Pair] = []
        try:
            if limit <= 0 or not cursor.set_range(start):
                return rows
            for pair in cursor.iternext():
                if stop is not None and pair[0] >= stop:
                    break
                rows.append(pair)
                if len(rows) == limit:
                    break
        except lmdb.Error as error:
            self._fail(error, table, start)
        if rows and rows[-1][0] < start:
            self._owner.fail(lmdb.CorruptedError(f"the keys of {table.name} are out of order"))
        return rows

    def scan_back(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        cursor = self._cursors[table]
        rows: list[Pair] = []
        try:
            if limit <= 0:
                return rows
            # Stand on the last key below stop.
            at_or_above = stop is not None and cursor.set_range(stop)
            if not (cursor.prev() if at_or_above else cursor.last()):
                return rows
            for pair in cursor.iterprev():
                if pair[0] < start:
                    break
                rows.append(pair)
                if len(rows) == limit:
                    break
        except lmdb.Error as error:
            self._fail(error, table, start)
        if rows and stop is not None and rows[-1][0] >= stop:
            self._owner.fail(lmdb.CorruptedError(f"the keys of {table.name} are out of order"))
        return rows

    def count(self, table: Table) -> int:
        try:
            entries: int = self._inner.stat(self._databases[table])["entries"]
            return entries
        except lmdb.Error as error:
            self._fail(error, table, b"?")

    def _fail(self, error: lmdb.Error, table: Table, key: bytes) -> NoReturn:
        if isinstance(error, lmdb.BadValsizeError):
            raise BadKey(table, key) from error
        self._owner.fail(error)


class LmdbTxn(_LmdbReads):
    """The write transaction."""

    def __init__(self, owner: LmdbStore) -> None:
        super().__init__(owner)
        self.dirty_bytes = 0

    def renew(self, txn: Any, databases: list[Any]) -> None:
        super().renew(txn, databases)
        self._puts = [cursor.put for cursor in self._cursors]
        self.dirty_bytes = 0

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        try:
            self._puts[table](key, value)
        except lmdb.Error as error:
            self._fail(error, table, key)
        self.dirty_bytes += len(value) + ROW_OVERHEAD_BYTES

    def put_many(self, table: Table, pairs: Iterable[Pair]) -> None:
        pairs = list(pairs)
        try:
            self._cursors[table].putmulti(pairs)
        except lmdb.Error as error:
            self._fail(error, table, b"")
        self.dirty_bytes += sum(map(len, map(_value_of, pairs))) + len(pairs) * ROW_OVERHEAD_BYTES

    def delete(self, table: Table, key: bytes) -> bool:
        cursor = self._cursors[table]
        try:
            if not cursor.set_key(key):
                return False
            cursor.delete()
        except lmdb.Error as error:
            self._fail(error, table, key)
        self.dirty_bytes += ROW_OVERHEAD_BYTES
        return True

    def delete_many(self, table: Table, keys: Iterable[bytes]) -> int:
        cursor = self._cursors[table]
        here, set_key, delete = cursor.key, cursor.set_key, cursor.delete
        deleted = 0
        key = b""
        try:
            for key in keys:
                # A cursor that has deleted stands on the next row: of a run of rows only the first is searched for.
                if here() == key != b"" or set_key(key):
                    delete()
                    deleted += 1
        except lmdb.Error as error:
            self._fail(error, table, key)
        self.dirty_bytes += deleted * ROW_OVERHEAD_BYTES
        return deleted


class _LmdbReader:
    """A read transaction for another thread. The lock lets the store end it between two calls."""

    def __init__(self, owner: LmdbStore, txn: Any, databases: list[Any], end_ms: int) -> None:
        self._reads = _LmdbReads(owner)
        self._reads.renew(txn, databases)
        self._txn = txn
        self._lock = threading.Lock()
        self.end_ms = end_ms
        self.ended = False

    def end(self) -> None:
        with self._lock:
            if not self.ended:
                self.ended = True
                self._txn.abort()

    def get(self, table: Table, key: bytes) -> bytes | None:
        with self._lock:
            return self._live().get(table, key)

    def get_many(self, table: Table, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        with self._lock:
            return self._live().get_many(table, keys)

    def first(self, table: Table, start: bytes, stop: bytes) -> Pair | None:
        with self._lock:
            return self._live().first(table, start, stop)

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        with self._lock:
            return self._live().scan(table, start, stop, limit)

    def scan_back(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        with self._lock:
            return self._live().scan_back(table, start, stop, limit)

    def count(self, table: Table) -> int:
        with self._lock:
            return self._live().count(table)

    def _live(self) -> _LmdbReads:
        if self.ended:
            raise ReaderEnded
        return self._reads


class LmdbStore:
    """``open`` it; plays ``Store``. The data directory must be locked by the caller."""

    def __init__(self, disk: RealDisk, directory: str, clock: Clock, map_bytes: int) -> None:
        self._disk = disk
        self._directory = directory
        self._path = disk.real_path(f"{directory}/{lmdb_file.FILE_NAME}")
        self._clock = clock
        self._map_bytes = map_bytes
        self._closed = False
        self._failed = False
        self._full = False  # the transaction is: LMDB takes no more of it
        self._readers: list[_LmdbReader | LmdbCopy] = []
        self._readers_ended = 0
        self._checkpoints = 0
        self._checkpoint_ms_last = 0.0
        self._checkpoint_ms_max = 0.0
        self._txn = LmdbTxn(self)
        self._open()

    @staticmethod
    def open(disk: RealDisk, directory: str, clock: Clock, *, map_bytes: int = limits.MAP_BYTES_INITIAL) -> LmdbStore:
        """Open the store in ``directory`` below the data directory, made if it is not there.

        Raises DataDamaged (the file is no store, or fails its checks), StorageFailed (the disk does not let us),
        Unsupported (written by a newer version).
        """
        return LmdbStore(disk, directory, clock, map_bytes)

    def _open(self) -> None:
        disk, directory, path = self._disk, self._directory, self._path
        file: RealFile | None = None
        environment: lmdb.Environment | None = None
        try:
            if not disk.exists(directory):
                lmdb_file.make(disk, directory, self._map_bytes)
            disk.sync_directory()
            file = lmdb_file.open_file(disk, f"{directory}/{lmdb_file.FILE_NAME}")
            lmdb_file.lengthen(file, path)
            environment = lmdb_file.open_environment(disk.real_path(directory), self._map_bytes)
            environment.sync(True)
            self._environment, self._file = environment, file
            self._page_bytes: int = environment.stat()["psize"]
            self._databases = [environment.open_db(lmdb_file.table_name(table), create=False) for table in Table]
            self._begin()
            self._check_format()
            self._index = unpack_index(self._txn.get(Table.META, APPLIED_INDEX))
            self._keep_room()
        except (lmdb.Error, OSError, DataDamaged, StorageFailed, Unsupported) as error:
            self._closed = True
            if environment is not None:
                environment.close()
            if file is not None:
                file.close()
            if isinstance(error, lmdb.Error):
                raise lmdb_file.typed(error, path) from error
            if isinstance(error, OSError):
                raise StorageFailed(f"{path}: {error.strerror}") from error
            raise

    @property
    def txn(self) -> LmdbTxn:
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
        self._end_readers(until_ms=self._clock.monotonic_ms())
        if applied_index == self._index and not self._txn.dirty_bytes:
            return
        self._txn.put(Table.META, APPLIED_INDEX, pack_index(applied_index))
        start_s = self._clock.monotonic_s()
        try:
            self._inner.commit()
        except lmdb.MapFullError as error:
            self._begin()
            raise StoreFull from error
        except lmdb.Error as error:
            self._failed = True
            raise StorageFailed(f"{self._path}: checkpoint at index {applied_index}: {error}") from error
        self._index = applied_index
        self._checkpoints += 1
        self._checkpoint_ms_last = (self._clock.monotonic_s() - start_s) * 1000
        self._checkpoint_ms_max = max(self._checkpoint_ms_max, self._checkpoint_ms_last)
        self._begin()
        self._keep_room()

    def rollback(self) -> None:
        self._check()
        self._inner.abort()
        self._begin()

    def grow(self) -> None:
        self._check()
        if self._txn.dirty_bytes:
            raise AssertionError("grow() with changes open: roll back first")
        map_bytes = self._environment.info()["map_size"]
        self._resize(map_bytes + min(map_bytes, MAP_GROWTH_BYTES_MAX))

    @contextmanager
    def reader(self, limit_ms: int = READER_LIMIT_MS_DEFAULT) -> Iterator[ReadTxn]:
        txn = self._begin_reading()
        reader = _LmdbReader(self, txn, self._databases, self._clock.monotonic_ms() + limit_ms)
        self._readers.append(reader)
        try:
            yield reader
        finally:
            reader.end()
            self._forget(reader)

    def copy(self, limit_ms: int) -> LmdbCopy:
        txn = self._begin_reading()
        end_ms = self._clock.monotonic_ms() + limit_ms
        copy = LmdbCopy(self._environment, txn, self._index, end_ms, self._path, self.fail, self._forget)
        self._readers.append(copy)
        return copy

    def _begin_reading(self) -> lmdb.Transaction:
        """Raises Backpressure."""
        self._check()
        if len(self._readers) >= READERS_MAX:
            raise Backpressure(f"{READERS_MAX} long reads are open; try again later", retry_after=1)
        try:
            return self._environment.begin(write=False)
        except lmdb.ReadersFullError as error:
            raise Backpressure("other processes read the store; try again later", retry_after=1) from error

    def _forget(self, reader: _LmdbReader | LmdbCopy) -> None:
        if reader in self._readers:
            self._readers.remove(reader)

    def intake(self) -> LmdbIntake:
        self._check()
        local = self._txn.scan(Table.META, LOCAL_PREFIX, after(LOCAL_PREFIX), LOCAL_ROWS_MAX)
        return LmdbIntake(self._disk, self._directory + lmdb_file.INTAKE_SUFFIX, self._map_bytes, local)

    def adopt(self, intake: StoreIntake) -> None:
        assert isinstance(intake, LmdbIntake)
        self._check()
        self._end_readers(until_ms=None)
        self._inner.abort()
        self._environment.close()
        self._file.close()
        self._closed = True  # until it is open again
        try:
            intake.move_into(self._directory)
        except OSError as error:
            raise StorageFailed(f"{self._path}: it could not be replaced: {error.strerror}") from error
        self._closed = False
        self._open()

    def statistics(self) -> StoreStatistics:
        self._check()
        info = self._environment.info()
        stats = [self._inner.stat(database) for database in self._databases]
        pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return StoreStatistics(
            map_bytes=info["map_size"],
            file_bytes=(info["last_pgno"] + 1) * self._page_bytes,
            used_bytes=pages * self._page_bytes,
            dirty_bytes=self._txn.dirty_bytes,
            rows={table.name.lower(): stat["entries"] for table, stat in zip(Table, stats, strict=True)},
            checkpointed_index=self._index,
            checkpoints=self._checkpoints,
            checkpoint_ms_last=self._checkpoint_ms_last,
            checkpoint_ms_max=self._checkpoint_ms_max,
            readers=len(self._readers),
            readers_ended=self._readers_ended,
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._end_readers(until_ms=None)
        self._inner.abort()
        self._environment.close()
        self._file.close()

    # ---- inside -----------------------------------------------------------------------------------

    def fail(self, error: lmdb.Error) -> NoReturn:
        """Turn what a read or write met into what the caller handles; all but a full map closes the store."""
        if isinstance(error, lmdb.MapFullError) or (self._full and isinstance(error, lmdb.BadTxnError)):
            self._full = True
            raise StoreFull from error
        self._failed = True
        raise lmdb_file.typed(error, self._path) from error

    def _check(self) -> None:
        if self._failed or self._closed:
            raise StorageFailed(f"{self._path}: closed{' by an earlier error' if self._failed else ''}")

    def _begin(self) -> None:
        try:
            self._inner = self._environment.begin(write=True)
            self._txn.renew(self._inner, self._databases)
        except lmdb.Error as error:
            self._failed = True
            raise lmdb_file.typed(error, self._path) from error
        self._full = False

    def _check_format(self) -> None:
        found = self._txn.get(Table.META, STORE_FORMAT_KEY)
        if found is None:
            raise lmdb_file.damaged(self._path, "it has no format number")
        if (number := int.from_bytes(found, "big")) != STORE_FORMAT:
            raise Unsupported(
                f"{self._path} has store format {number}; this version reads {STORE_FORMAT}: start the version that"
                " wrote it"
            )

    def _keep_room(self) -> None:
        """Behind a commit: the file as long as it says it is, and the map ahead of it.

        Growth ends readers, so with readers open it waits for a later checkpoint or a StoreFull.
        """
        info = self._environment.info()
        need = (info["last_pgno"] + 1) * self._page_bytes
        try:
            if self._file.size() < need:
                self._file.truncate(need)
        except OSError as error:
            self._failed = True
            raise StorageFailed(f"{self._path}: it cannot be {need} bytes long: {error.strerror}") from error
        while self._environment.info()["map_size"] - need < limits.MAP_HEADROOM_BYTES and not self._readers:
            self.grow()

    def _resize(self, map_bytes: int) -> None:
        self._end_readers(until_ms=None)
        self._inner.abort()
        try:
            self._environment.set_mapsize(map_bytes)
        except lmdb.Error as error:
            self._failed = True
            raise StorageFailed(f"{self._path}: the map cannot grow to {map_bytes} bytes: {error}") from error
        self._begin()

    def _end_readers(self, until_ms: int | None) -> None:
        """End those whose time is up; all, with None."""
        for reader in list(self._readers):
            if until_ms is None or reader.end_ms <= until_ms:
                self._readers.remove(reader)
                self._readers_ended += 1
                reader.end()
