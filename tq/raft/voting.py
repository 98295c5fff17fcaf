"""Who votes as the guard sees it now, and which change of that may begin. ``members.py`` has what the log says.

Theory: a name comes back with another data directory.
- It is another member, and takes the place of the old one in **two** lists. The first takes the vote from the name and
  admits the new directory. When that is committed, a majority of those that are left holds all that was ever committed,
  and nobody can be elected without it: what the old directory promised, or its loss forgot, does not matter any more.
  Only then the second gives the name its vote again, which is now the new directory's.
- **The second follows from the first**: a name that is admitted and does not vote, in a committed list, is to vote. Whoever
  leads then sees to it, so a leader that dies in between leaves nothing half done.
- **An answer (an acknowledgement, a vote) counts only from the directory that the list in force admits.** A question may
  come from any: who asks is believed for what it says of its log and term, never for what it promised.
- **Refused is only what a committed list rules out.** Who is behind may not know that a directory was admitted, and who has
  a list that will be cut away again may believe that one counts no more; either may be the leader, and be right. So a
  directory is heard, though its answers may not count, if the list in force admits it, or the last that is committed
  does, or it names a later entry as its admission than is committed here.

Rejected: both steps in one list (a majority of the old list, with the old directory, and one of the new list, with the new
one, need have no node in common); to wait with the second until the new directory has caught up (the name would have no
vote meanwhile, and then one node less may fail: an empty voter promises nothing, and is worth as much as a dead one).
"""

from __future__ import annotations

from collections.abc import Mapping

from tq import limits
from tq.errors import Backpressure, InvalidRequest, Unsupported
from tq.raft import members
from tq.raft.journal import Journal
from tq.raft.members import Admission

_REPLACED_VOTERS_MIN = 3
"""Of two, the one that is left cannot lead: it has no majority to be elected by."""


