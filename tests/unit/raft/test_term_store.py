from __future__ import annotations

import pytest

from tq.raft.term_store import FILE_NAMES, TermStore, TermVote
from tq.sim.disk import PowerLoss, SimDisk
from tq.sim.random import SeededRandom


def store_on(disk: SimDisk) -> TermStore:
    store = TermStore.open(disk, "raft")
    assert store is not None
    return store


@pytest.fixture
def disk() -> SimDisk:
    disk = SimDisk()
    disk.make_directory("raft")
    disk.sync_directory()
    TermStore.create(disk, "raft")
    disk.sync_directory("raft")
    return disk


def reopen(disk: SimDisk) -> TermVote:
    disk.crash()
    return store_on(disk).current


def put(disk: SimDisk, name: str, content: bytes) -> None:
    file = disk.open(f"raft/{name}")
    file.truncate(0)
    file.append(content)
    file.sync()


def test_begins_with_term_0(disk):
    assert reopen(disk) == TermVote(0, 0, None)


@pytest.mark.parametrize("vote", [None, "n1", "nöde"])
def test_is_there_after_power_loss(disk, vote):
    store_on(disk).write(7, vote)
    disk.power_loss(SeededRandom(1))
    assert store_on(disk).current == TermVote(1, 7, vote)


@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize("harm", ["rot", "empty", "torn", "gone"])
def test_one_damaged_copy_does_not_matter(disk, name, harm):
    store_on(disk).write(7, "n1")
    disk.crash()
    if harm == "rot":
        disk.rot(f"raft/{name}", 17)
    elif harm == "gone":
        disk.remove(f"raft/{name}")
    else:
        file = disk.open(f"raft/{name}")
        file.truncate(0 if harm == "empty" else file.size() - 1)
    assert reopen(disk) == TermVote(1, 7, "n1")
    for other in FILE_NAMES:  # both are whole again
        assert TermVote.decode(disk.synced(f"raft/{other}") or b"") == TermVote(1, 7, "n1")


def test_two_damaged_copies_are_not_taken_for_no_vote(disk):
    store_on(disk).write(7, "n1")
    disk.crash()
    for name in FILE_NAMES:
        disk.rot(f"raft/{name}", 17)
    assert TermStore.open(disk, "raft") is None


@pytest.mark.parametrize(("first", "second"), [(3, 2), (2, 3)])
def test_the_newer_of_two_whole_copies_counts(disk, first, second):
    put(disk, FILE_NAMES[0], TermVote(first, first, None).encode())
    put(disk, FILE_NAMES[1], TermVote(second, second, None).encode())
    assert reopen(disk) == TermVote(3, 3, None)


def test_after_a_failed_sync_the_page_cache_is_not_trusted(disk):
    """Whichever copy's sync failed: once reopened, what it says is on the platter."""
    for after in (0, 1):
        store = store_on(disk)
        before = store.current
        disk.fail_sync(after=after)
        with pytest.raises(OSError):
            store.write(before.term + 5, "n2")
        current = reopen(disk)
        disk.power_loss(SeededRandom(after))
        assert store_on(disk).current == current
        disk.crash()


@pytest.mark.parametrize("seed", range(8))
def test_power_loss_at_every_step_of_write_and_open(disk, seed):
    """Either the old or the new value, never an older one and never none; what was opened stays."""
    random = SeededRandom(seed)
    for step in range(1, 14):
        before = store_on(disk).current
        disk.crash()
        target = (before.term + 1, f"n{step}")
        disk.stop_at(disk.steps + step)
        finished = False
        try:
            store_on(disk).write(*target)
            finished = True
        except PowerLoss:
            pass
        disk.power_loss(random)
        # the power goes again while the copies are repaired
        disk.stop_at(disk.steps + 1 + random.below(6))
        try:
            store_on(disk)
        except PowerLoss:
            pass
        disk.power_loss(random)
        after = store_on(disk).current
        disk.crash()
        assert (after.term, after.vote) in ({target} if finished else {target, (before.term, before.vote)}), seed
