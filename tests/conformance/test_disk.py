"""The real disk and the simulated one are used by the same code, so they must answer alike: also in what they refuse."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.sim.disk import SimDisk
from tq.world import Disk, File, RealDisk


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(str(tmp_path / "data")) if request.param == "real" else SimDisk()


def write(disk: Disk, path: str, data: bytes = b"") -> None:
    file = disk.open(path, create=True)
    file.append(data)
    file.close()


def content(disk: Disk, path: str) -> bytes:
    file = disk.open(path)
    data = file.read(0, 1 << 20)
    file.close()
    return data


# ---- files -----------------------------------------------------------------------------------------


def test_what_is_appended_is_read(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.append(b"hello")
    file.append(b"")
    file.append(bytearray(b" world"))
    assert file.size() == 11
    assert file.read(0, 11) == b"hello world"
    assert file.read(6, 100) == b"world"
    assert file.read(11, 1) == b""
    assert file.read(50, 1) == b""
    assert isinstance(file.read(0, 5), bytes)
    assert file.path == "a"
    file.sync()
    file.close()
    assert content(disk, "a") == b"hello world"


def test_a_cut_file_grows_at_its_new_end(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.append(b"hello world")
    file.truncate(5)
    file.append(b"!")
    assert file.read(0, 100) == b"hello!"
    file.truncate(8)
    assert file.read(0, 100) == b"hello!\0\0"


def test_two_handles_see_one_file(disk: Disk) -> None:
    one, other = disk.open("a", create=True), disk.open("a")
    one.append(b"1")
    other.append(b"2")
    one.append(b"3")
    assert one.read(0, 9) == other.read(0, 9) == b"123"


def test_a_removed_file_lives_as_long_as_its_handle(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.append(b"1")
    disk.remove("a")
    file.append(b"2")
    assert file.read(0, 9) == b"12"
    assert not disk.exists("a")


def test_a_closed_file_is_closed(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.close()
    file.close()
    for use in (lambda: file.append(b"x"), lambda: file.read(0, 1), file.size, lambda: file.truncate(0), file.sync):
        with pytest.raises((OSError, ValueError)):
            use()


# ---- names -----------------------------------------------------------------------------------------


def test_names(disk: Disk) -> None:
    assert disk.list() == []
    write(disk, "b")
    write(disk, "a")
    disk.make_directory("d")
    disk.make_directory("d")
    write(disk, "d/x", b"1")
    assert disk.list() == ["a", "b", "d"]
    assert disk.list("d") == ["x"]
    assert disk.list("no") == []
    disk.rename("d/x", "a")
    assert content(disk, "a") == b"1"
    assert disk.list("d") == []
    disk.remove("d")
    assert disk.list() == ["a", "b"]
    disk.sync_directory()
    assert (disk.exists("a"), disk.exists("d"), disk.exists("d/x")) == (True, False, False)


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (lambda disk: disk.open("no"), FileNotFoundError),
        (lambda disk: disk.open("no/x", create=True), FileNotFoundError),
        (lambda disk: disk.open("f", create=True), FileExistsError),
        (lambda disk: disk.open("d", create=True), FileExistsError),
        (lambda disk: disk.open("d"), IsADirectoryError),
        (lambda disk: disk.remove("no"), FileNotFoundError),
        (lambda disk: disk.rename("no", "x"), FileNotFoundError),
        (lambda disk: disk.make_directory("f"), FileExistsError),
        (lambda disk: disk.make_directory("no/x"), FileNotFoundError),
        (lambda disk: disk.sync_directory("no"), FileNotFoundError),
        (lambda disk: disk.list("f"), NotADirectoryError),
        (lambda disk: disk.open("/etc/passwd"), ValueError),
        (lambda disk: disk.open("../x", create=True), ValueError),
        (lambda disk: disk.remove("d/../../x"), ValueError),
    ],
)
def test_refused(disk: Disk, use: Callable[[Disk], Any], kind: type[Exception]) -> None:
    write(disk, "f", b"kept")
    disk.make_directory("d")
    with pytest.raises(kind):
        use(disk)
    assert disk.list() == ["d", "f"]
    assert content(disk, "f") == b"kept"


def test_a_full_directory_is_not_removed(disk: Disk) -> None:
    disk.make_directory("d")
    write(disk, "d/x")
    with pytest.raises(OSError, match=str(errno.ENOTEMPTY)):
        disk.remove("d")


def test_one_lock(disk: Disk) -> None:
    disk.lock()
    with pytest.raises(BlockingIOError):
        disk.lock()
    disk.unlock()
    disk.unlock()
    disk.lock()
    disk.unlock()


def test_free_bytes(disk: Disk) -> None:
    assert disk.free_bytes() > 0


# ---- compared --------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/e", "d/e/a"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), NAMES),
        st.tuples(st.just("append"), NAMES, st.binary(max_size=5)),
        st.tuples(st.just("truncate"), NAMES, st.integers(0, 8)),
        st.tuples(st.just("read"), NAMES, st.integers(0, 8), st.integers(0, 8)),
        st.tuples(st.sampled_from(["exists", "remove", "make_directory", "list", "sync", "sync_directory"]), NAMES),
        st.tuples(st.just("rename"), NAMES, NAMES),
    ),
    max_size=40,
)


def outcome(disk: Disk, step: tuple[Any, ...]) -> object:
    """What a step gives: a value, or the kind of its error."""
    verb, path, *rest = step
    opened: File | None = None
    try:
        match verb:
            case "create":
                opened = disk.open(path, create=True)
                return opened.size()
            case "append" | "truncate" | "read" | "sync":
                opened = disk.open(path)
                return getattr(opened, verb)(*rest), opened.size()
            case _:
                return getattr(disk, verb)(path, *rest)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        if opened is not None:
            opened.close()


def tree(disk: Disk, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in disk.list(path):
        full = f"{path}/{name}" if path else name
        try:
            found[name] = content(disk, full)
        except IsADirectoryError:
            found[name] = tree(disk, full)
    return found


@given(STEPS)
def test_any_steps_have_the_same_outcome(steps: list[tuple[Any, ...]]) -> None:
    folder = tempfile.mkdtemp(prefix="tq-disk-")
    try:
        real, simulated = RealDisk(folder), SimDisk()
        for step in steps:
            assert outcome(real, step) == outcome(simulated, step), step
        assert tree(real) == tree(simulated)
    finally:
        shutil.rmtree(folder)
