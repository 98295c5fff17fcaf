"""The only door to the outside: clocks, randomness, files. Everything else gets them as arguments.

The simulator plays the same interfaces (``tq/sim``), so what is tested under it is what runs. Sockets are
opened in the shells (``broker/listen.py``, ``client/shell.py``, ``worker`` ...) with trio or the
standard library; what they carry is decided by sans-I/O objects that never see them.
"""
# ruff: noqa: TID251 - this file is the door that the banned calls stand behind

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from typing import Protocol

LOCK_NAME = "lock"


class Clock(Protocol):
    """``monotonic_ms`` never runs backwards and has no meaning across processes; ``wall_ms`` is Unix time."""

    def monotonic_ms(self) -> int: ...
    def monotonic_s(self) -> float: ...
    def wall_ms(self) -> int: ...


class Random(Protocol):
    def bytes(self, count: int) -> bytes: ...
    def below(self, bound: int) -> int:
        """A whole number in ``[0, bound)``."""
        ...


class File(Protocol):
    """One open file. Errors are OSError, as of the real thing; nothing is durable before ``sync``."""

    path: str

    def append(self, data: bytes) -> None:
        """Write all of ``data`` at the end. After an error any part of it may stand there."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def size(self) -> int: ...
    def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros."""
        ...

    def sync(self) -> None:
        """fdatasync: content and size are durable when this returns. Must not be retried after an error."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Files below one data directory. Paths are relative to it, with ``/``."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open to read and append. With ``create`` the file must not exist (its name is durable after
        ``sync_directory``)."""
        ...

    def list(self, path: str = "") -> list[str]:
        """Names in a directory, sorted; empty if it does not exist."""
        ...

    def exists(self, path: str) -> bool: ...
    def make_directory(self, path: str) -> None:
        """Make one directory; nothing happens if it exists. Durable after ``sync_directory`` of its parent."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Replace ``new``. Durable after ``sync_directory`` of its directory."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, or an empty directory."""
        ...

    def sync_directory(self, path: str = "") -> None: ...
    def free_bytes(self) -> int: ...
    def lock(self) -> None:
        """Take the directory for this process until it ends; OSError if another has it."""
        ...

    def unlock(self) -> None:
        """Let it go before the process ends."""
        ...


class RealClock:
    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class RealRandom:
    """The kernel's randomness: for ids, secrets and jitter alike."""

    def __init__(self) -> None:
        self._system = random.SystemRandom()

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def below(self, bound: int) -> int:
        return self._system.randrange(bound)


class RealFile:
    """A file descriptor in append mode, so no position is kept that a cut could make wrong."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path
        self._descriptor = descriptor

    def append(self, data: bytes) -> None:
        written = os.write(self._descriptor, data)
        if written < len(data):
            self._append_rest(memoryview(data)[written:])

    def _append_rest(self, rest: memoryview) -> None:
        while rest:
            written = os.write(self._descriptor, rest)
            if written == 0:
                raise OSError(errno.EIO, "the file takes no more bytes", self.path)
            rest = rest[written:]

    def read(self, offset: int, count: int) -> bytes:
        data = os.pread(self._descriptor, count, offset)
        if len(data) == count or not data:
            return data
        parts = [data]
        got = len(data)
        while got < count:
            part = os.pread(self._descriptor, count - got, offset + got)
            if not part:
                break
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Safe to call twice. Reports what a late write-back has to say (OSError)."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class RealDisk:
    """The directory ``root``, made if it is not there. Only its owner may read it: tasks carry people's data."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._lock_descriptor = -1
        _make_with_parents(self.root)

    def real_path(self, path: str) -> str:
        """Where ``path`` is for the kernel: for LMDB, which opens its files itself."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} leaves the data directory")
        return os.path.join(self.root, path) if path else self.root

    def open(self, path: str, *, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return RealFile(os.open(self.real_path(path), flags, 0o600), path)

    def list(self, path: str = "") -> list[str]:
        try:
            return sorted(os.listdir(self.real_path(path)))
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.real_path(path))

    def make_directory(self, path: str) -> None:
        try:
            os.mkdir(self.real_path(path), 0o700)
        except FileExistsError:
            if not os.path.isdir(self.real_path(path)):
                raise

    def rename(self, old: str, new: str) -> None:
        os.replace(self.real_path(old), self.real_path(new))

    def remove(self, path: str) -> None:
        real = self.real_path(path)
        if os.path.isdir(real) and not os.path.islink(real):
            os.rmdir(real)
        else:
            os.unlink(real)

    def sync_directory(self, path: str = "") -> None:
        _sync_directory(self.real_path(path))

    def free_bytes(self) -> int:
        """What an ordinary user may still write; the reserve of root is not counted."""
        facts = os.statvfs(self.root)
        return facts.f_bavail * facts.f_frsize

    def lock(self) -> None:
        if self._lock_descriptor >= 0:
            raise BlockingIOError(errno.EAGAIN, "this process has locked the data directory already", self.root)
        path = os.path.join(self.root, LOCK_NAME)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise BlockingIOError(error.errno, "another process has locked the data directory", self.root) from error
        self._lock_descriptor = descriptor

    def unlock(self) -> None:
        if self._lock_descriptor >= 0:
            descriptor, self._lock_descriptor = self._lock_descriptor, -1
            os.close(descriptor)


def _sync_directory(real: str) -> None:
    descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_with_parents(real: str) -> None:
    """Make the directory and its parents, and the names of all that was made durable."""
    made = []
    at = real
    while not os.path.isdir(at):
        made.append(at)
        at = os.path.dirname(at)
    for path in reversed(made):
        os.mkdir(path, 0o700)
        _sync_directory(os.path.dirname(path))
