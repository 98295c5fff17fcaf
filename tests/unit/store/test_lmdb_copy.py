"""Copies of a store that is in use: by another thread, cut off at any time. What a copy is stands in tests/conformance."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from tq.errors import DataDamaged
from tq.sim.clock import VirtualClock
from tq.store.dump import state_digest
from tq.store.lmdb_store import LmdbStore
from tq.store.store import CopyFailed, ReaderEnded
from tq.store.tables import Table
from tq.world import RealDisk

TASKS = Table.TASKS
ROWS = 4_000


@pytest.fixture
def disk(tmp_path: Path) -> RealDisk:
    return RealDisk(str(tmp_path / "data"))


@pytest.fixture
def store(disk: RealDisk) -> Iterator[LmdbStore]:
    store = LmdbStore.open(disk, "store", VirtualClock(), map_bytes=1 << 20)
    for number in range(ROWS):
        store.txn.put(TASKS, b"%06d" % number, os.urandom(900))
    store.checkpoint(1)
    yield store
    store.close()


def test_another_thread_reads_it_while_the_store_is_written(store: LmdbStore, disk: RealDisk) -> None:
    digest = state_digest(store.txn)
    copy = store.copy(60_000)
    pieces: list[bytes] = []
    begun = threading.Event()

    def read() -> None:
        while data := copy.read():
            pieces.append(data)
            begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(10)
    for number in range(ROWS):
        store.txn.put(TASKS, b"%06d" % number, b"new")
        if number % 400 == 0:
            store.checkpoint(2 + number)
    thread.join(10)
    copy.close()
    other = LmdbStore.open(disk, "other", VirtualClock())
    intake = other.intake()
    for piece in pieces:
        intake.write(piece)
    intake.finish(1)
    other.adopt(intake)
    assert state_digest(other.txn) == digest
    other.close()


def test_it_ends_while_nobody_reads_on(store: LmdbStore) -> None:
    """The pipe is full and LMDB waits in it: the store need not wait for the reader."""
    copy = store.copy(60_000)
    assert copy.read() != b""
    copy.close()
    with pytest.raises(ReaderEnded):
        copy.read()
    before = len(os.listdir("/proc/self/fd"))
    store.copy(60_000).close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_no_thread_and_no_file_is_left(store: LmdbStore) -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        copy = store.copy(60_000)
        copy.read()
        copy.close()
        copy = store.copy(60_000)
        while copy.read():
            pass
        copy.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)


def test_a_closed_store_ends_it(store: LmdbStore) -> None:
    copy = store.copy(60_000)
    copy.read()
    store.close()
    with pytest.raises(ReaderEnded):
        copy.read()
    copy.close()


class Environment:
    """Fails as LMDB does."""

    def __init__(self, error: lmdb.Error) -> None:
        self._error = error

    def copyfd(self, _descriptor: int, **_options: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "raised"), [(lmdb.IncompatibleError("x"), CopyFailed), (lmdb.CorruptedError("x"), DataDamaged)]
)
def test_what_lmdb_says_of_the_store_is_told(
    store: LmdbStore, monkeypatch: pytest.MonkeyPatch, error: lmdb.Error, raised: type[Exception]
) -> None:
    copy = store.copy(60_000)
    monkeypatch.setattr(copy, "_environment", Environment(error))
    with pytest.raises(raised):
        copy.read()
    copy.close()
