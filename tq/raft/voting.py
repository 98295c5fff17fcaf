"""Who votes as the guard sees it now, and which change of that may begin. ``members.py`` has what the log says."""

from __future__ import annotations

from tq import limits
from tq.errors import Backpressure, InvalidRequest, Unsupported
from tq.raft import members
from tq.raft.journal import Journal


class Voting:
    """
    Args:
        configured: the voters until the log has a list; empty for a joiner.

    Attributes:
        voters: in force now, committed or not.
        peers: of them, the others.
        alone: this node is the only one.
        removed: this node was told that it votes no more, by a leader whose entry it may never get.

    Raises:
        Unsupported: too many voters.
    """

    def __init__(self, node_id: str, configured: tuple[str, ...], journal: Journal) -> None:
        if len(configured) > limits.RAFT_VOTERS_MAX:
            raise Unsupported(f"a group of {len(configured)} voters; at most {limits.RAFT_VOTERS_MAX} are supported")
        self._node_id = node_id
        self._configured = configured
        self._journal = journal
        self._listed = journal.members.current
        self.removed = False
        self._read()

    def take(self) -> bool:
        """Read the log again. Returns whether it has another list."""
        if self._journal.members.current == self._listed:
            return False
        self._listed = self._journal.members.current
        self._read()
        return True

    def _read(self) -> None:
        self.voters = self._configured if self._listed is None else self._listed.ids
        self.peers = [voter for voter in self.voters if voter != self._node_id]
        self.alone = self.voters == (self._node_id,)
        if self._node_id in self.voters:
            self.removed = False

    @property
    def may_campaign(self) -> bool:
        return self._node_id in self.voters and not self.removed

    def was_removed(self, index: int) -> None:
        """A leader says that entry ``index`` takes this node's vote. What the log has of later entries counts more."""
        self.removed = self._node_id not in self.voters or index > self._journal.last_index

    def change(self, voters: list[str], committed_index: int, *, waits: bool) -> bytes:
        """The entry that makes ``voters`` vote.

        Args:
            waits: a change is proposed and not appended.

        Raises InvalidRequest, Backpressure.
        """
        wanted = tuple(sorted(set(voters)))
        if len(set(wanted) ^ set(self.voters)) != 1 or not all(wanted):
            raise InvalidRequest.of("voters", wanted, f"one more or one less than {', '.join(self.voters)}")
        if len(wanted) > limits.RAFT_VOTERS_MAX:
            raise InvalidRequest.of("voters", wanted, f"at most {limits.RAFT_VOTERS_MAX}")
        if self._node_id not in wanted:
            raise InvalidRequest.of("voters", wanted, f"{self._node_id} leads: hand leadership over, then remove it")
        if waits or (self._listed is not None and self._listed.index > committed_index):
            raise Backpressure(
                "the change of voters before is not committed yet; nothing was done",
                retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
            )
        return members.encode(wanted)

    def step_of(self, payload: bytes) -> tuple[str | None, str | None]:
        """Whom a list that is about to be appended adds, and whom it takes away."""
        wanted, now = set(members.decode(payload)), set(self.voters)
        return min(wanted - now, default=None), min(now - wanted, default=None)
