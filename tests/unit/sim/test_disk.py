"""What the simulated disk does that a real one does only on a bad day. What both do is in tests/conformance."""

from __future__ import annotations

import errno

import pytest

from tq.sim.disk import PowerLoss, SimDisk, SimFile
from tq.sim.random import SeededRandom

LOSSES = 400


def written(disk: SimDisk, path: str, *pieces: bytes, sync: bool = False) -> SimFile:
    file = disk.open(path, create=True)
    for piece in pieces:
        file.append(piece)
    if sync:
        file.sync()
        disk.sync_directory(path.rpartition("/")[0])
    return file


def content(disk: SimDisk, path: str) -> bytes | None:
    return disk.open(path).read(0, 1 << 20) if disk.exists(path) else None


def after_losses(disk: SimDisk, path: str) -> set[bytes | None]:
    """All that is seen of ``path`` after power losses with many seeds."""
    seen = set()
    for seed in range(LOSSES):
        twin = disk.clone()
        twin.power_loss(SeededRandom(seed))
        seen.add(content(twin, path))
    return seen


# ---- power loss -------------------------------------------------------------------------------------


def test_what_was_synced_with_its_name_survives() -> None:
    disk = SimDisk()
    written(disk, "f", b"hello", sync=True)
    assert after_losses(disk, "f") == {b"hello"}
    assert disk.synced("f") == b"hello"


def test_a_name_that_was_not_synced_may_be_gone_with_all_in_it() -> None:
    disk = SimDisk()
    written(disk, "f", b"hello").sync()
    assert after_losses(disk, "f") == {None, b"hello"}
    assert disk.synced("f") is None


def test_a_tail_that_was_not_synced_is_kept_torn_or_gone() -> None:
    disk = SimDisk()
    written(disk, "f", b"ab", sync=True).append(b"cd")
    seen = after_losses(disk, "f")
    assert {b"ab", b"abc", b"abcd"} <= seen
    assert all(kept is not None and kept[:2] == b"ab" for kept in seen), "a synced byte was lost"
    assert seen <= {b"ab", b"abc", b"abcd", b"ab\0", b"ab\0\0"}


def test_blocks_may_be_missing_in_the_middle() -> None:
    disk = SimDisk()
    written(disk, "f", sync=True).append(b"x" * 2_048)
    assert any(
        kept is not None and kept.endswith(b"x" * 512) and b"\0" * 512 in kept for kept in after_losses(disk, "f")
    )


def test_a_cut_that_was_not_synced_may_come_back() -> None:
    disk = SimDisk()
    file = written(disk, "f", b"hello", sync=True)
    file.truncate(2)
    assert content(disk, "f") == b"he"
    assert after_losses(disk, "f") == {b"hello", b"he"}
    file.sync()
    assert after_losses(disk, "f") == {b"he"}


def test_a_rename_is_one_step_and_a_directory_keeps_any_of_its_steps() -> None:
    disk = SimDisk()
    written(disk, "old", b"1", sync=True)
    disk.rename("old", "new")
    written(disk, "other", b"2").sync()
    seen = set()
    for seed in range(LOSSES):
        twin = disk.clone()
        twin.power_loss(SeededRandom(seed))
        seen.add(tuple(twin.list()))
    assert seen == {("old",), ("new",), ("new", "other"), ("old", "other")}


def test_a_renamed_directory_keeps_its_files() -> None:
    disk = SimDisk()
    disk.make_directory("d")
    written(disk, "d/f", b"1", sync=True)
    disk.sync_directory()
    disk.rename("d", "e")
    assert after_losses(disk, "e/f") == {None, b"1"}
    disk.sync_directory()
    assert after_losses(disk, "e/f") == {b"1"}


def test_a_killed_process_loses_nothing_but_its_handles_and_its_lock() -> None:
    disk = SimDisk()
    disk.lock()
    file = written(disk, "f", b"hello")
    disk.crash()
    with pytest.raises(OSError, match="file is closed"):
        file.append(b"x")
    disk.lock()
    assert content(disk, "f") == b"hello"


