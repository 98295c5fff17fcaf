"""What was recorded: the calls that change files below one directory, in order, each when it was begun.

Paths are relative to that directory. ``Mark`` is a line that the process wrote into its diary, which stands outside of
the directory: it says what was told to whom at this place in the order.
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs


@attrs.frozen
class Create:
    """A file that was not there."""

    path: str


@attrs.frozen
class MakeDirectory:
    path: str


@attrs.frozen
class Write:
    """``offset`` None: at the end. ``is_synced``: durable when the call returns (O_DSYNC), as far as it goes."""

    path: str
    offset: int | None
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    is_synced: bool = False


@attrs.frozen
class Truncate:
    path: str
    size: int


@attrs.frozen
class Sync:
    """Of a file or a directory."""

    path: str


@attrs.frozen
class Rename:
    old: str
    new: str


@attrs.frozen
class Remove:
    path: str


@attrs.frozen
class Mark:
    line: str


Call = Create | MakeDirectory | Write | Truncate | Sync | Rename | Remove | Mark


class RecordingFailed(Exception):
    """The process failed, or did something that these calls cannot tell."""


class Translator:
    """From what a recorder saw of system calls that succeeded to the calls above. Paths are absolute.

    To be made before the process begins: files that are there by then are not created.
    """

    def __init__(self, root: str, diary: str) -> None:
        self.calls: list[Call] = []
        self._root = root
        self._diary = diary
        above = Path(root)
        self._names = {str(path.relative_to(above)) for path in above.rglob("*")} if above.exists() else set()
        self._flags: dict[int, int] = {}

    def opened(self, descriptor: int, path: str, flags: int) -> None:
        self._flags[descriptor] = flags
        name = self._relative(path)
        if name is None:
            return
        if flags & os.O_CREAT and name not in self._names:
            self._names.add(name)
            self.calls.append(Create(name))
        if flags & os.O_TRUNC:
            self.calls.append(Truncate(name, 0))

    def wrote(self, descriptor: int, path: str, offset: int, data: bytes) -> None:
        """``offset``: where it went, unless the file was opened to append."""
        flags = self._flags.get(descriptor, 0)
        if path == self._diary:
            self.calls += [Mark(line) for line in data.decode().splitlines()]
        elif (name := self._relative(path)) is not None:
            at = None if flags & os.O_APPEND else offset
            self.calls.append(Write(name, at, data, bool(flags & os.O_DSYNC)))

    def truncated(self, path: str, size: int) -> None:
        if (name := self._relative(path)) is not None:
            self.calls.append(Truncate(name, size))

    def synced(self, path: str) -> None:
        if (name := self._relative(path)) is not None:
            self.calls.append(Sync(name))

    def renamed(self, old: str, new: str) -> None:
        if (name := self._relative(old)) is not None:
            self.calls.append(Rename(name, self._inside(new)))
            moved = {known for known in self._names if known == name or known.startswith(name + "/")}
            self._names -= moved
            self._names |= {self._inside(new) + known[len(name) :] for known in moved}

    def made_directory(self, path: str) -> None:
        if (name := self._relative(path)) is not None and name:  # the root itself is there
            self.calls.append(MakeDirectory(name))

    def removed(self, path: str) -> None:
        if (name := self._relative(path)) is not None:
            self._names.discard(name)
            self.calls.append(Remove(name))

    def did(self, what: str, path: str) -> None:
        """Something that cannot be told, if it was done to one of the files."""
        if self._relative(path) is not None:
            raise RecordingFailed(f"{what} of {path}: the recorder does not know it")

    def _relative(self, path: str) -> str | None:
        if path == self._root:
            return ""
        return path[len(self._root) + 1 :] if path.startswith(self._root + "/") else None

    def _inside(self, path: str) -> str:
        name = self._relative(path)
        if name is None:
            raise RecordingFailed(f"a file left the directory for {path}")
        return name
