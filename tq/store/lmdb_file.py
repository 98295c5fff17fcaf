"""The file of the LMDB store: how it is made, opened and looked at, and what is said of a damaged one. The theory is in
``lmdb_store.py``.
"""

from __future__ import annotations

import sys
from typing import Final

import lmdb
import lmdb.verify

from tq.errors import DataDamaged, StorageFailed
from tq.store.store import READERS_MAX, STORE_FORMAT, STORE_FORMAT_KEY
from tq.store.tables import Table
from tq.world import RealDisk, RealFile

FILE_NAME: Final = "data.mdb"
LOCK_NAME: Final = "lock.mdb"
UNFINISHED_SUFFIX: Final = ".new"
INTAKE_SUFFIX: Final = ".next"
MAP_GROWTH_BYTES_MAX: Final = 16 << 30  # the map doubles, up to this much at once
READERS_FOREIGN_MAX: Final = 16  # of other processes, such as `python -m lmdb copy`

# The meta pages, 0 and 1, as far as the length of the file depends on them (LMDB 0.9, data version 1).
META_BYTES: Final = 152
META_MAGIC_AT: Final = slice(16, 20)
META_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, sys.byteorder)
META_PAGE_SIZE_AT: Final = slice(40, 44)
META_LAST_PAGE_AT: Final = slice(136, 144)

DAMAGE: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,  # of a table: each was made with the file
    lmdb.BadTxnError,  # an earlier error of the transaction; after a full map it is told apart
)


def table_name(table: Table) -> bytes:
    return table.name.lower().encode()


def open_environment(real_directory: str, map_bytes: int) -> lmdb.Environment:
    return lmdb.open(
        real_directory,
        mode=0o600,
        map_size=map_bytes,
        max_dbs=len(Table),
        max_readers=READERS_MAX + READERS_FOREIGN_MAX,
        sync=True,
        metasync=True,
        writemap=False,
        lib_version=0,
    )


def make(disk: RealDisk, directory: str, map_bytes: int) -> None:
    """Make an empty store that is there in whole or not at all, whenever the power goes."""
    unfinished = directory + UNFINISHED_SUFFIX
    for name in disk.list(unfinished):
        disk.remove(f"{unfinished}/{name}")
    disk.make_directory(unfinished)
    environment = open_environment(disk.real_path(unfinished), map_bytes)
    try:
        databases = [environment.open_db(table_name(table)) for table in Table]
        with environment.begin(write=True) as txn:
            txn.put(STORE_FORMAT_KEY, STORE_FORMAT.to_bytes(4, "big"), db=databases[Table.META])
    finally:
        environment.close()
    file = disk.open(f"{unfinished}/{FILE_NAME}")
    try:
        file.sync()
    finally:
        file.close()
    disk.sync_directory(unfinished)
    disk.rename(unfinished, directory)


def open_file(disk: RealDisk, path: str) -> RealFile:
    try:
        return disk.open(path)
    except FileNotFoundError as error:
        raise damaged(disk.real_path(path), "the file is missing") from error


def lengthen(file: RealFile, path: str) -> None:
    """See the theory: a short file must be reported, not end the process."""
    size = file.size()
    head = file.read(0, META_BYTES)
    page_bytes = int.from_bytes(head[META_PAGE_SIZE_AT], sys.byteorder)
    metas = [head, file.read(page_bytes, META_BYTES)]
    if any(len(meta) < META_BYTES or meta[META_MAGIC_AT] != META_MAGIC for meta in metas):
        raise damaged(path, "it does not begin as an LMDB file")
    last_page = max(int.from_bytes(meta[META_LAST_PAGE_AT], sys.byteorder) for meta in metas)
    need = (last_page + 1) * page_bytes
    if need <= size:
        return
    try:
        problems = lmdb.verify.verify(path)  # type: ignore[no-untyped-call]  # it has no stub
    except lmdb.verify.VerifyError as error:
        raise damaged(path, str(error)) from error
    if problems or need > size + MAP_GROWTH_BYTES_MAX:
        raise damaged(path, f"it has {size} bytes and speaks of {need}: {'; '.join(problems[:1])}")
    file.truncate(need)


def damaged(path: str, what: str) -> DataDamaged:
    return DataDamaged(
        f"{path}: {what}. Check a copy of its directory with `python -m lmdb verify DIRECTORY`. If the journal beside it"
        " begins with entry 1, moving this directory away and starting makes it anew. Else, if the node is one of several, run tq cluster rebuild; if"
        " it is alone, restore a backup. See"
        ' docs/operations.md, "A damaged file"'
    )


def typed(error: lmdb.Error, path: str) -> DataDamaged | StorageFailed:
    if isinstance(error, DAMAGE):
        return damaged(path, str(error))
    return StorageFailed(f"{path}: {error}")
