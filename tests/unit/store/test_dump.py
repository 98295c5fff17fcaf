"""Dumps that were damaged, cut or are no dumps. That a dump fills another store is in tests/conformance."""

from __future__ import annotations

import pytest

from tq.errors import DataDamaged, Unsupported
from tq.limits import MIB
from tq.store import dump as d
from tq.store.dump import dump, is_state, load, state_digest
from tq.store.memory import MemoryStore
from tq.store.store import APPLIED_INDEX, STORE_FORMAT_KEY
from tq.store.tables import Table
from tq.store.txn import Txn


def dumped(txn: Txn) -> bytes:
    pieces: list[bytes] = []
    dump(txn, pieces.append)
    return b"".join(pieces)


@pytest.fixture
def small() -> bytes:
    store = MemoryStore()
    store.txn.put(Table.META, b"machine.key", b"1")
    store.txn.put_many(Table.TASKS, [(b"a", b"1"), (b"b", b"")])
    store.txn.put(Table.COUNTS, b"c", bytes(5))
    store.checkpoint(42)
    return dumped(store.txn)


def test_what_is_local_to_a_node_is_no_state() -> None:
    assert not is_state(Table.META, APPLIED_INDEX)
    assert not is_state(Table.META, STORE_FORMAT_KEY)
    assert not is_state(Table.META, b"local.name")
    assert is_state(Table.META, b"machine.cluster")
    assert is_state(Table.TASKS, APPLIED_INDEX)


def test_an_empty_store_has_a_dump(small: bytes) -> None:
    data = dumped(MemoryStore().txn)
    target = MemoryStore()
    facts = load(target, [data])
    assert (facts.applied_index, facts.rows, facts.size) == (0, 0, len(data))
    assert facts.digest == state_digest(MemoryStore().txn)


def test_pieces_of_any_size(small: bytes) -> None:
    for size in (1, 2, 7, 100, len(small)):
        target = MemoryStore()
        facts = load(target, (small[at : at + size] for at in range(0, len(small), size)))
        assert facts.rows == 4
        assert dumped(target.txn) == small
    assert load(MemoryStore(), [b"", small, b""]).rows == 4


def test_every_flipped_bit_is_found(small: bytes) -> None:
    for at in range(len(small)):
        for bit in range(8):
            broken = bytearray(small)
            broken[at] ^= 1 << bit
            with pytest.raises(DataDamaged, match="the backup, before byte"):
                load(MemoryStore(), [bytes(broken)], "the backup")


def test_every_cut_is_found(small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(DataDamaged, match="ends too soon"):
            load(MemoryStore(), [small[:length]])


def test_what_follows_the_end_is_found(small: bytes) -> None:
    for more in ([b"\0"], [b"", b"x"], [small]):
        with pytest.raises(DataDamaged, match="follows its end"):
            load(MemoryStore(), [small, *more])


def test_what_is_no_dump_is_found() -> None:
    for data in (b"", b"hello", b"TQDUMP", bytes(100)):
        with pytest.raises(DataDamaged):
            load(MemoryStore(), [data])


def checked(head: bytes) -> bytes:
    return head + d._CRC.pack(d.crc32c.crc32c(head))


def block(table: int, count: int, body: bytes, length: int | None = None) -> bytes:
    head = d._BLOCK.pack(table, count, len(body) if length is None else length)
    return head + d._CRC.pack(d.crc32c.crc32c(body, d.crc32c.crc32c(head))) + body


HEAD = checked(d._HEAD.pack(d.MAGIC, d.FORMAT, 1))
ROW = d._ROW.pack(1, 1) + b"kv"


def test_another_format_is_refused_by_number() -> None:
    with pytest.raises(Unsupported, match="dump format 2; this version reads 1"):
        load(MemoryStore(), [checked(d._HEAD.pack(d.MAGIC, 2, 1))])


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        ([block(2, 2, ROW)], "a block of 2 rows has 1"),
        ([block(2, 1, ROW[:-1])], "a row is cut off"),
        ([block(2, 1, ROW[:4])], "a row is cut off"),
        ([block(2, 0, b"", d.BLOCK_BYTES_MAX + 1)], f"a block of {32 * MIB + 1} bytes"),
        ([block(200, 1, ROW)], "table 200 is unknown or out of order"),
        ([block(3, 1, ROW), block(2, 1, ROW)], "table 2 is unknown or out of order"),
        ([block(2, 1, ROW), checked(d._END.pack(d.END, 2, bytes(32)))], "should have 2 rows and has 1"),
        ([block(2, 1, ROW), checked(d._END.pack(d.END, 1, bytes(32)))], "or others than were dumped"),
    ],
)
def test_blocks_with_good_checksums_that_make_no_sense(blocks: list[bytes], why: str) -> None:
    with pytest.raises(DataDamaged, match=why):
        load(MemoryStore(), [HEAD, *blocks])


def test_only_an_empty_store_is_filled(small: bytes) -> None:
    store = MemoryStore()
    store.txn.put(Table.META, b"local.name", b"n1")
    load(store, [small])
    assert store.txn.get(Table.META, b"local.name") == b"n1"
    with pytest.raises(AssertionError, match="has rows in META"):
        load(store, [small])
    used = MemoryStore()
    used.checkpoint(1)
    with pytest.raises(AssertionError, match="at index 1"):
        load(used, [small])


def test_large_rows_bound_the_pieces_and_a_load_is_checkpointed_on_its_way() -> None:
    store = MemoryStore()
    rows = 12
    for number in range(rows):
        store.txn.put(Table.SPECS, b"%02d" % number, bytes(3 * MIB))
    store.checkpoint(9)
    pieces: list[bytes] = []
    facts = dump(store.txn, pieces.append)
    assert max(map(len, pieces)) < 4 * MIB
    assert facts.size == sum(map(len, pieces))
    target = MemoryStore()
    load(target, pieces)
    assert target.checkpointed_index == 9
    assert target.statistics().checkpoints > 2
    assert state_digest(target.txn) == facts.digest


def test_a_row_of_another_table_is_another_state() -> None:
    """Rows are told apart by their table even where keys and values run into each other."""
    seen = set()
    for rows in (
        [(Table.TASKS, b"a", b"b"), (Table.SPECS, b"c", b"d")],
        [(Table.TASKS, b"a", b"b"), (Table.TASKS, b"c", b"d")],
        [(Table.TASKS, b"ab", b""), (Table.SPECS, b"c", b"d")],
        [(Table.TASKS, b"a", b"bc"), (Table.SPECS, b"d", b"")],
        [(Table.SPECS, b"a", b"b"), (Table.SPECS, b"c", b"d")],
    ):
        store = MemoryStore()
        for row in rows:
            store.txn.put(*row)
        seen.add(state_digest(store.txn))
    assert len(seen) == 5
