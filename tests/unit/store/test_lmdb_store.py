"""What is LMDB's alone: faults of the map, the file and the disk. What all stores do is in tests/conformance."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from tq import limits
from tq.errors import DataDamaged, StorageFailed, Unsupported
from tq.sim.clock import VirtualClock
from tq.store.dump import state_digest
from tq.store.lmdb_store import LmdbStore
from tq.store.store import STORE_FORMAT_KEY, ReaderEnded, StoreFull
from tq.store.tables import Table
from tq.world import RealDisk, RealFile

TASKS, SPECS = Table.TASKS, Table.SPECS
PAGE_BYTES = 4096
MAP_BYTES = 1 << 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_store(data: Path) -> Iterator[Callable[[], LmdbStore]]:
    stores: list[LmdbStore] = []

    def open_() -> LmdbStore:
        stores.append(LmdbStore.open(RealDisk(str(data)), "store", VirtualClock(), map_bytes=MAP_BYTES))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def fill(store: LmdbStore, rows: int = 300) -> None:
    for table in (TASKS, Table.READY):
        store.txn.put_many(table, [(b"k%04d" % n, bytes(n % 200)) for n in range(rows)])
    store.txn.put(SPECS, b"large", bytes(50_000))


@pytest.fixture
def filled(open_store: Callable[[], LmdbStore], data: Path) -> Path:
    """The file of a store that was closed after a checkpoint."""
    store = open_store()
    fill(store)
    store.checkpoint(1)
    store.close()
    return data / "store" / "data.mdb"


# ---- opening ----------------------------------------------------------------------------------------


def test_what_was_checkpointed_is_there_after_a_restart(open_store: Callable[[], LmdbStore]) -> None:
    store = open_store()
    store.txn.put(TASKS, b"kept", b"1")
    store.checkpoint(5)
    store.txn.put(TASKS, b"lost", b"1")
    store.close()
    again = open_store()
    assert again.checkpointed_index == 5
    assert again.txn.scan(TASKS, b"", None, 9) == [(b"kept", b"1")]


def test_only_the_owner_reads_it(filled: Path) -> None:
    assert stat.S_IMODE(filled.stat().st_mode) == 0o600
    assert stat.S_IMODE(filled.parent.stat().st_mode) == 0o700


def test_an_unfinished_store_is_made_again(data: Path, open_store: Callable[[], LmdbStore]) -> None:
    unfinished = data / "store.new"
    unfinished.mkdir(parents=True)
    (unfinished / "data.mdb").write_bytes(b"begun")
    store = open_store()
    assert store.checkpointed_index == 0
    assert not unfinished.exists()


def test_another_format_is_refused(filled: Path, open_store: Callable[[], LmdbStore]) -> None:
    with lmdb.open(str(filled.parent), max_dbs=20) as environment:
        meta = environment.open_db(b"meta", create=False)
        with environment.begin(write=True) as txn:
            txn.put(STORE_FORMAT_KEY, (2).to_bytes(4, "big"), db=meta)
    with pytest.raises(Unsupported, match="store format 2; this version reads 1"):
        open_store()


def test_a_store_without_its_format_or_a_table_is_damaged(filled: Path, open_store: Callable[[], LmdbStore]) -> None:
    with lmdb.open(str(filled.parent), max_dbs=20) as environment:
        jobs, meta = (environment.open_db(name, create=False) for name in (b"jobs", b"meta"))
        with environment.begin(write=True) as txn:
            txn.delete(STORE_FORMAT_KEY, db=meta)
    with pytest.raises(DataDamaged, match="no format number"):
        open_store()
    with lmdb.open(str(filled.parent), max_dbs=20) as environment:
        jobs = environment.open_db(b"jobs", create=False)
        with environment.begin(write=True) as txn:
            txn.drop(jobs)
    with pytest.raises(DataDamaged, match="NOTFOUND"):
        open_store()


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(20_000), b"no LMDB file " * 2_000])
def test_what_is_no_store_is_refused(filled: Path, open_store: Callable[[], LmdbStore], content: bytes | None) -> None:
    filled.unlink()
    if content is not None:
        filled.write_bytes(content)
    with pytest.raises(
        DataDamaged, match=r"data\.mdb: .* makes it anew\. Else, .* run tq cluster rebuild; .* restore a backup"
    ):
        open_store()


def test_a_directory_that_cannot_be_written_is_told(data: Path) -> None:
    data.mkdir()
    (data / "store.new").write_bytes(b"a file is in the way")
    with pytest.raises(StorageFailed, match=r"store/data\.mdb"):
        LmdbStore.open(RealDisk(str(data)), "store", VirtualClock())


# ---- a damaged file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [2, 5, 20, -3, -1])
def test_a_short_file_is_damage_and_does_not_end_the_process(
    filled: Path, open_store: Callable[[], LmdbStore], pages: int
) -> None:
    whole = filled.stat().st_size // PAGE_BYTES
    os.truncate(filled, (pages if pages > 0 else whole + pages) * PAGE_BYTES)
    with pytest.raises(DataDamaged, match=r"speaks of \d+: .*beyond EOF"):
        open_store()


def test_a_file_may_lack_pages_at_its_end_that_nothing_uses(
    filled: Path, open_store: Callable[[], LmdbStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As LMDB leaves it when a commit has freed what it took. A checkpoint fills it up; the power may go before."""
    store = open_store()
    with monkeypatch.context() as patch:
        patch.setattr(RealFile, "truncate", lambda file, size: None)
        store.txn.put_many(SPECS, [(b"%d" % n, bytes(3_000)) for n in range(1_000)])
        for n in range(1_000):
            assert store.txn.delete(SPECS, b"%d" % n)
        store.checkpoint(2)
        assert filled.stat().st_size < store.statistics().file_bytes
    digest = state_digest(store.txn)
    store.close()
    again = open_store()
    assert filled.stat().st_size == again.statistics().file_bytes
    assert state_digest(again.txn) == digest
    again.txn.put_many(SPECS, [(b"%d" % n, bytes(3_000)) for n in range(1_000)])
    for n in range(1_000):
        assert again.txn.delete(SPECS, b"%d" % n)
    again.checkpoint(3)
    assert filled.stat().st_size == again.statistics().file_bytes


