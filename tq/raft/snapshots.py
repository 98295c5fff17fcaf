"""Snapshots between members: what one is, where an arriving one is kept, and when it is whole.

Theory
- A snapshot is the state after entry ``index`` as one stream of bytes: what is in it is the store's business. Its size
  and digest are known before the first byte is sent, so it is whole or it is not, whoever sent which part.
- Parts are appended to a file that is named after all of this, and synced each: whoever comes back goes on where it
  was, after a restart and with another leader too.
- **Whole means: digest compared, synced, renamed, name synced.** From then on the installation must be finished: the
  name is the mark. Then the log is begun anew behind ``index``, then the store takes the state, then the mark goes.
  A start that finds the mark does what is left of it (``recovery.py`` for the log, the broker for the store).
- One that arrived damaged is removed and fetched again; nothing of it was acknowledged. One that rotted after it was
  whole stops the node.
- **One that has no room is refused, and the node goes on**: it answers with where it was, and the sender asks again each
  heartbeat. That is safe because nothing rests on a part: no part is acknowledged as being here, none is trusted before
  the digest of all of them. So a write or a sync that found the disk full takes the whole file with it (after a failed
  sync nobody knows what it holds), and gives the room back to the log. Room is asked for twice the size: what arrives,
  and the store that is made of it; to run out of it in the middle of an installation would stop the node.

    snapshot/<index>-<term>-<size>-<digest>.part    arriving
    snapshot/<index>-<term>-<size>-<digest>.whole   to be installed
"""

from __future__ import annotations

import errno
import hashlib
from typing import Protocol

import attrs

from tq import limits
from tq.errors import DataDamaged, StorageFailed
from tq.raft.segments import damage_text
from tq.world import Disk, File

DIRECTORY = "snapshot"
DIGEST_BYTES = 32
_PART, _WHOLE = ".part", ".whole"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@attrs.frozen
class SnapshotId:
    """
    Attributes:
        index, term: of the last entry that is in it.
        size: bytes.
        digest: BLAKE2b-256 of them.
    """

    index: int
    term: int
    size: int
    digest: bytes

    @property
    def name(self) -> str:
        return f"{self.index:020d}-{self.term}-{self.size}-{self.digest.hex()}"

    @classmethod
    def of_name(cls, name: str) -> SnapshotId:
        """Raises ValueError."""
        index, term, size, digest = name.split("-")
        return cls(int(index), int(term), int(size), bytes.fromhex(digest))


class SnapshotSource(Protocol):
    """One that can be sent. It must not change while it is offered."""

    @property
    def id(self) -> SnapshotId: ...
    def read(self, offset: int, count: int) -> bytes:
        """Raises OSError."""
        ...


class FileSource:
    """A snapshot in a file of ``disk``."""

    def __init__(self, disk: Disk, path: str, snapshot_id: SnapshotId) -> None:
        self.id = snapshot_id
        self.path = path
        self._file = disk.open(path)

    def read(self, offset: int, count: int) -> bytes:
        return self._file.read(offset, count)

    def is_whole(self) -> bool:
        """Compare all of it with its digest. Raises OSError."""
        return self._file.size() == self.id.size and digest_of(self._file, self.id.size) == self.id.digest

    def close(self) -> None:
        self._file.close()


def digest_of(file: File, size: int) -> bytes:
    """Of its first ``size`` bytes, in bounded memory."""
    digest = new_digest()
    at = 0
    while at < size:
        part = file.read(at, min(limits.MIB, size - at))
        if not part:
            break
        digest.update(part)
        at += len(part)
    return digest.digest()


def new_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def pending_id(disk: Disk) -> SnapshotId | None:
    """Which one is to be installed, by its name alone: nothing of it is read."""
    names = [name for name in disk.list(DIRECTORY) if name.endswith(_WHOLE)]
    return SnapshotId.of_name(names[-1].removesuffix(_WHOLE)) if names else None


def whole_path(snapshot_id: SnapshotId) -> str:
    return f"{DIRECTORY}/{snapshot_id.name}{_WHOLE}"


def pending_snapshot(disk: Disk) -> FileSource | None:
    """The one that is whole and to be installed, if a crash came in between. The caller's store takes it (if it has
    not) before the node is made. Raises DataDamaged, StorageFailed."""
    snapshot_id = pending_id(disk)
    if snapshot_id is None:
        return None
    path = whole_path(snapshot_id)
    try:
        source = FileSource(disk, path, snapshot_id)
        if not source.is_whole():
            source.close()
            raise DataDamaged(damage_text(path, 0, "the snapshot that was being installed is not whole any more"))
    except OSError as error:
        raise StorageFailed(f"reading {path} failed ({error.strerror or error})") from error
    return source


