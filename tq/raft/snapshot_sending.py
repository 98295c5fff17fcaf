"""Sends a snapshot to one member, a part at a time: each answer says where to go on.

One part is under way. It is sent again when a heartbeat's time passed without progress; an answer that brings none
sends nothing, so that repeated answers do not multiply. The first part is empty: a question where to begin.
"""

from __future__ import annotations

from tq.raft import members
from tq.raft.members import Voters
from tq.raft.messages import SnapshotPart
from tq.raft.snapshots import SnapshotId, SnapshotSource


class SnapshotSending:
    """
    Attributes:
        began_s: when.
        restarts: how often the member had to begin again: what arrived was not what was promised.
    """

    def __init__(self, source: SnapshotSource, voters: Voters | None, now_s: float) -> None:
        self.source = source
        self._voters = b"" if voters is None else members.pack(voters)
        self.began_s = now_s
        self.restarts = 0
        self._offset: int | None = None  # not known before the first answer
        self._sent_s = float("-inf")
        self._due = True

    def answered(self, snapshot_id: SnapshotId, offset: int) -> None:
        if snapshot_id == self.source.id and offset != self._offset and offset <= snapshot_id.size:
            self.restarts += int(bool(self._offset) and offset == 0)
            self._offset = offset
            self._due = True

    def wakes_at_s(self, resend_s: float) -> float:
        return float("-inf") if self._due else self._sent_s + resend_s

    def take(self, term: int, wall_ms: int, now_s: float, resend_s: float, part_bytes: int) -> SnapshotPart | None:
        """The part to send now, if one is due. Raises OSError."""
        if now_s < self.wakes_at_s(resend_s):
            return None
        self._due = False
        self._sent_s = now_s
        offset = self._offset or 0
        data = b"" if self._offset is None else self.source.read(offset, part_bytes)
        snapshot = self.source.id
        return SnapshotPart(
            term, wall_ms, snapshot.index, snapshot.term, snapshot.size, snapshot.digest,
            self._voters, offset, data,
        )  # fmt: skip