def state_digest_of(open_store: Callable[[], LmdbStore]) -> bytes:
    store = open_store()
    try:
        return state_digest(store.txn)
    finally:
        store.close()


def test_a_page_of_garbage_is_damage(filled: Path, open_store: Callable[[], LmdbStore]) -> None:
    """Whatever page it is: reading all there is finds it. Except in a page that nothing uses, or one that is a value's
    alone: LMDB has no checksums.
    """
    content = filled.read_bytes()
    before = state_digest_of(open_store)
    found = 0
    for page in range(2, len(content) // PAGE_BYTES):
        garbage = b"\xff" * PAGE_BYTES
        filled.write_bytes(content[: page * PAGE_BYTES] + garbage + content[(page + 1) * PAGE_BYTES :])
        store = None
        try:
            store = open_store()
            assert state_digest(store.txn) == before or store.txn.get(SPECS, b"large") != bytes(50_000)
        except DataDamaged:
            found += 1
        finally:
            if store is not None:
                store.close()
    assert found > 20


def test_keys_out_of_order_are_damage(filled: Path, open_store: Callable[[], LmdbStore]) -> None:
    content = bytearray(filled.read_bytes())
    at = content.rindex(b"k0007")
    content[at : at + 5] = b"\0\0\0\0\0"
    filled.write_bytes(content)
    with pytest.raises(DataDamaged, match="out of order"):
        state_digest_of(open_store)


def test_a_scan_does_not_end_outside_of_its_range(filled: Path, open_store: Callable[[], LmdbStore]) -> None:
    """Who goes on from the last key of a scan would go round for ever."""
    content = filled.read_bytes()
    filled.write_bytes(content.replace(b"k0299", bytes(5)))
    store = open_store()
    with pytest.raises(DataDamaged, match="TASKS are out of order"):
        store.txn.scan(TASKS, b"k0290", None, 100)
    store.close()
    filled.write_bytes(content.replace(b"k0000", b"\xff" * 5))
    store = open_store()
    with pytest.raises(DataDamaged, match="TASKS are out of order"):
        store.txn.scan_back(TASKS, b"", b"k0010", 100)


def test_after_damage_the_store_is_closed(filled: Path, open_store: Callable[[], LmdbStore]) -> None:
    content = bytearray(filled.read_bytes())
    at = content.rindex(b"k0299") // PAGE_BYTES * PAGE_BYTES
    content[at : at + PAGE_BYTES] = b"\xff" * PAGE_BYTES
    filled.write_bytes(content)
    store = open_store()
    with pytest.raises(DataDamaged, match="lmdb verify"):
        state_digest(store.txn)
    for call in (lambda: store.checkpoint(9), store.rollback, store.grow, lambda: store.reader().__enter__()):
        with pytest.raises(StorageFailed, match="closed by an earlier error"):
            call()


# ---- a full map ---------------------------------------------------------------------------------------


@pytest.fixture
def small(open_store: Callable[[], LmdbStore], monkeypatch: pytest.MonkeyPatch) -> LmdbStore:
    """A store that does not grow by itself, in a map of a MiB."""
    monkeypatch.setattr(limits, "MAP_HEADROOM_BYTES", 0)
    store = open_store()
    store.txn.put(TASKS, b"old", b"1")
    store.checkpoint(1)
    return store


def fill_up(store: LmdbStore) -> int:
    """Puts until the map is full; how many went in."""
    for number in range(100_000):
        try:
            store.txn.put(SPECS, b"%06d" % number, bytes(2_000))
        except StoreFull:
            return number
    raise AssertionError("it is never full")


def test_a_full_map_is_rolled_back_and_grown(small: LmdbStore) -> None:
    count = fill_up(small)
    for call in (
        lambda: small.txn.put(TASKS, b"a", b"1"),
        lambda: small.txn.put_many(TASKS, [(b"a", b"1")]),
        lambda: small.txn.delete(TASKS, b"old"),
        lambda: small.checkpoint(2),
    ):
        with pytest.raises(StoreFull):
            call()
    small.rollback()
    assert small.txn.count(SPECS) == 0
    assert small.checkpointed_index == 1
    small.grow()
    assert small.statistics().map_bytes == 2 * MAP_BYTES
    for number in range(count + 50):
        small.txn.put(SPECS, b"%06d" % number, bytes(2_000))
    small.checkpoint(2)
    assert small.txn.count(SPECS) == count + 50
    assert small.txn.get(TASKS, b"old") == b"1"


def test_a_map_that_is_full_at_the_commit_itself(small: LmdbStore) -> None:
    """A commit needs pages of its own: with few left the puts succeed and the checkpoint does not."""
    most = fill_up(small)
    full_at_commit = 0
    for count in range(most, most - 20, -1):
        small.rollback()
        try:
            for number in range(count):
                small.txn.put(SPECS, b"%06d" % number, bytes(2_000))
        except StoreFull:
            continue
        try:
            small.checkpoint(2)
            break
        except StoreFull:
            full_at_commit += 1
            assert small.checkpointed_index == 1
    assert full_at_commit > 0
    assert small.checkpointed_index == 2


def test_the_map_grows_at_checkpoints_before_it_is_full(
    open_store: Callable[[], LmdbStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAP_HEADROOM_BYTES", MAP_BYTES // 2)
    store = open_store()
    index = 0
    for number in range(5_000):
        store.txn.put(SPECS, b"%06d" % number, bytes(2_000))
        if number % 50 == 0:
            index += 1
            store.checkpoint(index)
    assert store.statistics().map_bytes == 32 * MAP_BYTES
    assert store.txn.count(SPECS) == 5_000


def test_a_reader_puts_growth_off_until_it_must_be(small: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAP_HEADROOM_BYTES", MAP_BYTES)
    with small.reader() as reader:
        small.txn.put(TASKS, b"new", b"1")
        small.checkpoint(2)
        assert reader.count(TASKS) == 1
        assert small.statistics().map_bytes == MAP_BYTES
        fill_up(small)
        small.rollback()
        small.grow()
        with pytest.raises(ReaderEnded):
            reader.count(TASKS)
    small.txn.put(TASKS, b"newer", b"1")
    small.checkpoint(3)


def test_growth_ends_a_reader_in_the_middle_of_its_thread(open_store: Callable[[], LmdbStore]) -> None:
    store = open_store()
    fill(store)
    store.checkpoint(1)
    started = threading.Event()
    ended: list[type[Exception]] = []

    def read_on() -> None:
        try:
            while True:
                reader.scan(TASKS, b"", None, 50)
                started.set()
        except ReaderEnded as error:
            ended.append(type(error))

    with store.reader() as reader:
        thread = threading.Thread(target=read_on)
        thread.start()
        assert started.wait(30)
        store.grow()
        thread.join(30)
    assert ended == [ReaderEnded]


# ---- a full or broken disk ----------------------------------------------------------------------------

FULL_DISK = """
import resource, sys
from tq.errors import StorageFailed
from tq.sim.clock import VirtualClock
from tq.store.lmdb_store import LmdbStore
from tq.store.tables import Table
from tq.world import RealDisk, RealFile
store = LmdbStore.open(RealDisk(sys.argv[1]), "store", VirtualClock())
size = store.statistics().file_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for number in range(100):
    store.txn.put(Table.SPECS, b"%d" % number, bytes(5_000))
try:
    store.checkpoint(2)
except StorageFailed as error:
    print("failed:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for call in (lambda: store.checkpoint(2), store.rollback, lambda: store.txn.get(Table.TASKS, b"old")):
    try:
        call()
    except StorageFailed as error:
        print("refused:", error)
print("checkpointed", store.checkpointed_index)
"""


def test_a_full_disk_at_a_checkpoint_stops_the_store_and_leaves_the_last_one(
    data: Path, open_store: Callable[[], LmdbStore]
) -> None:
    store = open_store()
    store.txn.put(TASKS, b"old", b"1")
    store.checkpoint(1)
    store.close()
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(data)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0].startswith("failed:")
    assert "checkpoint at index 2" in said[0]
    assert [line.partition(":")[0] for line in said[1:]] == ["refused", "refused", "refused", "checkpointed 1"]
    again = open_store()
    assert again.checkpointed_index == 1
    assert again.txn.count(SPECS) == 0
    assert again.txn.get(TASKS, b"old") == b"1"
    fill(again)
    again.checkpoint(2)


def test_a_copy_of_the_file_between_checkpoints_is_a_store(
    data: Path, open_store: Callable[[], LmdbStore], tmp_path: Path
) -> None:
    """A checkpoint changes no page that the last one uses: what a backup relies on while nothing is checkpointed."""
    store = open_store()
    fill(store)
    store.checkpoint(1)
    with store.reader() as reader:
        digest = state_digest(reader)
        store.txn.put(TASKS, b"later", b"1")
        shutil.copytree(data / "store", tmp_path / "copy" / "store")
    copy = LmdbStore.open(RealDisk(str(tmp_path / "copy")), "store", VirtualClock())
    assert copy.checkpointed_index == 1
    assert state_digest(copy.txn) == digest
    copy.close()


def test_statistics(open_store: Callable[[], LmdbStore]) -> None:
    store = open_store()
    fill(store, 50)
    store.checkpoint(1)
    facts = store.statistics()
    assert facts.map_bytes >= limits.MAP_HEADROOM_BYTES
    assert 50_000 < facts.used_bytes <= facts.file_bytes < facts.map_bytes
    assert (facts.checkpoints, facts.checkpointed_index, facts.dirty_bytes) == (1, 1, 0)
    assert facts.rows["tasks"] == facts.rows["ready"] == 50
