"""A follower's side of a snapshot: its store becomes the state that arrived.

Theory. The order is: the snapshot is whole and its name says so; the log begins anew behind it (both ``raft/``'s doing);
the store takes it; the name goes. A crash at any step leaves the name, and the next start does what is left: the store
takes it if it has not, then the node is made, which does the rest. So each step may be done twice, and none is left out.

The state is written beside the store, away from the loop, and compared with its digest once more on the way: what was
compared when it arrived was the bytes, not the file. The store then takes it in one step. Until then this node answers
reads from its old state, and hands out no entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq import limits
from tq.broker.long_work import LongWork
from tq.errors import DataDamaged, StorageFailed
from tq.raft.node import Installation, Node
from tq.raft.snapshots import FileSource, SnapshotId, new_digest, pending_snapshot
from tq.store.store import ReaderEnded, Store, StoreIntake
from tq.world import Disk

READ_BYTES = 1 * limits.MIB
WHOLE_SUFFIX = ".whole"


class Filling:
    """A state on its way from its file to its place beside the store. ``run`` is what may run elsewhere."""

    def __init__(self, source: FileSource, intake: StoreIntake) -> None:
        self.intake = intake
        self.source = source
        self.is_cancelled = False

    def run(self) -> None:
        """Raises ReaderEnded (cancelled), DataDamaged, StorageFailed, Unsupported."""
        source = self.source
        try:
            self._copy(source)
            self.intake.finish(source.id.index)
        except OSError as error:
            raise StorageFailed(f"installing {source.path} failed ({error.strerror or error})") from error

    def _copy(self, source: FileSource) -> None:
        digest = new_digest()
        at = 0
        while at < source.id.size:
            if self.is_cancelled:
                raise ReaderEnded
            data = source.read(at, READ_BYTES)
            if not data:
                break
            digest.update(data)
            self.intake.write(data)
            at += len(data)
        if digest.digest() != source.id.digest:
            raise DataDamaged(
                f"{source.path}: the snapshot is not whole any more. The node stops; look at its disk, then run"
                " tq cluster rebuild"
            )

    def drop(self) -> None:
        self.source.close()
        try:
            self.intake.drop()
        except OSError as error:
            raise StorageFailed(f"what was not installed could not be removed ({error.strerror or error})") from error


def unfinished(pending: FileSource | None, store: Store) -> Filling | None:
    """What a crash left to be done before the node is made: ``run`` it, then have the store ``adopt`` its intake.

    Args:
        pending: what ``pending_snapshot`` found.
    """
    if pending is None or store.checkpointed_index >= pending.id.index:
        return None
    return Filling(pending, store.intake())


def finish_installation(disk: Disk, store: Store) -> None:
    """Do what a crash left, at once: for simulated worlds. Raises DataDamaged, StorageFailed, Unsupported."""
    pending = pending_snapshot(disk)
    filling = unfinished(pending, store)
    if filling is not None:
        filling.run()
        store.adopt(filling.intake)
    if pending is not None:
        pending.close()


class SnapshotInstalling:
    """
    Args:
        on_installed: the store has another state now: what was made of the old one must be made anew. Called before the
            node hands out entries again.
    """

    def __init__(
        self, node: Node, store: Store, disk: Disk, work: LongWork, on_installed: Callable[[], None],
        wake: Callable[[], None], log: Any,
    ) -> None:  # fmt: skip
        self._node = node
        self._store = store
        self._disk = disk
        self._work = work
        self._on_installed = on_installed
        self._wake = wake
        self._log = log
        self._filling: Filling | None = None
        self._installation: Installation | None = None
        self.installed = 0

    @property
    def is_installing(self) -> bool:
        return self._filling is not None

    def look(self) -> None:
        """Raises DataDamaged, StorageFailed, Unsupported: the node must stop; the next start goes on."""
        if self._filling is None:
            if (installation := self._node.installation) is not None:
                self._begin(installation)
            return
        if not self._work.take():
            return
        filling, self._filling = self._filling, None
        if self._node.installation != self._installation:
            filling.drop()  # a later one has arrived meanwhile
            return
        self._install(filling)

    def close(self) -> None:
        """The process ends. The next one begins again."""
        if self._filling is not None:
            self._filling.is_cancelled = True
        self._work.close()
        if self._filling is not None:
            self._filling.source.close()
            self._filling = None

    def _begin(self, installation: Installation) -> None:
        name = installation.path.rpartition("/")[2].removesuffix(WHOLE_SUFFIX)
        try:
            source = FileSource(self._disk, installation.path, SnapshotId.of_name(name))
        except OSError as error:
            raise StorageFailed(f"opening {installation.path} failed ({error.strerror or error})") from error
        self._installation = installation
        self._filling = Filling(source, self._store.intake())
        self._log.info("installs a snapshot", index=installation.index, bytes=source.id.size)
        self._work.start(self._filling.run)

    def _install(self, filling: Filling) -> None:
        filling.source.close()
        self._store.adopt(filling.intake)
        self._on_installed()
        self._node.installed()
        self.installed += 1
        self._log.info("installed a snapshot", index=filling.source.id.index)
        self._wake()
