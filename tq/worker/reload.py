"""``tq worker --reload``: begin anew when a file of the user's code changes. For development.

Theory. The worker replaces its own program (``exec``) after a drain, so nothing of the old code is left, and whoever
started it keeps the process. Files are asked for their time and size twice a second: no library is needed, and it works
on every file system. Watched are the files of imported modules, less those of Python, of installed packages and of tq.

If the code cannot be loaded, the process says why and waits for the next change. Then it watches the folders of that
code, too, since the file that is missing may be written next.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Final, NoReturn

import structlog

from tq.errors import ConfigError, ResourceFailed, TqError
from tq.worker.loading import behind_loaders
from tq.world import RealClock

POLL_S: Final = 0.5
_NOW_MS: Final = RealClock().wall_ms
Stamp = object


def files_of_users(modules: Iterable[ModuleType] | None = None) -> set[str]:
    """Of the modules imported so far."""
    found = set()
    for module in list(sys.modules.values()) if modules is None else modules:
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not _is_installed(path):
            found.add(path)
    return found


def _is_installed(path: str) -> bool:
    return path.startswith(_INSTALLED) or any(f"{os.sep}{name}{os.sep}" in path for name in _PACKAGES)


_PACKAGES: Final = ("site-packages", "dist-packages")  # the second one is Debian's
_TQ = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_INSTALLED = tuple(
    os.path.join(folder, "")
    for folder in {_TQ, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
)


def files_of_failure(error: BaseException) -> set[str]:
    """Those that a failed import names: the frames it came through, and where the syntax is wrong."""
    found: set[str] = set()
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        at = todo.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        found.update(frame.filename for frame in traceback.extract_tb(at.__traceback__))
        if isinstance(at, SyntaxError) and at.filename:
            found.add(at.filename)
        todo += [at.__cause__, at.__context__]
    return {path for path in found if os.path.isabs(path) and not _is_installed(path)}


class Watch:
    """Remembers how files were when it first saw them.

    since_ms: the Unix time at which the code began to be loaded. A file that was written after it has changed, though it
    was not seen before: imports take their time, and people save meanwhile. One from the future has not: the worker
    would begin anew for ever. folders: changed when a Python file comes or goes there.
    """

    def __init__(
        self,
        since_ms: int,
        files: Callable[[], set[str]] = files_of_users,
        folders: Iterable[str] = (),
        now_ms: Callable[[], int] = _NOW_MS,
    ) -> None:
        self._since_ns = since_ms * 1_000_000
        self._now_ms = now_ms
        self._files = files
        self._folders = list(folders)
        self._known: dict[str, Stamp] = {}
        self._found: str | None = None
        self.look()

    def look(self) -> str | None:
        """What has changed since, or None."""
        if self._found is not None:
            return self._found
        for path, stamp in self._stamps():
            if path not in self._known:
                self._known[path] = stamp
                if isinstance(stamp, tuple) and self._since_ns < stamp[0] <= self._now_ms() * 1_000_000:
                    self._found = path
            elif self._known[path] != stamp:
                self._found = path
        return self._found

    def _stamps(self) -> Iterator[tuple[str, Stamp]]:
        for path in self._files() | self._known.keys() - set(self._folders):
            yield path, _stamp(path)
        for folder in self._folders:
            yield folder, _python_files(folder)


def _stamp(path: str) -> Stamp:
    try:
        facts = os.stat(path)
    except OSError:
        return None  # gone, for now: an editor may write a new one in its place
    return facts.st_mtime_ns, facts.st_size


def _python_files(folder: str) -> Stamp:
    try:
        return frozenset(name for name in os.listdir(folder) if name.endswith(".py"))
    except OSError:
        return None


class Watcher(threading.Thread):
    """Calls ``changed`` once, on its own thread, with the first file that has changed."""

    def __init__(self, since_ms: int, changed: Callable[[str], None]) -> None:
        super().__init__(name="tq-reload", daemon=True)
        self._watch = Watch(since_ms)
        self._changed = changed
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(POLL_S):
            path = self._watch.look()
            if path is not None:
                self._changed(path)
                return


def until_it_begins(run: Callable[[], int], since_ms: int, wait: Callable[[float], object], anew: int) -> int:
    """``run``; if the user's code keeps it from beginning, say why, wait for a change, and answer ``anew``.

    since_ms: now, in Unix time. wait: let so many seconds pass.
    """
    log = structlog.get_logger("tq.worker")
    try:
        return run()
    except Exception as error:
        if isinstance(error, TqError) and not isinstance(error, (ConfigError, ResourceFailed)):
            raise  # it has begun, and a broker refuses it
        paths = files_of_users() | files_of_failure(error)
        folders = {os.getcwd(), *(os.path.dirname(path) for path in paths)}
        watch = Watch(since_ms, lambda: paths | _all_python_files(folders), sorted(folders))
        if isinstance(error, ConfigError):
            log.error("cannot begin; waiting for a change of the code", why=error.message)
        else:
            error.__traceback__ = behind_loaders(error.__traceback__)
            log.error("cannot begin; waiting for a change of the code", exc_info=error)
        path = watch.look()
        while path is None:
            wait(POLL_S)
            path = watch.look()
        log.info("begins anew", why=f"{path} has changed")
        return anew


def _all_python_files(folders: set[str]) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        names = _python_files(folder)
        if isinstance(names, frozenset):
            found.update(os.path.join(folder, name) for name in names)
    return found


def begin_anew(folder: str) -> NoReturn:
    """Run this program again in this process, as it was started, in the folder where it was. All else of it is gone.

    A signal that comes in this moment ends the process as its default does: nothing is claimed by then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
