"""One suite for every store: what holds for LMDB holds for its twin in memory, to the letter."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq.errors import Backpressure, DataDamaged, StorageFailed
from tq.sim.clock import VirtualClock
from tq.store.dump import dump, load, state_digest
from tq.store.lmdb_store import LmdbStore
from tq.store.memory import MemoryStore
from tq.store.store import APPLIED_INDEX, KEY_BYTES_MAX, READERS_MAX, BadKey, ReaderEnded, Store, unpack_index
from tq.store.tables import Table
from tq.world import RealDisk

LONG = os.environ.get("TQ_LONG") == "1"
TASKS, READY, META = Table.TASKS, Table.READY, Table.META

Make = Callable[[], Store]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["lmdb", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock) -> Iterator[Make]:
    """Makes a new, empty store at each call."""
    made: list[Store] = []

    def new() -> Store:
        if request.param == "memory":
            store: Store = MemoryStore(clock=clock)
        else:
            store = LmdbStore.open(RealDisk(str(tmp_path / str(len(made)))), "store", clock)
        made.append(store)
        return store

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(make: Make) -> Store:
    return make()


def fill(store: Store, table: Table, *keys: bytes) -> None:
    for key in keys:
        store.txn.put(table, key, b"value of " + key)


def keys(pairs: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in pairs]


def test_a_row_is_seen_at_once_and_can_be_replaced_and_deleted(store: Store) -> None:
    assert store.txn.get(TASKS, b"a") is None
    store.txn.put(TASKS, b"a", b"1")
    store.txn.put(TASKS, b"a", b"2")
    assert store.txn.get(TASKS, b"a") == b"2"
    assert store.txn.count(TASKS) == 1
    assert store.txn.delete(TASKS, b"a")
    assert not store.txn.delete(TASKS, b"a")
    assert store.txn.get(TASKS, b"a") is None
    assert store.txn.count(TASKS) == 0


def test_many_are_deleted_in_any_order_and_nothing_beside_them(store: Store) -> None:
    fill(store, TASKS, b"a", b"b", b"c", b"d", b"e")
    assert store.txn.delete_many(TASKS, []) == 0
    assert store.txn.delete_many(TASKS, [b"b", b"c"]) == 2
    assert keys(store.txn.scan(TASKS, b"", None, 9)) == [b"a", b"d", b"e"]
    assert store.txn.delete_many(TASKS, [b"e", b"c", b"a", b"a", b"z"]) == 2
    assert keys(store.txn.scan(TASKS, b"", None, 9)) == [b"d"]
    assert store.txn.delete_many(TASKS, [b"d", b"x"]) == 1
    assert store.txn.delete_many(TASKS, [b"d"]) == 0
    with pytest.raises(BadKey):
        store.txn.delete_many(TASKS, [b""])


def test_an_empty_value_is_a_value(store: Store) -> None:
    store.txn.put(TASKS, b"a", b"")
    assert store.txn.get(TASKS, b"a") == b""
    assert store.txn.scan(TASKS, b"", None, 9) == [(b"a", b"")]
    assert store.txn.get_many(TASKS, [b"a"]) == {b"a": b""}
    assert store.txn.delete(TASKS, b"a")


def test_tables_do_not_see_each_other(store: Store) -> None:
    for table in Table:
        store.txn.put(table, b"k", table.name.encode())
    for table in Table:
        assert store.txn.get(table, b"k") == table.name.encode()
    assert store.txn.delete(TASKS, b"k")
    assert store.txn.get(READY, b"k") == b"READY"


def test_scans_have_bounds_and_limits(store: Store) -> None:
    fill(store, READY, b"a", b"b", b"ba", b"c", b"d")
    scan, back = store.txn.scan, store.txn.scan_back
    assert keys(scan(READY, b"", None, 9)) == [b"a", b"b", b"ba", b"c", b"d"]
    assert keys(scan(READY, b"b", b"d", 9)) == [b"b", b"ba", b"c"]
    assert keys(scan(READY, b"b\0", b"d", 9)) == [b"ba", b"c"]
    assert keys(scan(READY, b"b", b"d", 2)) == [b"b", b"ba"]
    assert keys(scan(READY, b"e", None, 9)) == []
    assert keys(scan(READY, b"c", b"b", 9)) == []
    assert keys(scan(READY, b"", None, 0)) == []
    assert keys(back(READY, b"", None, 9)) == [b"d", b"c", b"ba", b"b", b"a"]
    assert keys(back(READY, b"b", b"d", 9)) == [b"c", b"ba", b"b"]
    assert keys(back(READY, b"b", b"d\0", 2)) == [b"d", b"c"]
    assert keys(back(READY, b"", b"a", 9)) == []
    assert keys(back(READY, b"e", None, 9)) == []
    assert keys(back(READY, b"c", b"b", 9)) == []
    assert keys(back(READY, b"", None, 0)) == []
    assert store.txn.scan(READY, b"ba", b"bb", 9) == [(b"ba", b"value of ba")]
    assert keys(scan(TASKS, b"", None, 9)) == keys(back(TASKS, b"", None, 9)) == []


def test_first_is_the_lowest_of_a_range(store: Store) -> None:
    fill(store, READY, b"b", b"d")
    assert store.txn.first(READY, b"", b"z") == (b"b", b"value of b")
    assert store.txn.first(READY, b"b", b"b") is None
    assert store.txn.first(READY, b"c", b"z") == (b"d", b"value of d")
    assert store.txn.first(READY, b"b\0", b"d") is None
    assert store.txn.first(READY, b"e", b"z") is None


def test_the_table_may_change_while_a_result_is_walked(store: Store) -> None:
    fill(store, READY, *(b"%03d" % n for n in range(300)))
    walked = []
    while rows := store.txn.scan(READY, b"", None, 7):
        for key, _ in rows:
            assert store.txn.delete(READY, key)
            store.txn.put(TASKS, key, b"moved")
            walked.append(key)
    assert walked == [b"%03d" % n for n in range(300)]
    assert store.txn.count(TASKS) == 300


def test_many_rows_at_once(store: Store) -> None:
    store.txn.put(TASKS, b"b", b"old")
    store.txn.put_many(TASKS, ((key, b"new") for key in (b"c", b"a", b"b")))
    assert store.txn.get_many(TASKS, iter([b"b", b"x", b"c", b"b"])) == {b"b": b"new", b"c": b"new"}
    assert store.txn.get_many(TASKS, []) == {}
    store.txn.put_many(TASKS, [])
    assert store.txn.count(TASKS) == 3


def test_a_value_of_megabytes(store: Store) -> None:
    payload = bytes(range(256)) * 4 * 1024 * 10
    store.txn.put(Table.SPECS, b"big", payload)
    store.checkpoint(1)
    assert store.txn.get(Table.SPECS, b"big") == payload
    assert store.txn.scan(Table.SPECS, b"", None, 1) == [(b"big", payload)]


def test_keys_have_bounds(store: Store) -> None:
    longest = b"k" * KEY_BYTES_MAX
    store.txn.put(TASKS, longest, b"1")
    assert store.txn.get(TASKS, longest) == b"1"
    with pytest.raises(BadKey, match="512 bytes in TASKS"):
        store.txn.put(TASKS, longest + b"k", b"1")
    for call in (
        lambda: store.txn.put(TASKS, b"", b"1"),
        lambda: store.txn.get(TASKS, b""),
        lambda: store.txn.delete(TASKS, b""),
        lambda: store.txn.put_many(TASKS, [(b"", b"1")]),
    ):
        with pytest.raises(BadKey):
            call()
    assert store.txn.get(TASKS, longest + b"k") is None
    assert not store.txn.delete(TASKS, longest + b"k")
    assert store.txn.count(TASKS) == 1


def test_rollback_falls_back_to_the_checkpoint(store: Store) -> None:
    txn = store.txn
    fill(store, TASKS, b"kept", b"changed", b"deleted")
    store.checkpoint(7)
    txn.put(TASKS, b"changed", b"new")
    txn.put(TASKS, b"added", b"new")
    assert txn.delete(TASKS, b"deleted")
    assert txn.scan(TASKS, b"", None, 9)
    store.rollback()
    assert store.txn is txn
    assert keys(txn.scan(TASKS, b"", None, 9)) == [b"changed", b"deleted", b"kept"]
    assert txn.get(TASKS, b"changed") == b"value of changed"
    assert store.checkpointed_index == 7
    store.rollback()
    assert txn.count(TASKS) == 3


def test_rollback_of_a_new_store_leaves_nothing(store: Store) -> None:
    fill(store, TASKS, b"a")
    store.rollback()
    assert store.txn.count(TASKS) == 0
    assert store.checkpointed_index == 0


def test_the_applied_index_is_in_the_checkpoint(store: Store) -> None:
    fill(store, TASKS, b"a")
    store.checkpoint(3)
    assert unpack_index(store.txn.get(META, APPLIED_INDEX)) == store.checkpointed_index == 3
    store.checkpoint(9)  # entries that changed nothing still move it
    assert store.checkpointed_index == 9
    with pytest.raises(AssertionError, match="fell from 9 to 8"):
        store.checkpoint(8)


def test_a_checkpoint_without_changes_writes_nothing(store: Store) -> None:
    fill(store, TASKS, b"a")
    store.checkpoint(3)
    done = store.statistics().checkpoints
    store.checkpoint(3)
    assert store.statistics().checkpoints == done == 1


def test_dirty_bytes_rise_with_changes_and_fall_at_checkpoints(store: Store) -> None:
    assert store.dirty_bytes == 0
    store.txn.put(TASKS, b"a", bytes(1000))
    assert 1000 <= store.dirty_bytes < 2000
    store.txn.put_many(TASKS, [(b"b", bytes(1000))])
    assert 2000 <= store.dirty_bytes < 3000
    store.checkpoint(1)
    assert store.dirty_bytes == 0
    assert store.txn.delete(TASKS, b"a")
    assert store.dirty_bytes > 0
    store.rollback()
    assert store.dirty_bytes == 0


def test_a_reader_sees_the_last_checkpoint(store: Store) -> None:
    fill(store, TASKS, b"a", b"b")
    store.checkpoint(1)
    store.txn.put(TASKS, b"a", b"later")
    fill(store, TASKS, b"c")
    with store.reader() as reader:
        store.checkpoint(2)
        assert store.txn.delete(TASKS, b"b")
        assert unpack_index(reader.get(META, APPLIED_INDEX)) == 1
        assert reader.get(TASKS, b"a") == b"value of a"
        assert reader.get_many(TASKS, [b"a", b"c"]) == {b"a": b"value of a"}
        assert keys(reader.scan(TASKS, b"", None, 9)) == [b"a", b"b"]
        assert keys(reader.scan_back(TASKS, b"", None, 9)) == [b"b", b"a"]
        assert reader.first(TASKS, b"b", b"z") == (b"b", b"value of b")
        assert reader.count(TASKS) == 2
        assert store.statistics().readers == 1
    assert store.statistics().readers == 0
    with pytest.raises(ReaderEnded):
        reader.get(TASKS, b"a")
    assert store.txn.count(TASKS) == 2


def test_a_reader_works_in_another_thread_while_the_store_changes(store: Store) -> None:
    fill(store, TASKS, *(b"%04d" % n for n in range(2000)))
    store.checkpoint(1)
    before = state_digest(store.txn)
    found: list[bytes] = []
    with store.reader() as reader:
        thread = threading.Thread(target=lambda: found.extend(state_digest(reader) for _ in range(5)))
        thread.start()
        index = 1
        while thread.is_alive() or index < 3:
            index += 1
            for n in range(0, 2000, 7):
                store.txn.put(TASKS, b"%04d" % n, b"%d" % index)
                store.txn.delete(TASKS, b"%04d" % ((n + index) % 2000))
            store.checkpoint(index)
        thread.join()
    assert found == [before] * 5
    assert state_digest(store.txn) != before


def test_a_checkpoint_ends_readers_that_are_over_their_time(store: Store, clock: VirtualClock) -> None:
    fill(store, TASKS, b"a")
    store.checkpoint(1)
    with store.reader(limit_ms=1_000) as short, store.reader(limit_ms=5_000) as long:
        clock.advance_ms(999)
        store.checkpoint(2)
        assert short.count(TASKS) == 1
        clock.advance_ms(1)
        store.checkpoint(3)
        assert store.statistics().readers == store.statistics().readers_ended == 1
        for call in (
            lambda: short.get(TASKS, b"a"),
            lambda: short.get_many(TASKS, [b"a"]),
            lambda: short.first(TASKS, b"", b"z"),
            lambda: short.scan(TASKS, b"", None, 1),
            lambda: short.scan_back(TASKS, b"", None, 1),
            lambda: short.count(TASKS),
        ):
            with pytest.raises(ReaderEnded):
                call()
        assert long.get(TASKS, b"a") == b"value of a"


def test_readers_are_bounded(store: Store) -> None:
    with ExitStack() as stack:
        for _ in range(READERS_MAX):
            stack.enter_context(store.reader())
        with pytest.raises(Backpressure, match="32 long reads"):
            stack.enter_context(store.reader())
    with store.reader() as reader:
        assert reader.count(TASKS) == 0


def test_growth_keeps_the_rows_and_ends_readers(store: Store) -> None:
    fill(store, TASKS, b"a")
    store.checkpoint(1)
    with store.reader() as reader:
        store.grow()
        with pytest.raises(ReaderEnded):
            reader.scan(TASKS, b"", None, 9)
    assert store.statistics().readers_ended == 1
    assert store.txn.get(TASKS, b"a") == b"value of a"
    fill(store, TASKS, b"b")
    with pytest.raises(AssertionError, match="roll back first"):
        store.grow()
    store.checkpoint(2)
    assert store.txn.count(TASKS) == 2


def test_statistics_count_rows(store: Store) -> None:
    fill(store, TASKS, b"a", b"b")
    fill(store, READY, b"a")
    store.checkpoint(5)
    facts = store.statistics()
    assert facts.rows["tasks"] == 2
    assert facts.rows["ready"] == 1
    assert set(facts.rows) == {table.name.lower() for table in Table}
    assert facts.used_bytes > 0
    assert facts.checkpointed_index == 5


def test_closing_twice_is_fine(store: Store) -> None:
    store.close()
    store.close()


def test_a_closed_store_makes_nothing_durable(store: Store) -> None:
    store.checkpoint(1)
    store.close()
    calls = (lambda: store.checkpoint(2), store.rollback, store.grow, store.statistics, store.reader().__enter__)
    for call in calls:
        with pytest.raises(StorageFailed, match="closed"):
            call()
    assert store.checkpointed_index == 1


# ---- dump, load, digest: one store's dump fills the other ------------------------------------------


def test_a_dump_fills_another_store(make: Make) -> None:
    source = make()
    for number, table in enumerate(Table):
        source.txn.put_many(table, [(b"%d" % n, bytes(n % 50)) for n in range(number * 100)])
    source.txn.put(META, b"local.incarnation", b"this node")
    source.checkpoint(42)
    pieces: list[bytes] = []
    with source.reader() as reader:
        facts = dump(reader, pieces.append)
    assert facts.applied_index == 42
    assert facts.rows == sum(number * 100 for number, _ in enumerate(Table))
    assert facts.size == sum(map(len, pieces))
    for target in (make(), MemoryStore()):
        data = b"".join(pieces)
        assert load(target, (data[at : at + 1000] for at in range(0, len(data), 1000))) == facts
        assert target.checkpointed_index == 42
        assert state_digest(target.txn) == facts.digest == state_digest(source.txn)
        assert target.txn.get(META, b"local.incarnation") is None
        assert target.txn.count(Table.COUNTS) == 1500


def test_the_digest_tells_states_apart_and_not_nodes(make: Make) -> None:
    digests = set()
    for changes in ([], [(TASKS, b"a", b"b")], [(READY, b"a", b"b")], [(TASKS, b"ab", b"")], [(TASKS, b"a", b"c")]):
        store = make()
        for change in changes:
            store.txn.put(*change)
        digest = state_digest(store.txn)
        store.txn.put(META, b"local.name", b"n1")
        store.checkpoint(77)
        assert state_digest(store.txn) == digest
        digests.add(digest)
    assert len(digests) == 5


# ---- any sequence, against a plain dict -----------------------------------------------------------

KEYS = st.binary(min_size=1, max_size=3) | st.sampled_from([b"a", b"b", b"ab", b"\xff", b"k" * KEY_BYTES_MAX])
BOUNDS = st.just(b"") | KEYS
TABLES = st.sampled_from([TASKS, READY])
STEPS = st.one_of(
    st.tuples(st.just("put"), TABLES, KEYS, st.binary(max_size=4) | st.just(b"x" * 5000)),
    st.tuples(st.just("put"), TABLES, KEYS, st.binary(max_size=4)),
    st.tuples(st.just("put_many"), TABLES, st.lists(st.tuples(KEYS, st.binary(max_size=2)), max_size=6)),
    st.tuples(st.just("delete"), TABLES, KEYS),
    st.tuples(st.just("delete"), TABLES, KEYS),
    st.tuples(st.just("delete_many"), TABLES, st.lists(KEYS, max_size=6) | st.lists(KEYS, max_size=6).map(sorted)),
    st.tuples(st.just("scan"), TABLES, BOUNDS, st.none() | BOUNDS, st.integers(0, 5)),
    st.tuples(st.just("first"), TABLES, BOUNDS, BOUNDS),
    st.tuples(st.just("get_many"), TABLES, st.lists(KEYS, max_size=5)),
    st.tuples(
        st.just("reader"),
    ),
    st.tuples(
        st.just("checkpoint"),
    ),
    st.tuples(
        st.just("rollback"),
    ),
)
Model = dict[Table, dict[bytes, bytes]]


def copied(model: Model) -> Model:
    return {table: dict(rows) for table, rows in model.items()}


def run_on(store: Store, steps: list[tuple[object, ...]]) -> None:
    model: Model = {TASKS: {}, READY: {}}
    saved = copied(model)
    index = 0
    with ExitStack() as open_readers:
        for step in steps:
            match step:
                case ("put", Table() as table, bytes() as key, bytes() as value):
                    store.txn.put(table, key, value)
                    model[table][key] = value
                case ("put_many", Table() as table, list() as pairs):
                    store.txn.put_many(table, pairs)
                    model[table].update(pairs)
                case ("delete", Table() as table, bytes() as key):
                    assert store.txn.delete(table, key) == (model[table].pop(key, None) is not None)
                case ("delete_many", Table() as table, list() as gone):
                    known = len(model[table])
                    model[table] = {key: value for key, value in model[table].items() if key not in gone}
                    assert store.txn.delete_many(table, gone) == known - len(model[table])
                case ("scan", Table() as table, bytes() as start, stop, int() as limit):
                    assert stop is None or isinstance(stop, bytes)
                    rows = [
                        (k, v) for k, v in sorted(model[table].items()) if start <= k and (stop is None or k < stop)
                    ]
                    assert store.txn.scan(table, start, stop, limit) == rows[:limit]
                    assert store.txn.scan_back(table, start, stop, limit) == rows[::-1][:limit]
                case ("first", Table() as table, bytes() as start, bytes() as stop):
                    rows = [(k, v) for k, v in sorted(model[table].items()) if start <= k < stop]
                    assert store.txn.first(table, start, stop) == (rows[0] if rows else None)
                case ("get_many", Table() as table, list() as wanted):
                    assert store.txn.get_many(table, wanted) == {
                        k: model[table][k] for k in wanted if k in model[table]
                    }
                case ("reader",):
                    reader = open_readers.enter_context(store.reader())
                    for table in model:
                        assert dict(reader.scan(table, b"", None, 1000)) == saved[table]
                    open_readers.callback(check_reader, reader, copied(saved))
                case ("checkpoint",):
                    index += 1
                    store.checkpoint(index)
                    saved = copied(model)
                case ("rollback",):
                    store.rollback()
                    model = copied(saved)
            for table, rows_now in model.items():
                assert store.txn.count(table) == len(rows_now)
        for table, rows_now in model.items():
            assert store.txn.scan(table, b"", None, 1000) == sorted(rows_now.items())
            assert all(store.txn.get(table, key) == value for key, value in rows_now.items())


def check_reader(reader: object, saved: Model) -> None:
    """At the end of a run a reader still shows the checkpoint it began at."""
    for table, rows in saved.items():
        assert reader.scan(table, b"", None, 1000) == sorted(rows.items())  # type: ignore[attr-defined]


@settings(max_examples=2000 if LONG else 150, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_memory_is_a_dict_in_order(steps: list[tuple[object, ...]]) -> None:
    run_on(MemoryStore(), steps)


@settings(max_examples=400 if LONG else 40, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_lmdb_is_a_dict_in_order(steps: list[tuple[object, ...]]) -> None:
    with TemporaryDirectory() as root:
        store = LmdbStore.open(RealDisk(root), "store", VirtualClock())
        try:
            run_on(store, steps)
        finally:
            store.close()


# ---- a state that goes from node to node ------------------------------------------------------------------


def pieces_of(store: Store) -> list[bytes]:
    copy = store.copy(60_000)
    try:
        return list(iter(copy.read, b""))
    finally:
        copy.close()


def take(store: Store, pieces: list[bytes], index: int) -> None:
    intake = store.intake()
    for piece in pieces:
        intake.write(piece)
    intake.finish(index)
    store.adopt(intake)


def test_a_copy_is_the_last_checkpoint_whatever_comes_after(make: Make) -> None:
    store, other = make(), make()
    for number in range(300):
        store.txn.put(TASKS, b"%04d" % number, bytes(1000))
    store.checkpoint(7)
    digest = state_digest(store.txn)
    copy = store.copy(60_000)
    store.txn.put(TASKS, b"later", b"1")
    store.checkpoint(8)
    store.txn.put(TASKS, b"open", b"1")
    pieces = list(iter(copy.read, b""))
    assert copy.applied_index == 7
    copy.close()
    other.txn.put(READY, b"gone", b"1")
    other.checkpoint(3)
    take(other, pieces, 7)
    assert (state_digest(other.txn), other.checkpointed_index) == (digest, 7)
    assert store.checkpointed_index == 8


def test_an_adopted_state_is_durable_and_written_on(make: Make) -> None:
    store, other = make(), make()
    fill(store, TASKS, b"a", b"b")
    store.checkpoint(5)
    txn = other.txn
    fill(other, TASKS, b"x")
    with other.reader() as reader:
        take(other, pieces_of(store), 5)
        with pytest.raises(ReaderEnded):
            reader.count(TASKS)
    assert other.txn is txn
    fill(other, TASKS, b"lost")
    other.rollback()
    assert [key for key, _ in txn.scan(TASKS, b"", None, 9)] == [b"a", b"b"]
    fill(other, TASKS, b"c")
    other.checkpoint(6)
    assert state_digest(other.txn) != state_digest(store.txn)
    fill(store, TASKS, b"c")
    store.checkpoint(6)
    assert state_digest(other.txn) == state_digest(store.txn)
    take(store, pieces_of(other), 6)
    assert state_digest(other.txn) == state_digest(store.txn)


def test_what_belongs_to_a_node_stays_with_it(make: Make) -> None:
    store, other = make(), make()
    store.txn.put(META, b"local.theirs", b"1")
    store.txn.put(META, b"local.both", b"theirs")
    store.checkpoint(5)
    other.txn.put(META, b"local.both", b"ours")
    other.checkpoint(1)
    take(other, pieces_of(store), 5)
    assert other.txn.scan(META, b"local.", b"local/", 9) == [(b"local.both", b"ours")]


def test_a_state_of_another_index_or_cut_off_is_refused(make: Make) -> None:
    store, other = make(), make()
    for number in range(300):
        store.txn.put(TASKS, b"%04d" % number, bytes(1000))
    store.checkpoint(5)
    pieces = pieces_of(store)
    whole = b"".join(pieces)
    fill(other, TASKS, b"kept")
    other.checkpoint(2)
    for bad, index in ((whole, 6), (whole[: len(whole) // 2], 5), (b"", 5), (b"GET / HTTP/1.1\r\n" * 999, 5)):
        intake = other.intake()
        intake.write(bad)
        with pytest.raises(DataDamaged):
            intake.finish(index)
        intake.drop()
        intake.drop()
    assert other.txn.scan(TASKS, b"", None, 9) == [(b"kept", b"value of kept")]
    take(other, pieces, 5)
    assert other.checkpointed_index == 5


def test_a_copy_ends_when_it_is_over_its_time_or_closed(make: Make, clock: VirtualClock) -> None:
    store = make()
    for number in range(3000):
        store.txn.put(TASKS, b"%04d" % number, bytes(1000))
    store.checkpoint(1)
    copy, closed = store.copy(1_000), store.copy(1_000)
    assert copy.read() != b""
    assert store.statistics().readers == 2
    closed.close()
    closed.close()
    clock.advance_ms(1_000)
    store.checkpoint(2)
    for one in (copy, closed):
        with pytest.raises(ReaderEnded):
            one.read()
        one.close()
    assert (store.statistics().readers, store.statistics().readers_ended) == (0, 1)
    copy = store.copy(1_000)
    copy.read()
    store.grow()
    with pytest.raises(ReaderEnded):
        copy.read()


def test_copies_are_bounded_in_number(make: Make) -> None:
    store = make()
    copies = [store.copy(1_000) for _ in range(READERS_MAX)]
    with pytest.raises(Backpressure):
        store.copy(1_000)
    for copy in copies:
        copy.close()
    store.copy(1_000).close()
