from __future__ import annotations

import pytest

from tq.broker.snapshot_installing import SnapshotInstalling, finish_installation
from tq.errors import DataDamaged, StorageFailed
from tq.raft.node import Installation
from tq.raft.snapshots import DIRECTORY, SnapshotId, new_digest
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore

from .snapshot_rig import Rig


class InstallingRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.fill(4)
        self.replaced: list[tuple[int, list[str]]] = []
        self.installing = SnapshotInstalling(
            self.node, self.store, self.disk, self.work, self._on_installed, self.wake, self.log
        )

    def _on_installed(self) -> None:
        self.replaced.append((self.store.checkpointed_index, list(self.node.log)))

    def arrive(self, index: int, *, spoil: bool = False) -> bytes:
        """One that is whole. Returns the digest of its state."""
        other = MemoryStore()
        self.fill(index, store=other)
        copy = other.copy(1000)
        data = b"".join(iter(copy.read, b""))
        digest = new_digest()
        digest.update(data)
        snapshot_id = SnapshotId(index, 5, len(data), digest.digest())
        path = f"{DIRECTORY}/{snapshot_id.name}.whole"
        self.disk.make_directory(DIRECTORY)
        file = self.disk.open(path, create=True)
        file.append(data)
        if spoil:
            self.disk.rot(path, len(data) // 2)
        self.node.installation = Installation(index, 5, path)
        return state_digest(other.txn)


@pytest.fixture
def rig() -> InstallingRig:
    return InstallingRig()


def test_the_store_takes_it_then_the_rest_is_made_anew_then_the_mark_goes(rig):
    digest = rig.arrive(30)
    rig.store.txn.put(0, b"machine.open", b"1")  # a change that is not checkpointed goes with the old state
    rig.installing.look()
    assert rig.installing.is_installing
    assert rig.store.checkpointed_index == 4
    rig.installing.look()
    assert (state_digest(rig.store.txn), rig.store.checkpointed_index) == (digest, 30)
    assert rig.replaced == [(30, [])], "before the node is told"
    assert rig.node.log == ["installed"]
    assert (rig.installing.installed, rig.wakes, rig.installing.is_installing) == (1, 1, False)
    rig.installing.look()
    assert rig.work.job is None


def test_a_later_one_takes_the_place_of_one_that_is_written(rig):
    rig.arrive(30)
    rig.work.is_held = True
    rig.installing.look()
    later = rig.arrive(40)
    rig.work.is_held = False
    rig.installing.look()
    assert (rig.store.checkpointed_index, rig.node.log) == (4, [])
    rig.installing.look()
    rig.installing.look()
    assert (state_digest(rig.store.txn), rig.node.log) == (later, ["installed"])


def test_a_later_one_that_is_not_begun_yet_is_waited_for(rig):
    """The log waits for a sync before it begins behind the later one: there is none to install, and the node is not told."""
    rig.arrive(30)
    rig.work.is_held = True
    rig.installing.look()
    rig.node.installation = None
    rig.work.is_held = False
    rig.installing.look()
    assert (rig.store.checkpointed_index, rig.node.log) == (4, [])


def test_one_that_rotted_is_not_taken(rig):
    before = state_digest(rig.store.txn)
    rig.arrive(30, spoil=True)
    rig.installing.look()
    with pytest.raises(DataDamaged, match="not whole any more"):
        rig.installing.look()
    assert (state_digest(rig.store.txn), rig.store.checkpointed_index, rig.node.log) == (before, 4, [])


def test_a_disk_that_fails_stops_the_node(rig):
    rig.arrive(30)
    rig.installing.look()
    rig.disk.crash()  # the file's handle is dead
    with pytest.raises(StorageFailed, match="installing"):
        rig.installing.look()


def test_the_end_of_the_process_leaves_it_to_the_next(rig):
    rig.arrive(30)
    rig.installing.look()
    rig.installing.close()
    assert rig.work.closed
    assert rig.node.installation is not None
    rig.installing.close()


def test_a_start_finishes_it(rig):
    digest = rig.arrive(30)
    finish_installation(rig.disk, rig.store)
    assert (state_digest(rig.store.txn), rig.store.checkpointed_index) == (digest, 30)
    rig.fill(31)
    finish_installation(rig.disk, rig.store)
    assert rig.store.checkpointed_index == 31, "it has taken it before: not again"


def test_a_start_without_one_does_nothing(rig):
    finish_installation(rig.disk, rig.store)
    assert rig.store.checkpointed_index == 4
