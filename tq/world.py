"""The only door to the outside: clocks, randomness, files, threads. Everything else gets them as arguments.

The simulator plays the same interfaces (``tq/sim``), so what is tested under it is what runs. Sockets are
opened in the shells (``broker/listen.py``, ``client/blocking.py``, ``worker`` ...) with trio or the
standard library; what they carry is decided by sans-I/O objects that never see them.
"""

from __future__ import annotations

from typing import Protocol


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
        """Write all of ``data`` at the end."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def size(self) -> int: ...
    def truncate(self, size: int) -> None: ...
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
    def make_directory(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None:
        """Replace ``new``. Durable after ``sync_directory`` of its directory."""
        ...

    def remove(self, path: str) -> None: ...
    def sync_directory(self, path: str = "") -> None: ...
    def free_bytes(self) -> int: ...
    def lock(self) -> None:
        """Take the directory for this process until it ends; OSError if another has it."""
        ...
