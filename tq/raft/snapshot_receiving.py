"""A follower's side of a snapshot: nothing is acknowledged before it is here, compared and durable.

What the log has already is not installed again: an entry of the same index and term means that all before it is the
same, and what stands behind it may have been acknowledged.
"""

from __future__ import annotations

from tq.errors import InternalError
from tq.raft.following import Following
from tq.raft.journal import Journal
from tq.raft.members import unpack
from tq.raft.messages import SnapshotAck, SnapshotPart
from tq.raft.snapshots import Incoming, SnapshotId


class SnapshotReceiving:
    """
    Attributes:
        waiting: its snapshot is whole; the log must begin anew behind it, after a sync that runs.
    """

    def __init__(self, journal: Journal, incoming: Incoming | None) -> None:
        self.waiting: SnapshotPart | None = None
        self._journal = journal
        self._incoming = incoming

    def take(self, part: SnapshotPart, following: Following, wall_ms: int) -> SnapshotAck | None:
        """Returns the answer, if there is one now. Raises OSError."""
        journal = self._journal
        if self.waiting is not None:
            return None
        if following.has_entry(part.index, part.snapshot_term):
            self.not_needed()
            is_durable = journal.durable_index >= part.index and journal.durable_term >= part.term
            return _answer(part, part.size, wall_ms, done=True) if is_durable else None
        if self._incoming is None:
            raise InternalError("a snapshot arrives, and there is no place for it")
        snapshot_id = SnapshotId(part.index, part.snapshot_term, part.size, part.digest)
        offset = self._incoming.take(snapshot_id, part.offset, part.data)
        if offset < part.size:
            return _answer(part, offset, wall_ms, done=False)
        if part.voters:
            journal.members.store(unpack(part.voters))  # committed: it may be known early
        if not self._incoming.finish():
            return _answer(part, 0, wall_ms, done=False)
        self.waiting = part
        return None

    def not_needed(self) -> None:
        """The log goes on without one: what came of one, or was refused, is past."""
        incoming = self._incoming
        if incoming is not None and (incoming.arriving is not None or incoming.refusal is not None):
            incoming.drop()
            incoming.refusal = None

    def begin_log(self) -> bool:
        """Whether the log was begun anew behind a snapshot."""
        part = self.waiting
        if part is None or self._journal.syncing:
            return False
        self.waiting = None
        self._journal.reset(part.index, part.snapshot_term)
        return True


def _answer(part: SnapshotPart, offset: int, wall_ms: int, *, done: bool) -> SnapshotAck:
    return SnapshotAck(part.term, wall_ms, part.index, part.snapshot_term, part.size, part.digest, offset, done)
