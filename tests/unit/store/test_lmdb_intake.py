"""A state that arrives, file by file: what a crash leaves, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tq.errors import StorageFailed, Unsupported
from tq.sim.clock import VirtualClock
from tq.store.lmdb_store import LmdbStore
from tq.store.store import STORE_FORMAT_KEY, StoreIntake
from tq.store.tables import Table
from tq.world import RealDisk

TASKS = Table.TASKS


class Stop(BaseException):
    pass


class StoppingDisk(RealDisk):
    """Stops before the step that is asked for; steps are changes of names and syncs of them."""

    left: int | None = None

    def _step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Stop

    def rename(self, old: str, new: str) -> None:
        self._step()
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self._step()
        super().remove(path)

    def sync_directory(self, path: str = "") -> None:
        self._step()
        super().sync_directory(path)


def state(folder: Path, format_number: int | None = None) -> list[bytes]:
    store = LmdbStore.open(RealDisk(str(folder)), "store", VirtualClock())
    store.txn.put(TASKS, b"new", b"1")
    if format_number is not None:
        store.txn.put(Table.META, STORE_FORMAT_KEY, format_number.to_bytes(4, "big"))
    store.checkpoint(9)
    copy = store.copy(60_000)
    pieces = list(iter(copy.read, b""))
    store.close()
    return pieces


def filled(store: LmdbStore, pieces: list[bytes]) -> StoreIntake:
    intake = store.intake()
    for piece in pieces:
        intake.write(piece)
    intake.finish(9)
    return intake


@pytest.fixture
def open_old(tmp_path: Path) -> Callable[[], tuple[StoppingDisk, LmdbStore]]:
    def open_() -> tuple[StoppingDisk, LmdbStore]:
        disk = StoppingDisk(str(tmp_path / "data"))
        store = LmdbStore.open(disk, "store", VirtualClock())
        return disk, store

    _, store = open_()
    store.txn.put(TASKS, b"old", b"1")
    store.checkpoint(4)
    store.close()
    return open_


def test_stopped_at_any_step_there_is_the_old_state_or_the_new(
    tmp_path: Path, open_old: Callable[[], tuple[StoppingDisk, LmdbStore]]
) -> None:
    pieces = state(tmp_path / "leader")
    found = []
    for left in range(20):
        disk, store = open_old()
        intake = filled(store, pieces)
        disk.left = left
        try:
            store.adopt(intake)
        except Stop:
            pass
        is_done = disk.left >= 0
        disk.left = None
        store.close()
        _, store = open_old()
        rows = (store.checkpointed_index, [key for key, _ in store.txn.scan(TASKS, b"", None, 9)])
        assert rows in [(4, [b"old"]), (9, [b"new"])]
        found.append(rows[0])
        store.close()
        if is_done:
            break
    assert found == sorted(found)
    assert (found[0], found[-1]) == (4, 9)
    assert len(found) > 4


def test_nothing_is_left_beside_the_store(
    tmp_path: Path, open_old: Callable[[], tuple[StoppingDisk, LmdbStore]]
) -> None:
    pieces = state(tmp_path / "leader")
    disk, store = open_old()
    half = store.intake()
    half.write(pieces[0][:10])
    store.adopt(filled(store, pieces))  # which takes the place of the half one
    assert disk.list() == ["store"]
    assert disk.list("store") == ["data.mdb", "lock.mdb"]
    store.close()


def test_another_format_is_refused(tmp_path: Path, open_old: Callable[[], tuple[StoppingDisk, LmdbStore]]) -> None:
    _, store = open_old()
    with pytest.raises(Unsupported, match="store format 2; this version reads 1"):
        filled(store, state(tmp_path / "leader", 2))
    store.close()


def test_a_store_that_could_not_be_replaced_is_closed(
    tmp_path: Path, open_old: Callable[[], tuple[StoppingDisk, LmdbStore]]
) -> None:
    _, store = open_old()
    intake = filled(store, state(tmp_path / "leader"))
    intake.drop()
    with pytest.raises(StorageFailed, match="could not be replaced"):
        store.adopt(intake)
    with pytest.raises(StorageFailed, match="closed"):
        store.checkpoint(5)
    store.close()