def test_the_power_goes_at_a_step_and_stays_away() -> None:
    disk = SimDisk()
    file = written(disk, "f", b"a", sync=True)
    assert disk.steps == 4  # create, write, two syncs
    disk.stop_at(6)
    file.append(b"b")
    with pytest.raises(PowerLoss):
        file.append(b"c")
    for use in (file.size, file.sync, disk.list, disk.free_bytes, disk.lock, lambda: disk.open("g", create=True)):
        with pytest.raises(PowerLoss):
            use()
    assert disk.steps == 6
    disk.power_loss(SeededRandom(0))
    kept = content(disk, "f")
    assert kept is not None
    assert kept[:1] == b"a"
    written(disk, "g", b"on again", sync=True)


def test_a_sync_at_which_the_power_goes_has_done_nothing() -> None:
    disk = SimDisk()
    file = written(disk, "f", b"a", sync=True)
    file.append(b"b")
    disk.stop_at(disk.steps + 1)
    with pytest.raises(PowerLoss):
        file.sync()
    assert disk.synced("f") == b"a"


def test_a_power_loss_is_no_exception() -> None:
    assert not issubclass(PowerLoss, Exception)


# ---- other faults -----------------------------------------------------------------------------------


def test_a_full_disk_takes_what_fits() -> None:
    disk = SimDisk()
    file = written(disk, "f")
    disk.fill_after(3)
    with pytest.raises(OSError, match="no space left") as caught:
        file.append(b"hello")
    assert caught.value.errno == errno.ENOSPC
    assert file.read(0, 9) == b"hel"
    assert disk.free_bytes() == 0
    file.truncate(1)
    assert disk.free_bytes() == 2
    disk.remove("f")
    assert disk.free_bytes() == 3


def test_a_failed_sync_leaves_pages_that_are_never_written() -> None:
    disk = SimDisk()
    file = written(disk, "f", b"ab", sync=True)
    file.append(b"cd")
    disk.fail_sync()
    with pytest.raises(OSError, match="input/output error"):
        file.sync()
    assert file.read(0, 9) == b"abcd", "the page cache still shows it"
    file.sync()  # and this says that all is well
    assert after_losses(disk, "f") == {b"ab\0\0"}


def test_a_later_sync_can_be_the_one_that_fails() -> None:
    disk = SimDisk()
    file = written(disk, "f")
    disk.fail_sync(after=2)
    file.sync()
    disk.sync_directory()
    with pytest.raises(OSError, match="input/output error"):
        file.sync()
    file.sync()


def test_a_directory_can_fail_to_sync() -> None:
    disk = SimDisk()
    written(disk, "f").sync()
    disk.fail_sync()
    with pytest.raises(OSError, match="input/output error"):
        disk.sync_directory()
    assert disk.synced("f") is None


def test_a_lying_disk_says_that_it_has_synced() -> None:
    disk = SimDisk()
    answers = iter([True, False])
    disk.lie(lambda: next(answers))
    file = written(disk, "f", b"a")
    file.sync()
    assert after_losses(disk, "f") == {None, b"a", b"", b"\0"}
    disk.sync_directory()
    disk.lie(None)
    file.sync()
    assert after_losses(disk, "f") == {b"a"}


def test_a_bit_rots_for_readers_and_on_the_platter() -> None:
    disk = SimDisk()
    written(disk, "f", b"a", sync=True)
    disk.rot("f", 0, 1)
    assert content(disk, "f") == disk.synced("f") == b"c"
    with pytest.raises(FileNotFoundError):
        disk.rot("g", 0)


def test_a_clone_goes_its_own_way() -> None:
    disk = SimDisk()
    disk.lock()
    written(disk, "f", b"a", sync=True)
    twin = disk.clone()
    twin.lock()
    twin.open("f").append(b"b")
    assert (content(disk, "f"), content(twin, "f")) == (b"a", b"ab")
