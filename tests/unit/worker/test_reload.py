"""When the user's code changes: which files are looked at, and what is waited for when it cannot be loaded."""

from __future__ import annotations

import os
import sys
import threading
import traceback
import types
from pathlib import Path

import pytest
import structlog.testing
import trio

import tq.worker.handlers
from tq.errors import ConfigError, ResourceFailed, Unsupported
from tq.worker.reload import Watch, Watcher, files_of_failure, files_of_users, until_it_begins

ANEW = -1
NOW_MS = 4_000_000_000_000  # later than any file is written


def module(name: str, file: object) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__file__ = file  # type: ignore[assignment]
    return made


def write(path: Path, text: str, mtime_ns: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def test_users_files_are_those_of_their_modules_alone() -> None:
    mine = module("mine", "/home/me/app/mine.py")
    others = [
        module("of_debian", "/usr/lib/python3/dist-packages/yaml.py"),
        os,
        threading,
        trio,
        pytest,
        tq.worker.handlers,
        sys,
        module("builtin", None),
    ]
    assert files_of_users([mine, *others]) == {"/home/me/app/mine.py"}
    assert __file__ in files_of_users(), "of all that is imported"


def test_a_change_is_one_of_time_or_size_or_that_it_went(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    for text, mtime_ns in (("x = 1", 2), ("x = 10", 1)):
        write(path, "x = 1", 1)
        watch = Watch(NOW_MS, lambda: {str(path)})
        assert watch.look() is None
        write(path, text, mtime_ns)
        assert watch.look() == str(path)
    watch = Watch(NOW_MS, lambda: {str(path)})
    path.unlink()
    assert watch.look() == str(path)


def test_modules_that_are_imported_later_are_watched_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    files: set[str] = set()
    watch = Watch(NOW_MS, lambda: files)
    write(path, "x = 1", 1)
    files.add(str(path))
    assert watch.look() is None
    write(path, "x = 2", 2)
    files.clear()  # nor is one forgotten whose module went
    assert watch.look() == str(path)


def test_what_was_saved_while_the_code_was_loaded_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    write(path, "x = 1", 5_000_000)
    assert Watch(5, lambda: {str(path)}).look() is None
    watch = Watch(4, lambda: {str(path)})
    assert [watch.look(), watch.look()] == [str(path)] * 2
    assert Watch(4, lambda: {str(path)}, now_ms=lambda: 4).look() is None, "written in the future"


def test_the_watcher_tells_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tq.worker.reload.POLL_S", 0.001)
    path = tmp_path / "a.py"
    write(path, "x = 1", 1)
    monkeypatch.setitem(sys.modules, "a_module_of_mine", module("a_module_of_mine", str(path)))
    told = []
    watcher = Watcher(NOW_MS, told.append)
    watcher.start()
    write(path, "x = 2", 2)
    watcher.join(20)
    assert told == [str(path)]


def test_a_watcher_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(NOW_MS, lambda path: None)
    watcher.stop()
    watcher.start()
    watcher.join(20)
    assert not watcher.is_alive()


def failure(text: str, path: Path) -> Exception:
    path.write_text(text)
    try:
        exec(compile(text, str(path), "exec"), {})
    except Exception as error:  # noqa: BLE001 - as the worker does
        return error
    raise AssertionError("it can be loaded")


def test_a_failure_names_its_files(tmp_path: Path) -> None:
    assert str(tmp_path / "a.py") in files_of_failure(failure("x = (", tmp_path / "a.py"))
    inner = failure("1 / 0", tmp_path / "b.py")
    outer = ConfigError("it cannot be loaded")
    outer.__cause__ = inner
    assert files_of_failure(outer) & {str(tmp_path / "b.py")}
    assert not {path for path in files_of_failure(outer) if "site-packages" in path}


MENDS = {
    "the file itself": "a.py",
    "another one beside it": "b.py",
    "one that is written now": "new.py",
}


@pytest.mark.parametrize("name", MENDS.values(), ids=MENDS)
def test_code_that_cannot_be_loaded_is_told_and_the_next_change_waited_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "b.py", "", 1)
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            write(tmp_path / name, "x = 1", 2)
        assert len(waits) < 10, "it did not see the change"

    def run() -> int:
        raise failure("x = (", tmp_path / "a.py")

    with structlog.testing.capture_logs() as logs:
        assert until_it_begins(run, NOW_MS, wait, ANEW) == ANEW
    assert len(waits) == 3
    assert [entry["event"] for entry in logs] == ["cannot begin; waiting for a change of the code", "begins anew"]
    assert isinstance(logs[0]["exc_info"], SyntaxError)
    files = [frame.filename for frame in traceback.extract_tb(logs[0]["exc_info"].__traceback__)]
    assert not any(file.endswith("tq/worker/reload.py") for file in files), "our own frames are left out"


def test_what_is_no_matter_of_the_code_is_raised() -> None:
    def refused() -> int:
        raise Unsupported("speaks another version")

    def no_wait(seconds: float) -> None:
        raise AssertionError("it waits")

    with pytest.raises(Unsupported):
        until_it_begins(refused, NOW_MS, no_wait, ANEW)
    assert until_it_begins(lambda: 0, NOW_MS, no_wait, ANEW) == 0


@pytest.mark.parametrize("error", [ConfigError("no handlers"), ResourceFailed("no database")])
def test_what_a_change_may_mend_is_waited_for(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run() -> int:
        raise error

    with structlog.testing.capture_logs() as logs:
        assert until_it_begins(run, NOW_MS, lambda _seconds: write(tmp_path / "a.py", "", 1), ANEW) == ANEW
    assert (logs[0].get("why") == str(error)) == isinstance(error, ConfigError)
