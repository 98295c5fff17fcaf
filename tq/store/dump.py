"""All tables as one stream of bytes, and the fingerprint of them: for backups, snapshots and comparing nodes.

A dump is the state at one applied index. What belongs to one node or to the store's own housekeeping is left out of
dump and digest alike (``is_state``), so they are equal on all nodes that have applied the same entries, whatever keeps
the tables and whenever it was checkpointed.

Layout, all numbers big-endian::

    head   "TQDUMP" | format u16 | applied index u64 | CRC-32C of the 16 bytes before u32
    block  table u8 | rows u32 | length u32 | CRC-32C of the 9 bytes before and the body u32 | body
    body   rows: key length u16 | value length u32 | key | value; keys rise within a table, tables rise too
    end    255 u8 | rows u64 | digest 32 bytes | CRC-32C of the 41 bytes before u32

The digest is BLAKE2b-256 over, for each table, the bytes 0, 0, table (a row's key is never empty) and its rows as they
stand in a body. So whoever loads a dump has the digest of what was loaded, and compares.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from operator import lt
from typing import Final

import crc32c
from attrs import frozen

from tq.errors import DataDamaged, Unsupported
from tq.limits import KIB, MIB
from tq.store.store import APPLIED_INDEX, LOCAL_PREFIX, STORE_FORMAT_KEY, Store, unpack_index
from tq.store.tables import Table
from tq.store.txn import Pair, ReadTxn

MAGIC: Final = b"TQDUMP"
FORMAT: Final = 1
END: Final = 255
BLOCK_BYTES: Final = 256 * KIB  # a block is closed above this
BLOCK_BYTES_MAX: Final = 32 * MIB  # one row above the target, with room
DIGEST_BYTES: Final = 32
LOAD_CHECKPOINT_BYTES: Final = 16 * MIB  # a load is one state for its caller, and many checkpoints on the disk
SCAN_ROWS: Final = 200
SCAN_ROWS_LARGE: Final = 4  # of tables whose rows can have megabytes: bounds the memory
LARGE_TABLES: Final = frozenset({Table.SPECS, Table.RESULTS})

_HEAD: Final = struct.Struct(">6sHQ")
_BLOCK: Final = struct.Struct(">BII")
_END: Final = struct.Struct(f">BQ{DIGEST_BYTES}s")
_CRC: Final = struct.Struct(">I")
_ROW: Final = struct.Struct(">HI")


@frozen
class DumpFacts:
    """``size`` in bytes; ``digest`` as of ``state_digest``."""

    applied_index: int
    rows: int
    size: int
    digest: bytes


def is_state(table: Table, key: bytes) -> bool:
    """Whether the row is the same on every node that has applied the same entries."""
    return table is not Table.META or not (key in (APPLIED_INDEX, STORE_FORMAT_KEY) or key.startswith(LOCAL_PREFIX))


def state_digest(txn: ReadTxn) -> bytes:
    """32 bytes that are equal exactly where the state is. Reads everything: use a reader for a large store."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for table in Table:
        hasher.update(_mark(table))
        for rows in _batches(txn, table):
            hasher.update(_body(rows))
    return hasher.digest()


def dump(txn: ReadTxn, write: Callable[[bytes], object]) -> DumpFacts:
    """Hand the dump to ``write`` piece by piece. Memory is bounded by a few of the largest rows.

    The applied index is the one of the last checkpoint: dump a reader, or a transaction without changes.
    """
    applied_index = unpack_index(txn.get(Table.META, APPLIED_INDEX))
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    size = total = 0

    def send(head: bytes, body: bytes = b"") -> None:
        nonlocal size
        crc = crc32c.crc32c(body, crc32c.crc32c(head))
        for piece in (head + _CRC.pack(crc), body):
            if piece:
                write(piece)
                size += len(piece)

    send(_HEAD.pack(MAGIC, FORMAT, applied_index))
    for table in Table:
        hasher.update(_mark(table))
        for rows in _blocks(txn, table):
            body = _body(rows)
            hasher.update(body)
            send(_BLOCK.pack(table, len(rows), len(body)), body)
            total += len(rows)
    digest = hasher.digest()
    send(_END.pack(END, total, digest))
    return DumpFacts(applied_index, total, size, digest)


