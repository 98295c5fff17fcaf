"""A disk in memory that loses what was not synced.

Theory. Two states stand side by side: **live** (what reads show: the page cache) and **durable** (what the
platter holds). A write changes the live state and is queued; ``sync`` plays the queue of that file into its
durable state. Names are the content of directories: a create, rename or remove is queued in its directory until
``sync_directory``. ``power_loss`` keeps the durable state and decides by chance, for each file and directory,
what became of the queue:

- a file keeps a prefix of its queue, the last write torn at any byte, and in one case of four some of the
  kept blocks of 512 bytes never reached the platter: they show what was there before, or zeros;
- a directory keeps a prefix of its queue, or any subset. A rename within one directory is one step;
- a file whose name was lost is gone, whatever was synced in it.

This is more than most file systems do to us, and nothing they rule out: code that lives through it may trust
none of their habits (that a sync of a new file keeps its name, that writes reach the disk in order).

Faults to set: ``fill_after`` (ENOSPC), ``fail_sync`` (EIO; what was queued will never be written, yet reads
still show it, as Linux does), ``lie`` (a sync that does nothing), ``rot`` (a bit flips), ``stop_at`` (power goes
at the n-th change or sync). After PowerLoss every call raises it again, until ``power_loss`` brings the disk back.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Callable

from tq.world import Random

BLOCK_BYTES = 512
FREE_BYTES = 1 << 40


class PowerLoss(BaseException):
    """The power went. Not an Exception: no handler for errors may take it for one and go on."""


class _Inode:
    """Content of a file. ``queue`` holds (offset, data) of a write, or (size, None) of a cut."""

    def __init__(self) -> None:
        self.live = bytearray()
        self.durable = bytearray()
        self.queue: list[tuple[int, bytes | None]] = []

    def append(self, data: bytes) -> None:
        self.queue.append((len(self.live), data))
        self.live += data

    def truncate(self, size: int) -> None:
        self.queue.append((size, None))
        _cut(self.live, size)

    def sync(self) -> None:
        for at, data in self.queue:
            _play(self.durable, at, data)
        self.queue.clear()

    def doom(self) -> None:
        """A sync failed: the pages count as clean now, so their bytes will never be written by a later sync."""
        self.queue = [(at, None if data is None else bytes(len(data))) for at, data in self.queue]

    def lose(self, random: Random) -> None:
        """Settle what the power loss left."""
        kept = self.queue[: random.below(len(self.queue) + 1)]
        before = bytes(self.durable)
        for at, data in kept:
            _play(self.durable, at, data)
        if kept and kept[-1][1] is not None and random.below(2):
            at, data = kept[-1]
            assert data is not None
            _cut(self.durable, at + random.below(len(data) + 1))
        if kept and random.below(4) == 0:
            self._lose_blocks(before, min(at for at, _ in kept), random)
        self.queue.clear()
        self.live = bytearray(self.durable)

    def _lose_blocks(self, before: bytes, start: int, random: Random) -> None:
        for block in range(start // BLOCK_BYTES * BLOCK_BYTES, len(self.durable), BLOCK_BYTES):
            if random.below(3) == 0:
                begin = max(block, start)
                end = min(block + BLOCK_BYTES, len(self.durable))
                self.durable[begin:end] = before[begin:end].ljust(end - begin, b"\0")


def _cut(content: bytearray, size: int) -> None:
    if size <= len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _play(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        _cut(content, at)
    else:
        if len(content) < at:
            _cut(content, at)
        content[at : at + len(data)] = data


class _Directory:
    """Names. ``queue`` holds steps; a step is a list of (name, inode or directory, or None: gone), done as one."""

    def __init__(self) -> None:
        self.live: dict[str, _Node] = {}
        self.durable: dict[str, _Node] = {}
        self.queue: list[list[tuple[str, _Node | None]]] = []

    def change(self, *step: tuple[str, _Node | None]) -> None:
        self.queue.append(list(step))
        _name(self.live, self.queue[-1])

    def sync(self) -> None:
        for step in self.queue:
            _name(self.durable, step)
        self.queue.clear()

    def lose(self, random: Random) -> None:
        """Settle this directory and all below it."""
        if random.below(2):
            kept = self.queue[: random.below(len(self.queue) + 1)]
        else:
            kept = [step for step in self.queue if random.below(2)]
        for step in kept:
            _name(self.durable, step)
        self.queue.clear()
        self.live = dict(self.durable)
        for name in sorted(self.live):
            self.live[name].lose(random)


_Node = _Inode | _Directory


def _name(names: dict[str, _Node], step: list[tuple[str, _Node | None]]) -> None:
    for name, node in step:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class SimFile:
    """A handle; it dies with the process that opened it."""

    def __init__(self, disk: SimDisk, inode: _Inode, path: str) -> None:
        self.path = path
        self._disk = disk
        self._inode = inode
        self._life = disk.life
        self._open = True

    def _check(self) -> None:
        if not self._open or self._life != self._disk.life:
            raise OSError(errno.EBADF, "file is closed", self.path)

    def append(self, data: bytes) -> None:
        self._check()
        fits = self._disk.take_bytes(len(data))
        self._inode.append(bytes(data[:fits]))
        self._disk.step()
        if fits < len(data):
            raise OSError(errno.ENOSPC, "no space left on device", self.path)

    def read(self, offset: int, count: int) -> bytes:
        self._check()
        self._disk.check_power()
        return bytes(self._inode.live[offset : offset + count])

    def size(self) -> int:
        self._check()
        self._disk.check_power()
        return len(self._inode.live)

    def truncate(self, size: int) -> None:
        self._check()
        self._disk.check_power()
        self._disk.give_bytes(len(self._inode.live) - size)
        self._inode.truncate(size)
        self._disk.step()

    def sync(self) -> None:
        self._check()
        self._disk.step()
        if self._disk.sync_fails():
            self._inode.doom()
            raise OSError(errno.EIO, "input/output error", self.path)
        if not self._disk.sync_lies():
            self._inode.sync()

    def close(self) -> None:
        self._open = False


class SimDisk:
    """Plays ``world.Disk``. See the theory above.

    Attributes:
        steps: changes and syncs so far (writes, cuts, creates, renames, removes, syncs of files and directories).
        syncs: how many of them were syncs of files or directories.
        life: rises at each end of the process; handles of an earlier life are closed.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.syncs = 0
        self.life = 0
        self._root = _Directory()
        self._locked = False
        self._off = False
        self._stop_at: int | None = None
        self._free_bytes = FREE_BYTES
        self._syncs_until_failure: int | None = None
        self._lie: Callable[[], bool] | None = None

    # ---- what world.Disk has ----------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False) -> SimFile:
        self.check_power()
        parent, name = self._parent(path)
        node = parent.live.get(name)
        if create:
            if node is not None:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            node = _Inode()
            parent.change((name, node))
            self.step()
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if isinstance(node, _Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return SimFile(self, node, path)

    def list(self, path: str = "") -> list[str]:
        self.check_power()
        node = self._find(path)
        if node is None:
            return []
        if isinstance(node, _Inode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return sorted(node.live)

    def exists(self, path: str) -> bool:
        self.check_power()
        try:
            return self._find(path) is not None
        except NotADirectoryError:
            return False

    def make_directory(self, path: str) -> None:
        self.check_power()
        parent, name = self._parent(path)
        node = parent.live.get(name)
        if isinstance(node, _Inode):
            raise FileExistsError(errno.EEXIST, "file exists", path)
        if node is None:
            parent.change((name, _Directory()))
            self.step()

    def rename(self, old: str, new: str) -> None:
        self.check_power()
        old_parent, old_name = self._parent(old)
        new_parent, new_name = self._parent(new)
        node = old_parent.live.get(old_name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        if old == new:
            return
        replaced = new_parent.live.get(new_name)
        if new.startswith(old + "/"):
            raise OSError(errno.EINVAL, "a directory cannot be moved into itself", new)
        if isinstance(replaced, _Directory) and isinstance(node, _Inode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", new)
        if isinstance(replaced, _Inode) and isinstance(node, _Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", new)
        if isinstance(replaced, _Directory) and replaced.live:
            raise OSError(errno.ENOTEMPTY, "directory not empty", new)
        self._forget(replaced)
        if old_parent is new_parent:
            old_parent.change((old_name, None), (new_name, node))
        else:
            new_parent.change((new_name, node))
            old_parent.change((old_name, None))
        self.step()

    def remove(self, path: str) -> None:
        self.check_power()
        parent, name = self._parent(path)
        node = parent.live.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if isinstance(node, _Directory) and node.live:
            raise OSError(errno.ENOTEMPTY, "directory not empty", path)
        self._forget(node)
        parent.change((name, None))
        self.step()

    def sync_directory(self, path: str = "") -> None:
        self.check_power()
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        if isinstance(node, _Inode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        self.step()
        if self.sync_fails():
            raise OSError(errno.EIO, "input/output error", path)
        if not self.sync_lies():
            node.sync()

    def free_bytes(self) -> int:
        self.check_power()
        return self._free_bytes

    def lock(self) -> None:
        self.check_power()
        if self._locked:
            raise BlockingIOError(errno.EAGAIN, "another process has locked the data directory")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False

    # ---- what happens to a disk -------------------------------------------------------------------

    def crash(self) -> None:
        """The process dies, the machine lives: handles close, the lock is free, every write is still there."""
        self.life += 1
        self._locked = False

    def power_loss(self, random: Random) -> None:
        """The machine dies and comes back: what was not synced is kept, torn or gone, as ``random`` has it."""
        self.crash()
        self._root.lose(random)
        self._off = False
        self._stop_at = None
        self._syncs_until_failure = None

    def stop_at(self, step: int | None) -> None:
        """Raise PowerLoss at the change or sync that makes ``steps`` reach ``step``: a change has then been queued,
        a sync has done nothing yet."""
        self._stop_at = step

    def fill_after(self, count: int) -> None:
        """Leave room for ``count`` bytes; the write that goes over it stops there, with ENOSPC."""
        self._free_bytes = count

    def fail_sync(self, after: int = 0) -> None:
        """The next sync fails with EIO, or the one after ``after`` good ones."""
        self._syncs_until_failure = after

    def mend(self) -> None:
        """None of these faults is on its way any more, and there is room."""
        self._stop_at = self._syncs_until_failure = None
        self._free_bytes = FREE_BYTES

    def lie(self, whether: Callable[[], bool] | None) -> None:
        """Ask ``whether`` at each sync; when it says so the sync reports success and does nothing."""
        self._lie = whether

    def rot(self, path: str, offset: int, bit: int = 0) -> None:
        """Flip one bit of a file, on the platter and for readers."""
        node = self._find(path)
        if not isinstance(node, _Inode):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        node.live[offset] ^= 1 << bit
        if offset < len(node.durable):
            node.durable[offset] ^= 1 << bit

    def clone(self) -> SimDisk:
        """A disk of its own with the same live and durable state, as after ``crash``: no handle, no lock."""
        twin = SimDisk()
        twin._root, twin._free_bytes = copy.deepcopy(self._root), self._free_bytes
        return twin

    def synced(self, path: str) -> bytes | None:
        """What the platter holds for ``path``: None if its name was never synced."""
        node: _Node = self._root
        for name in path.split("/"):
            if not isinstance(node, _Directory) or name not in node.durable:
                return None
            node = node.durable[name]
        return bytes(node.durable) if isinstance(node, _Inode) else None

    # ---- used by the handles ----------------------------------------------------------------------

    def check_power(self) -> None:
        if self._off:
            raise PowerLoss

    def step(self) -> None:
        """Count a change or a sync, and stop there if that was asked."""
        self.check_power()
        self.steps += 1
        if self._stop_at is not None and self.steps >= self._stop_at:
            self._off = True
            raise PowerLoss

    def sync_fails(self) -> bool:
        self.syncs += 1
        if self._syncs_until_failure is None:
            return False
        self._syncs_until_failure -= 1
        if self._syncs_until_failure >= 0:
            return False
        self._syncs_until_failure = None
        return True

    def sync_lies(self) -> bool:
        return self._lie is not None and self._lie()

    def take_bytes(self, count: int) -> int:
        self.check_power()
        taken = min(count, self._free_bytes)
        self._free_bytes -= taken
        return taken

    def give_bytes(self, count: int) -> None:
        self._free_bytes += count

    # ---- names ------------------------------------------------------------------------------------

    def _find(self, path: str) -> _Node | None:
        """None where there is nothing. Raises NotADirectoryError if a file stands in the way."""
        node: _Node = self._root
        for name in path.split("/") if path else []:
            if not isinstance(node, _Directory):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            if name not in node.live:
                return None
            node = node.live[name]
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        above, _, name = path.rpartition("/")
        if not name or path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} leaves the data directory")
        parent = self._find(above)
        if isinstance(parent, _Inode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", above)
        if parent is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", above)
        return parent, name

    def _forget(self, node: _Node | None) -> None:
        if isinstance(node, _Inode):
            self.give_bytes(len(node.live))