class Voting:
    """
    Args:
        configured: the voters until the log has a list; empty for a joiner.
        founders: their data directories; empty: nobody knows, and all answers count.

    Attributes:
        admitted: the data directory that counts under each name now.
        joining: who is to be given a vote, when the list that admits it is committed.
        voters: in force now, committed or not.
        peers: of them, the others.
        alone: this node is the only one.
        removed: this node was told that it votes no more, by a leader whose entry it may never get.

    Raises:
        Unsupported: too many voters.
    """

    def __init__(
        self, node_id: str, configured: tuple[str, ...], journal: Journal, founders: Mapping[str, bytes] | None = None
    ) -> None:
        if len(configured) > limits.RAFT_VOTERS_MAX:
            raise Unsupported(f"a group of {len(configured)} voters; at most {limits.RAFT_VOTERS_MAX} are supported")
        self._node_id = node_id
        self._configured = configured
        self._journal = journal
        self._founders = {id: Admission(incarnation, 0) for id, incarnation in (founders or {}).items()}
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
        listed = self._listed
        self.voters = self._configured if listed is None else listed.ids
        self.admitted = self._founders if listed is None or not listed.admitted else listed.admitted
        self.joining = [] if listed is None else listed.joining
        self.peers = [voter for voter in self.voters if voter != self._node_id]
        self.alone = self.voters == (self._node_id,)
        if self._node_id in self.voters:
            self.removed = False

    @property
    def listed_index(self) -> int:
        """Of the entry that has the list; 0: none does."""
        return 0 if self._listed is None else self._listed.index

    def counts(self, peer: str, incarnation: bytes | None) -> bool:
        """Whether what ``peer`` answers from that data directory is an answer of the voter."""
        known = self.admitted.get(peer)
        return peer in self.peers and (known is None or known.incarnation == incarnation)

    def refusal(self, peer: str, incarnation: bytes, index: int, committed_index: int) -> str | None:
        """Why ``peer`` is not heard at all, or None. index: of the entry that admitted it, as it says."""
        listed = self._journal.members.at(committed_index)
        committed = self._founders if listed is None or not listed.admitted else listed.admitted
        known = committed.get(peer)
        if known is None or known.incarnation == incarnation or index > committed_index:
            return None
        in_force = self.admitted.get(peer)
        if in_force is not None and in_force.incarnation == incarnation:
            return None
        if known.index > 0:
            return (
                f"{peer} was rebuilt on another data directory, which entry {known.index} of the log admits: this one has"
                " lost its vote and may not come back. Start the rebuilt one, and keep or remove this directory"
            )
        return (
            f"{peer} has another data directory than when the cluster was formed: it has lost its votes and may not come"
            " back under this name. Put the very directory back that it had, never an older copy of it; if that is lost"
            " or damaged, stop it and run tq cluster rebuild"
        )

    @property
    def may_campaign(self) -> bool:
        return self._node_id in self.voters and not self.removed

    def was_removed(self, index: int) -> None:
        """A leader says that entry ``index`` takes this node's vote. What the log has of later entries counts more."""
        self.removed = self._node_id not in self.voters or index > self._journal.last_index

    def change(
        self, voters: list[str], committed_index: int, *, waits: bool, incarnation: bytes | None = None
    ) -> bytes:
        """The entry that makes ``voters`` vote.

        Args:
            waits: a change is proposed and not appended.
            incarnation: the data directory of the one that is added.

        Raises InvalidRequest, Backpressure.
        """
        wanted = tuple(sorted(set(voters)))
        if len(set(wanted) ^ set(self.voters)) != 1 or not all(wanted):
            raise InvalidRequest.of("voters", wanted, f"one more or one less than {', '.join(self.voters)}")
        if len(wanted) > limits.RAFT_VOTERS_MAX:
            raise InvalidRequest.of("voters", wanted, f"at most {limits.RAFT_VOTERS_MAX}")
        if self._node_id not in wanted:
            raise InvalidRequest.of("voters", wanted, f"{self._node_id} leads: hand leadership over, then remove it")
        self._check_settled(committed_index, waits)
        admitted = {id: seat for id, seat in self.admitted.items() if id in wanted}
        new = min(set(wanted) - set(self.voters), default=None)
        if new is not None and self.admitted:
            if incarnation is None:
                raise InvalidRequest.of("voters", wanted, f"the data directory of {new} must be known")
            admitted[new] = Admission(incarnation, 0)
        return members.encode(wanted, admitted, new)

    def replace(self, name: str, incarnation: bytes, committed_index: int, *, waits: bool) -> bytes:
        """The entry that takes the vote of ``name`` from the data directory it had, and admits another.

        Raises InvalidRequest, Backpressure.
        """
        if name not in self.admitted or name not in self.voters + tuple(self.joining):
            raise InvalidRequest.of("node", name, f"one of {', '.join(self.voters)}")
        if name == self._node_id:
            raise InvalidRequest.of("node", name, "a node that does not run: this one leads")
        self._check_settled(committed_index, waits)
        if len(self.voters) < _REPLACED_VOTERS_MIN:
            raise InvalidRequest.of(
                "node", name, f"a node of a group of {_REPLACED_VOTERS_MIN} or more: of {len(self.voters)} none is left"
            )
        left = [voter for voter in self.voters if voter != name]
        return members.encode(left, {**self.admitted, name: Admission(incarnation, 0)}, name)

    def give_vote(self, committed_index: int, *, waits: bool) -> bytes | None:
        """The entry that has the next of ``joining`` vote, if that may begin."""
        if not self.joining or waits or self.listed_index > committed_index:
            return None
        return members.encode([*self.voters, self.joining[0]], self.admitted)

    def step_of(self, payload: bytes) -> tuple[str | None, str | None]:
        """Whom a list that is about to be appended adds, and whom it takes away."""
        wanted, now = set(members.decode(payload, self._journal.last_index + 1).ids), set(self.voters)
        return min(wanted - now, default=None), min(now - wanted, default=None)

    def _check_settled(self, committed_index: int, waits: bool) -> None:
        if waits or self.listed_index > committed_index or self.joining:
            raise Backpressure(
                "the change of voters before is not committed yet; nothing was done",
                retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
            )
