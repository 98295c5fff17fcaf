"""What a disk may hold when the power goes: the calls before it are played, those not synced are kept in part.

Each file has its durable bytes and a queue of writes since its last sync; each directory its durable names and a queue
of changes. ``lose`` decides what of the queues reached the platter:

    nothing        only what was synced
    everything     all of it (the kernel wrote it out by itself)
    prefix         some writes, in order; the last one torn between two sectors
    last           of each file only the last write: the others were still to come
    sectors        any subset of the sectors, in any order

A sector of 512 bytes is written whole or not at all, as disks have it; the store relies on that for its meta pages.
Where a file has grown and its bytes have not come, it shows zeros, or has not grown.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.powerloss.calls import (
    Call,
    Create,
    MakeDirectory,
    Mark,
    RecordingFailed,
    Remove,
    Rename,
    Sync,
    Truncate,
    Write,
)
from tq.world import Random

SECTOR_BYTES = 512
LOSSES = ("nothing", "everything", "prefix", "last", "sectors")

Piece = tuple[int, bytes | None]  # a write, or a cut to a size


class _File:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.size = 0  # as the process sees it
        self.queue: list[Piece] = []

    def play(self, piece: Piece) -> None:
        at, data = piece
        if data is None:
            self._resize(at)
        else:
            if len(self.durable) < at + len(data):
                self._resize(at + len(data))
            self.durable[at : at + len(data)] = data

    def _resize(self, size: int) -> None:
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))

    def copy(self) -> _File:
        twin = _File()
        twin.durable, twin.size, twin.queue = bytearray(self.durable), self.size, list(self.queue)
        return twin

    def lose(self, how: str, random: Random) -> None:
        queue, self.queue = self.queue, []
        if how == "everything":
            kept = queue
        elif how == "prefix":
            kept = queue[: random.below(len(queue) + 1)]
            if kept and kept[-1][1] is not None:
                at, data = kept[-1]
                whole = len(data) // SECTOR_BYTES + 1 if data else 1
                kept = [*kept[:-1], (at, (data or b"")[: random.below(whole) * SECTOR_BYTES])]
        elif how == "last":
            kept = queue[-1:]
        elif how == "sectors":
            kept = [piece for write in queue for piece in _sectors(write) if random.below(2)]
            kept.sort(key=lambda _: random.below(1 << 30))
        else:
            kept = []
        for piece in kept:
            self.play(piece)


def _sectors(piece: Piece) -> Iterable[Piece]:
    at, data = piece
    if data is None:
        return [piece]
    first = SECTOR_BYTES - at % SECTOR_BYTES
    starts = [0, *range(first, len(data), SECTOR_BYTES)]
    ends = [*starts[1:], len(data)]
    return [(at + start, data[start:end]) for start, end in zip(starts, ends, strict=True)]


class _Directory:
    def __init__(self) -> None:
        self.live: dict[str, _Node] = {}
        self.durable: dict[str, _Node] = {}
        self.queue: list[list[tuple[str, _Node | None]]] = []

    def change(self, *step: tuple[str, _Node | None]) -> None:
        self.queue.append(list(step))
        _apply(self.live, step)

    def copy(self, known: dict[int, _Node]) -> _Directory:
        twin = _Directory()
        known[id(self)] = twin
        twin.live = {name: _copied(node, known) for name, node in self.live.items()}
        twin.durable = {name: _copied(node, known) for name, node in self.durable.items()}
        twin.queue = [
            [(name, None if node is None else _copied(node, known)) for name, node in step] for step in self.queue
        ]
        return twin

    def lose(self, how: str, random: Random) -> None:
        if how in ("everything", "last"):
            kept = self.queue
        elif how == "prefix":
            kept = self.queue[: random.below(len(self.queue) + 1)]
        elif how == "sectors":
            kept = [step for step in self.queue if random.below(2)]
        else:
            kept = []
        for step in kept:
            _apply(self.durable, step)
        self.queue = []
        for name in sorted(self.durable):
            self.durable[name].lose(how, random)


_Node = _File | _Directory


def _copied(node: _Node, known: dict[int, _Node]) -> _Node:
    if id(node) not in known:
        known[id(node)] = node.copy() if isinstance(node, _File) else node.copy(known)
    return known[id(node)]


def _apply(names: dict[str, _Node], step: Iterable[tuple[str, _Node | None]]) -> None:
    for name, node in step:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Platter:
    """Feed it calls with ``begin`` and ``end``; what is between them is a call that the power loss interrupts."""

    def __init__(self) -> None:
        self._root = _Directory()

    def begin(self, call: Call) -> None:
        """The call may have been done in part: it is queued; a sync has done nothing yet."""
        match call:
            case Create(path):
                parent, name = self._parent(path)
                parent.change((name, _File()))
            case MakeDirectory(path):
                parent, name = self._parent(path)
                parent.change((name, _Directory()))
            case Remove(path):
                parent, name = self._parent(path)
                parent.change((name, None))
            case Rename(old, new):
                self._rename(old, new)
            case Write(path, offset, data):
                file = self._file(path)
                at = file.size if offset is None else offset
                file.queue.append((at, data))
                file.size = max(file.size, at + len(data))
            case Truncate(path, size):
                file = self._file(path)
                file.queue.append((size, None))
                file.size = size
            case Sync() | Mark():
                pass

    def end(self, call: Call) -> None:
        if isinstance(call, Sync):
            self._sync(self._node(call.path))
        elif isinstance(call, Write) and call.is_synced:
            file = self._file(call.path)
            file.play(file.queue.pop())

    def copy(self) -> Platter:
        twin = Platter()
        twin._root = self._root.copy({})
        return twin

    def lost(self, how: str, random: Random) -> Platter:
        """A copy, after the power was lost in this way."""
        twin = self.copy()
        twin._root.lose(how, random)
        return twin

    def write_to(self, root: Path) -> None:
        """Make real files of what is durable."""
        _write(self._root, root)

    def _sync(self, node: _Node) -> None:
        if isinstance(node, _File):
            for piece in node.queue:
                node.play(piece)
        else:
            for step in node.queue:
                _apply(node.durable, step)
        node.queue = []

    def _rename(self, old: str, new: str) -> None:
        node = self._node(old)
        old_parent, old_name = self._parent(old)
        new_parent, new_name = self._parent(new)
        if old_parent is not new_parent:
            raise RecordingFailed(f"{old} was renamed to {new}: into another directory")
        old_parent.change((old_name, None), (new_name, node))

    def _parent(self, path: str) -> tuple[_Directory, str]:
        above, _, name = path.rpartition("/")
        parent = self._node(above)
        assert isinstance(parent, _Directory)
        return parent, name

    def _file(self, path: str) -> _File:
        node = self._node(path)
        assert isinstance(node, _File), path
        return node

    def _node(self, path: str) -> _Node:
        node: _Node = self._root
        for name in path.split("/") if path else []:
            assert isinstance(node, _Directory), path
            node = node.live[name]
        return node


def _write(directory: _Directory, root: Path) -> None:
    root.mkdir(mode=0o700)
    for name, node in directory.durable.items():
        if isinstance(node, _Directory):
            _write(node, root / name)
        else:
            (root / name).write_bytes(node.durable)
