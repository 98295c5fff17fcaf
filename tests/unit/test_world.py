"""What only the real world has; tests/conformance/test_disk.py has what the simulated one must do alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tq.world import LOCK_NAME, RealClock, RealDisk, RealRandom


def test_monotonic_time_does_not_go_back() -> None:
    clock = RealClock()
    readings = [clock.monotonic_ms() for _ in range(1_000)]
    assert readings == sorted(readings)
    assert abs(clock.monotonic_s() - clock.monotonic_ms() / 1000) < 1


def test_wall_time_is_unix_time() -> None:
    assert RealClock().wall_ms() > 1_735_689_600_000  # 2025


def test_random_is_of_the_asked_size_and_range() -> None:
    random = RealRandom()
    assert len(random.bytes(16)) == 16
    assert len({random.bytes(16) for _ in range(100)}) == 100
    drawn = {random.below(3) for _ in range(500)}
    assert drawn == {0, 1, 2}
    assert random.below(1) == 0
    with pytest.raises(ValueError, match="empty range"):
        random.below(0)


def test_only_the_owner_reads_the_data(tmp_path: Path) -> None:
    root = tmp_path / "above" / "data"
    before = os.umask(0)
    try:
        disk = RealDisk(str(root))
        disk.make_directory("d")
        disk.open("d/x", create=True).close()
        disk.lock()
        disk.unlock()
    finally:
        os.umask(before)
    for path, mode in ((root, 0o700), (root / "d", 0o700), (root / "d" / "x", 0o600), (root / LOCK_NAME, 0o600)):
        assert path.stat().st_mode & 0o777 == mode, path


def test_a_directory_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    disk = RealDisk(str(tmp_path))
    assert disk.list() == ["kept"]
    assert disk.real_path("") == disk.root == str(tmp_path)
    assert disk.real_path("a/b") == str(tmp_path / "a" / "b")


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        RealDisk(str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        RealDisk(str(tmp_path / "file" / "data"))


HOLD = """
import sys
from tq.world import RealDisk
disk = RealDisk(sys.argv[1])
disk.lock()
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_lock_is_between_processes_and_ends_with_its_process(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    disk = RealDisk(str(tmp_path))
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError, match="another process has locked the data directory"):
            disk.lock()
    finally:
        other.kill()
        other.communicate(timeout=30)
    disk.lock()
    with pytest.raises(BlockingIOError, match="this process has locked"):
        disk.lock()
    disk.unlock()


def test_a_large_write_is_whole(tmp_path: Path) -> None:
    file = RealDisk(str(tmp_path)).open("big", create=True)
    data = os.urandom(1 << 20) * 8
    file.append(data)
    assert file.size() == len(data)
    assert file.read(3, len(data)) == data[3:]
    file.close()


def test_a_file_does_not_pass_to_children(tmp_path: Path) -> None:
    """Else a worker's child could keep a lock or a deleted segment alive."""
    disk = RealDisk(str(tmp_path))
    disk.lock()
    file = disk.open("x", create=True)
    inside = [int(name) for name in os.listdir("/proc/self/fd")]
    ours = [fd for fd in inside if _target(fd).startswith(str(tmp_path))]
    assert len(ours) == 2
    assert not any(os.get_inheritable(fd) for fd in ours)
    file.close()
    disk.unlock()


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""  # the listing's own