def load(store: Store, chunks: Iterable[bytes], name: str = "the dump") -> DumpFacts:
    """Fill an empty store from a dump that comes in pieces of any size, and checkpoint it at the dump's index.

    While it runs, what is loaded is checkpointed at index 0 now and then: load a store that stands aside, and take it
    into use when this has returned.

    Raises DataDamaged with the offset, Unsupported (format), StoreFull and StorageFailed as the store does.
    """
    _check_empty(store)
    source = _Source(chunks, name)
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    magic, number, applied_index = _HEAD.unpack(source.take_checked(_HEAD.size))
    if magic != MAGIC:
        raise source.damaged("it does not begin as a dump")
    if number != FORMAT:
        raise Unsupported(f"{name} has dump format {number}; this version reads {FORMAT}")
    total = 0
    tables = iter(Table)
    marked = -1
    while True:
        kind = source.peek()
        through = len(Table) - 1 if kind == END else kind
        while marked < through and (table := next(tables, None)) is not None:
            hasher.update(_mark(table))
            marked = table
        if kind == END:
            break
        if kind != marked:
            raise source.damaged(f"table {kind} is unknown or out of order")
        count, body = _take_block(source)
        hasher.update(body)
        rows = _rows(body, source)
        if len(rows) != count:
            raise source.damaged(f"a block of {count} rows has {len(rows)}")
        store.txn.put_many(Table(kind), rows)
        total += count
        if store.dirty_bytes > LOAD_CHECKPOINT_BYTES:
            store.checkpoint(0)
    _, rows_sent, digest = _END.unpack(source.take_checked(_END.size))
    if rows_sent != total or digest != hasher.digest():
        raise source.damaged(f"it should have {rows_sent} rows and has {total}, or others than were dumped")
    source.expect_end()
    store.checkpoint(applied_index)
    return DumpFacts(applied_index, total, source.offset, digest)


def _check_empty(store: Store) -> None:
    for table in Table:
        if any(is_state(table, key) for key, _ in store.txn.scan(table, b"", None, 16)):
            raise AssertionError(f"load() into a store that has rows in {table.name}")
    if store.checkpointed_index:
        raise AssertionError(f"load() into a store at index {store.checkpointed_index}")


def _mark(table: Table) -> bytes:
    return bytes((0, 0, table))


def _batches(txn: ReadTxn, table: Table) -> Iterator[list[Pair]]:
    limit = SCAN_ROWS_LARGE if table in LARGE_TABLES else SCAN_ROWS
    start = b""
    while rows := txn.scan(table, start, None, limit):
        keys = [row[0] for row in rows]
        if keys[0] < start or not all(map(lt, keys, keys[1:])):
            raise DataDamaged(f"the keys of {table.name} are out of order; use another copy of the data")
        start = keys[-1] + b"\0"
        yield [row for row in rows if is_state(table, row[0])] if table is Table.META else rows


def _blocks(txn: ReadTxn, table: Table) -> Iterator[list[Pair]]:
    block: list[Pair] = []
    size = 0
    for rows in _batches(txn, table):
        for row in rows:
            block.append(row)
            size += len(row[0]) + len(row[1]) + _ROW.size
            if size > BLOCK_BYTES:
                yield block
                block, size = [], 0
    if block:
        yield block


def _body(rows: list[Pair]) -> bytes:
    pieces: list[bytes] = []
    pack = _ROW.pack
    for key, value in rows:
        pieces += (pack(len(key), len(value)), key, value)
    return b"".join(pieces)


def _rows(body: bytes, source: _Source) -> list[Pair]:
    rows: list[Pair] = []
    at = 0
    while at < len(body):
        if at + _ROW.size > len(body):
            raise source.damaged("a row is cut off")
        key_length, value_length = _ROW.unpack_from(body, at)
        at += _ROW.size
        middle, end = at + key_length, at + key_length + value_length
        if end > len(body):
            raise source.damaged("a row is cut off")
        rows.append((body[at:middle], body[middle:end]))
        at = end
    return rows


def _take_block(source: _Source) -> tuple[int, bytes]:
    head = source.take(_BLOCK.size)
    crc = _CRC.unpack(source.take(_CRC.size))[0]
    _, count, length = _BLOCK.unpack(head)
    if length > BLOCK_BYTES_MAX:
        raise source.damaged(f"a block of {length} bytes")
    body = source.take(length)
    if crc32c.crc32c(body, crc32c.crc32c(head)) != crc:
        raise source.damaged("the checksum of a block is wrong")
    return count, body


class _Source:
    """Bytes by count from pieces of any size."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._held = bytearray()
        self._name = name
        self.offset = 0

    def take(self, count: int) -> bytes:
        self._fill(count)
        data = bytes(self._held[:count])
        del self._held[:count]
        self.offset += count
        return data

    def peek(self) -> int:
        self._fill(1)
        return self._held[0]

    def take_checked(self, count: int) -> bytes:
        data = self.take(count)
        if crc32c.crc32c(data) != _CRC.unpack(self.take(_CRC.size))[0]:
            raise self.damaged("the checksum is wrong")
        return data

    def expect_end(self) -> None:
        if self._held or any(self._chunks):
            raise self.damaged("something follows its end")

    def damaged(self, what: str) -> DataDamaged:
        return DataDamaged(f"{self._name}, before byte {self.offset}: {what}; use another copy")

    def _fill(self, count: int) -> None:
        while len(self._held) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise self.damaged("it ends too soon")
            self._held += chunk
