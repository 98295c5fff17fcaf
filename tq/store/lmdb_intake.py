"""The file of a state that arrives from another node, until the store takes it into use.

It is a file as ``LmdbCopy`` sends it. Before it is used, length and format are looked at, and what belongs to the node
it comes from is replaced by what belongs to this one.
"""

from __future__ import annotations

import lmdb

from tq import limits
from tq.errors import Unsupported
from tq.store import lmdb_file
from tq.store.store import APPLIED_INDEX, LOCAL_PREFIX, STORE_FORMAT, STORE_FORMAT_KEY, unpack_index
from tq.store.tables import Table
from tq.store.txn import Pair
from tq.world import RealDisk, RealFile

SYNC_BYTES = 16 * limits.MIB  # so that the last sync is no long one


class LmdbIntake:
    """Plays ``StoreIntake``. ``local``: rows of META that this node keeps."""

    def __init__(self, disk: RealDisk, directory: str, map_bytes: int, local: list[Pair]) -> None:
        self._disk = disk
        self._directory = directory
        self._map_bytes = map_bytes
        self._local = local
        self._path = f"{directory}/{lmdb_file.FILE_NAME}"
        self._file: RealFile | None = None
        self._unsynced_bytes = 0

    def write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._create()
        self._file.append(data)
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._unsynced_bytes = 0
            self._file.sync()

    def finish(self, applied_index: int) -> None:
        file = self._file if self._file is not None else self._create()
        real = self._disk.real_path(self._path)
        lmdb_file.lengthen(file, real)
        file.sync()
        file.close()
        self._file = None
        try:
            environment = lmdb_file.open_environment(self._disk.real_path(self._directory), self._map_bytes)
            try:
                self._look(environment, applied_index, real)
            finally:
                environment.close()
        except lmdb.Error as error:
            raise lmdb_file.typed(error, real) from error

    def _look(self, environment: lmdb.Environment, applied_index: int, real: str) -> None:
        databases = [environment.open_db(lmdb_file.table_name(table), create=False) for table in Table]
        meta = databases[Table.META]
        with environment.begin(write=True) as txn:
            number = int.from_bytes(txn.get(STORE_FORMAT_KEY, db=meta) or b"", "big")
            if number != STORE_FORMAT:
                raise Unsupported(
                    f"the leader's state has store format {number}; this version reads {STORE_FORMAT}: run the same version"
                    " on all nodes"
                )
            found = unpack_index(txn.get(APPLIED_INDEX, db=meta))
            if found != applied_index:
                raise lmdb_file.damaged(real, f"it is the state at index {found}, and should be at {applied_index}")
            cursor = txn.cursor(meta)
            foreign = cursor.set_range(LOCAL_PREFIX)
            while foreign and bytes(cursor.key()).startswith(LOCAL_PREFIX):
                foreign = cursor.delete()
            for key, value in self._local:
                txn.put(key, value, db=meta)

    def drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        for name in self._disk.list(self._directory):
            self._disk.remove(f"{self._directory}/{name}")
        if self._disk.exists(self._directory):
            self._disk.remove(self._directory)

    def move_into(self, directory: str) -> None:
        """Replace the file in ``directory``, which nobody has open. Raises OSError."""
        disk = self._disk
        lock = f"{directory}/{lmdb_file.LOCK_NAME}"
        if disk.exists(lock):
            disk.remove(lock)
        disk.rename(self._path, f"{directory}/{lmdb_file.FILE_NAME}")
        disk.sync_directory(directory)
        self.drop()

    def _create(self) -> RealFile:
        self.drop()  # what a crash left of another
        self._disk.make_directory(self._directory)
        return self._disk.open(self._path, create=True)
