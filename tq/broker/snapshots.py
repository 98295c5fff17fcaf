"""This node's part in snapshots, whichever it has: it makes one for others, or installs the one it was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq.broker.long_work import LongWork
from tq.broker.snapshot_installing import SnapshotInstalling
from tq.broker.snapshot_making import SnapshotMaking
from tq.raft.node import Node
from tq.store.store import Store
from tq.world import Clock, Disk


class Snapshots:
    """
    Args:
        new_work: somewhere to run what takes long; one for each side, since a leader that is making one may lose its
            leadership and be sent one.
        free_bytes_min: the disk's watermark.
        on_installed, wake, log: see ``SnapshotInstalling`` and ``SnapshotMaking``.
    """

    def __init__(
        self, node: Node, store: Store, disk: Disk, clock: Clock, new_work: Callable[[], LongWork], free_bytes_min: int,
        on_installed: Callable[[], None], wake: Callable[[], None], log: Any,
    ) -> None:  # fmt: skip
        self._node = node
        self._log = log
        self._refusal: str | None = None  # as it was told last
        self._making = SnapshotMaking(node, store, disk, clock, new_work(), free_bytes_min, wake, log)
        self._installing = SnapshotInstalling(node, store, disk, new_work(), on_installed, wake, log)

    def before_turn(self) -> None:
        self._making.before_turn()

    def look(self) -> None:
        """Go on. Raises DataDamaged, StorageFailed, Unsupported: the node must stop."""
        self._making.look()
        self._installing.look()
        refusal, told = self._node.snapshot_refusal, self._refusal
        if (refusal is None) is not (told is None):
            self._refusal = refusal
            if refusal is None:
                self._log.info("takes the snapshot that it needs again")
            else:
                self._log.warning("does not take the snapshot that it needs, and tries again", reason=refusal)

    @property
    def is_busy(self) -> bool:
        """One is made, kept for others, awaited or installed here, or refused."""
        node = self._node
        return (
            self._making.is_making
            or self._making.offered is not None
            or node.wants_snapshot
            or node.snapshot_arriving is not None
            or node.installation is not None
            or self._refusal is not None
        )

    def compactable(self, index: int) -> int:
        """Up to where the log may be compacted, of ``index`` at most."""
        held_index = self._making.hold_index
        return index if held_index is None else min(index, held_index)

    def close(self) -> None:
        """The process ends: stop what is under way. Call it before store and node are closed."""
        self._making.close()
        self._installing.close()

    @property
    def installed(self) -> int:
        """Snapshots that this node has taken."""
        return self._installing.installed

    def state(self) -> str | None:
        """What is under way here, for people."""
        if self._installing.is_installing:
            return "installs"
        arriving = self._node.snapshot_arriving
        if arriving is not None:
            return f"receives: {arriving[0]} of {arriving[1]} bytes"
        if self._making.is_making:
            return "makes"
        return None if self._making.offered is None else "sends"

    def statistics(self) -> dict[str, int | bool | None]:
        offered = self._making.offered
        return {
            "made": self._making.made,
            "given_up": self._making.given_up,
            "installed": self._installing.installed,
            "is_making": self._making.is_making,
            "is_installing": self._installing.is_installing,
            "offered_index": None if offered is None else offered.index,
            "offered_bytes": 0 if offered is None else offered.size,
        }
