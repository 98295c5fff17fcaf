"""What a store is, beside its transaction: checkpoints, readers, growth. Two exist: ``LmdbStore`` and ``MemoryStore``.

Theory. The journal is the write-ahead log; the store is the state that applying it has made. One write transaction
stays open over many entries and is seen at once by its own thread; a **checkpoint** makes all of it durable together
with the index of the last entry applied. A restart goes on from there and applies the rest of the journal again. So
the store may lose what came after its last checkpoint, at any moment, and nothing else; and a reply never waits for it.

Rules:
- ``store.txn`` is one object for the life of the store; checkpoint and rollback renew what is behind it.
- All calls come from one thread, the readers' methods excepted.
- A ``StoreFull`` leaves the transaction unusable: the caller does ``rollback()``, ``grow()`` and applies again from
  ``checkpointed_index``. A ``StorageFailed`` or ``DataDamaged`` closes the store for good.
- A reader sees the last checkpoint. It holds back the reuse of pages, so it has a time limit, and a store that must
  grow ends it sooner: then its methods raise ``ReaderEnded`` and the work is to be started again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final, Protocol

from attrs import frozen

from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

APPLIED_INDEX: Final = b"applied_index"  # META: the last entry in the checkpoint, 8 bytes, big-endian
STORE_FORMAT_KEY: Final = b"store.format"  # META: the number below, 4 bytes, big-endian
STORE_FORMAT: Final = 1
LOCAL_PREFIX: Final = b"local."  # META: keys that belong to one node; neither dumped nor digested
LOCAL_ROWS_MAX: Final = 1_000
KEY_BYTES_MAX: Final = 511  # LMDB's own bound
READER_LIMIT_MS_DEFAULT: Final = 30_000
READERS_MAX: Final = 32


class StoreFull(Exception):
    """The map has no page left for this change. Roll back, grow, apply again."""


class ReaderEnded(Exception):
    """The reader was over its time, or the store had to grow. Start the work again with a new one."""


class CopyFailed(Exception):
    """No copy can be made of this store as it is. It is of use otherwise."""


class BadKey(ValueError):
    """An empty key, or one of more than ``KEY_BYTES_MAX`` bytes to be written: a bug in who packs keys."""

    def __init__(self, table: Table, key: bytes) -> None:
        super().__init__(f"key of {len(key)} bytes in {table.name}: 1 to {KEY_BYTES_MAX} are possible")


@frozen
class StoreStatistics:
    """Sizes in bytes. ``file_bytes`` never shrinks; what is not in use of it will be used again."""

    map_bytes: int
    file_bytes: int
    used_bytes: int
    dirty_bytes: int
    rows: dict[str, int]  # table name -> pairs, of the open transaction
    checkpointed_index: int
    checkpoints: int  # since the store was opened
    checkpoint_ms_last: float
    checkpoint_ms_max: float
    readers: int
    readers_ended: int  # cut off by their limit or by growth


class StoreCopy(Protocol):
    """The state of one checkpoint as a stream, for ``Store.intake`` of another store of the same kind."""

    @property
    def applied_index(self) -> int: ...
    def read(self) -> bytes:
        """The next bytes, empty at the end. One other thread may call it.

        Raises ReaderEnded (over its time, or the store had to grow: make another), CopyFailed, DataDamaged.
        """
        ...

    def close(self) -> None:
        """In the store's thread, at any time: a ``read`` that is waiting ends at once. Safe to call twice."""
        ...


class StoreIntake(Protocol):
    """The place of a state that arrives, beside the store. One other thread may write and finish it."""

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        ...

    def finish(self, applied_index: int) -> None:
        """All of it is here: make it durable, and see that it is a state of that index.

        Raises DataDamaged, Unsupported (format), StorageFailed, OSError.
        """
        ...

    def drop(self) -> None:
        """It is not wanted any more. Raises OSError."""
        ...


class Store(Protocol):
    @property
    def txn(self) -> Txn:
        """The open write transaction; the same object always."""
        ...

    @property
    def checkpointed_index(self) -> int:
        """The last entry whose effect is durable; 0 in a new store."""
        ...

    @property
    def dirty_bytes(self) -> int:
        """About how much the next checkpoint has to write."""
        ...

    def checkpoint(self, applied_index: int) -> None:
        """Make all changes durable, together with ``applied_index``, which never falls. Nothing is written if
        nothing changed. Grows the map when its headroom is short.

        Raises StoreFull (as a put does) and StorageFailed (the disk is full or broken: stop the node).
        """
        ...

    def rollback(self) -> None:
        """Drop every change since the last checkpoint."""
        ...

    def grow(self) -> None:
        """Make the map larger, after a rollback: to be used between ``rollback()`` and the first change."""
        ...

    def reader(self, limit_ms: int = READER_LIMIT_MS_DEFAULT) -> AbstractContextManager[ReadTxn]:
        """The state of the last checkpoint. Enter and leave it in the store's thread; what it yields may be used
        by one other thread meanwhile. Raises Backpressure with READERS_MAX of them open."""
        ...

    def copy(self, limit_ms: int) -> StoreCopy:
        """The last checkpoint, to be sent to another node. It counts as a reader: ``close`` it. Raises Backpressure."""
        ...

    def intake(self) -> StoreIntake:
        """A place for a state that replaces this one."""
        ...

    def adopt(self, intake: StoreIntake) -> None:
        """Be the state that ``intake`` has finished, atomically and durably: after a crash there is the old one or the
        new. Readers end; ``txn`` stays the same object. What belongs to this node (LOCAL_PREFIX) is kept.

        Raises StorageFailed.
        """
        ...

    def statistics(self) -> StoreStatistics:
        """Raises StorageFailed when the store is closed, as all above does."""
        ...

    def close(self) -> None:
        """Drop what was not checkpointed and let go of everything. Safe to call twice."""
        ...


def pack_index(index: int) -> bytes:
    return index.to_bytes(8, "big")


def unpack_index(value: bytes | None) -> int:
    return 0 if value is None else int.from_bytes(value, "big")