class Incoming:
    """The place of one arriving snapshot.

    Args:
        whole: what ``pending_id`` found.

    Attributes:
        whole: it is durable and must be installed.
        refusal: why the last part was not taken, for people; None: it was.
    """

    def __init__(self, disk: Disk, whole: SnapshotId | None = None) -> None:
        self._disk = disk
        self._id: SnapshotId | None = None
        self._file: File | None = None
        self._digest = new_digest()
        self._size = 0
        self.whole = whole
        self.refusal: str | None = None

    @property
    def path(self) -> str:
        """Of the whole one."""
        assert self.whole is not None
        return whole_path(self.whole)

    def take(self, snapshot_id: SnapshotId, offset: int, data: bytes) -> int:
        """Keep a part if it is the next and there is room. Returns where to go on. OSErrors but a full disk's pass: the
        node stops for good."""
        try:
            return self._take(snapshot_id, offset, data)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self.refusal = f"the disk was full while a snapshot of {snapshot_id.size} bytes arrived"
            self._remove(snapshot_id)
            return 0

    @property
    def arriving(self) -> tuple[int, int] | None:
        """(bytes that are here, of how many) of the one that is taken now."""
        return None if self._id is None else (self._size, self._id.size)

    def _take(self, snapshot_id: SnapshotId, offset: int, data: bytes) -> int:
        if snapshot_id != self._id:
            self._open(snapshot_id)
        assert self._file is not None
        if data and offset == self._size and offset + len(data) <= snapshot_id.size and self._has_room(snapshot_id):
            self._file.append(data)
            self._file.sync()
            self._digest.update(data)
            self._size += len(data)
        return self._size

    def _has_room(self, snapshot_id: SnapshotId) -> bool:
        need_bytes, free_bytes = 2 * snapshot_id.size - self._size, self._disk.free_bytes()
        is_room = free_bytes >= need_bytes
        self.refusal = (
            None
            if is_room
            else f"a snapshot of {snapshot_id.size} bytes needs {need_bytes} bytes, {free_bytes} are free"
        )
        return is_room

    def _remove(self, snapshot_id: SnapshotId) -> None:
        self.drop()
        path = f"{DIRECTORY}/{snapshot_id.name}{_PART}"
        if self._disk.exists(path):
            self._disk.remove(path)

    def finish(self) -> bool:
        """All bytes are there. Whether they are the right ones; else they are removed, to be fetched again."""
        snapshot_id, file = self._id, self._file
        assert snapshot_id is not None
        assert file is not None
        path = f"{DIRECTORY}/{snapshot_id.name}{_PART}"
        is_good = self._digest.digest() == snapshot_id.digest
        self.drop()
        if is_good:
            self.whole = snapshot_id
            self._disk.rename(path, self.path)
        else:
            self._disk.remove(path)
        self._disk.sync_directory(DIRECTORY)
        return is_good

    def installed(self) -> None:
        """Log and store have it: the mark goes, and those of older ones. Another may be arriving."""
        assert self.whole is not None
        for name in self._disk.list(DIRECTORY):
            if name.endswith(_WHOLE) and SnapshotId.of_name(name.removesuffix(_WHOLE)).index <= self.whole.index:
                self._disk.remove(f"{DIRECTORY}/{name}")
        self._disk.sync_directory(DIRECTORY)
        self.whole = None

    def drop(self) -> None:
        """Close the file. What is there stays, for whoever goes on."""
        if self._file is not None:
            self._file.close()
        self._id, self._file, self._size = None, None, 0

    def _open(self, snapshot_id: SnapshotId) -> None:
        self.drop()
        self._disk.make_directory(DIRECTORY)
        self._disk.sync_directory()
        wanted = snapshot_id.name + _PART
        for name in self._disk.list(DIRECTORY):
            if name.endswith(_PART) and name != wanted:
                self._disk.remove(f"{DIRECTORY}/{name}")
        path = f"{DIRECTORY}/{wanted}"
        is_new = not self._disk.exists(path)
        file = self._disk.open(path, create=is_new)
        if is_new:
            self._disk.sync_directory(DIRECTORY)
        size = file.size()
        if size > snapshot_id.size:
            file.truncate(0)
            size = 0
        self._digest = new_digest()
        at = 0
        while at < size:
            part = file.read(at, min(limits.MIB, size - at))
            self._digest.update(part)
            at += len(part)
        self._id, self._file, self._size = snapshot_id, file, size
