"""What keeps SyncObj honest: it stands between SyncObj and the wire, the journal, the clock and the applier.

It does no I/O. In: ``receive``, ``tick``, ``propose``, ``synced``. Out: messages, whether a sync is wanted (the
journal's ``needs_sync``), how far entries are committed *and* durable here, role changes, ends of proposals.

Rules
- SyncObj counts the leader's own entry at once. So **a group of one ticks only when all it has is synced**: term
  and vote, and each entry. That holds before it campaigns too.
- Entries are handed out up to min(commit, durable here), in every role.
- **LEADER is told once the first entry of its term is committed.** Until then the commit index may lag behind what
  earlier leaders answered, and reads would be stale. So who hears LEADER has been handed all that was ever committed.
- An entry begins with the byte 1, so SyncObj looks no further into it.
- A proposal is handed to SyncObj just before a tick, and that tick appends it or it is lost. Each ends once:
  committed, lost (not done, will never be), or unknown (leadership went while it was in the log).
- What SyncObj does that must not happen is an InternalError, and the node stops.

A group of one needs no timer: it campaigns with the first tick. What larger groups need (the follower's append,
PreVote, timers, snapshots, membership) is named in docs/raft.md; until it is here they are refused.
"""

from __future__ import annotations

import enum
from collections import deque

import attrs

from tq import limits
from tq.errors import Backpressure, InternalError, InvalidRequest, NotLeader, Unsupported
from tq.raft import adapter
from tq.raft.adapter import Core
from tq.raft.journal import Journal
from tq.world import Random


class Role(enum.Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@attrs.frozen
class RoleChange:
    role: Role
    term: int
    leader_id: str | None


class ProposalEnd(enum.Enum):
    COMMITTED = "committed"
    LOST = "lost"  # not done, and never will be
    UNKNOWN = "unknown"  # this node stopped leading while it was in the log


@attrs.frozen
class Outcome:
    term: int
    index: int
    end: ProposalEnd


class Guard:
    """See the theory above.

    Attributes:
        role, term, leader_id: as told to the broker; LEADER only when its term has a committed entry.
        committed_index: committed and durable here; never goes back.
        terms_begun: elections this node started.
        strangers: messages dropped because their sender is no member.
    """

    def __init__(
        self, *, node_id: str, peers: list[str], journal: Journal, random: Random, now_s: float,
        election_ms: tuple[int, int], heartbeat_ms: int,
    ) -> None:  # fmt: skip
        if [peer for peer in peers if peer != node_id]:
            raise Unsupported("groups of more than one node are not supported yet: list no peers")
        if not 0 < heartbeat_ms < election_ms[0] <= election_ms[1]:
            raise InternalError(f"heartbeat {heartbeat_ms} ms, election {election_ms} ms")
        self.node_id = node_id
        self._journal = journal
        self._random = random
        self._core = Core(
            node_id, [], journal,
            applied_index=journal.commit_index, now_s=now_s, fallback_s=election_ms[1] / 1000,
        )  # fmt: skip
        self._core_role = adapter.FOLLOWER
        self._waiting: list[bytes] = []
        self._proposed: deque[tuple[int, int, int]] = deque()  # term, index, bytes; in the log or waiting
        self._proposed_bytes = 0
        self._outcomes: list[Outcome] = []
        self._changes: list[RoleChange] = []
        self.role = Role.FOLLOWER
        self.term = self._core.term
        self.leader_id: str | None = None
        self.committed_index = min(journal.commit_index, journal.durable_index)
        self.terms_begun = 0
        self.strangers = 0

    # ---- in ---------------------------------------------------------------------------------------

    def receive(self, peer: str, message: bytes) -> None:
        """A message from an authenticated peer. A group of one has no members but itself: it is dropped."""
        del peer, message
        self.strangers += 1

    def propose(self, payload: bytes) -> tuple[int, int]:
        """Have the next tick append ``payload``. Returns the (term, index) it will have if it is committed.

        Raises:
            NotLeader: nothing was taken.
            Backpressure: too much is proposed and not yet committed; nothing was taken.
            InvalidRequest: the payload is empty or above ENTRY_BYTES_MAX.
        """
        if self.role is not Role.LEADER:
            raise NotLeader("this node does not lead; nothing was done", leader=self.leader_id)
        size = len(payload)
        if not 1 <= size <= limits.ENTRY_BYTES_MAX:
            raise InvalidRequest.of("entry", f"{size} bytes", f"1 to {limits.ENTRY_BYTES_MAX} bytes")
        if (
            len(self._proposed) >= limits.RAFT_PROPOSALS_MAX
            or self._proposed_bytes + size > limits.RAFT_PROPOSALS_BYTES_MAX
        ):
            raise Backpressure(
                "the log has as many entries in flight as it can hold",
                retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
            )
        self._waiting.append(adapter.NO_OP + payload)
        index = self._journal.last_index + len(self._waiting)
        self._proposed.append((self.term, index, size))
        self._proposed_bytes += size
        return self.term, index

    @property
    def may_tick(self) -> bool:
        """False while something of ours is not synced: for a group of one a tick would count it as committed."""
        return not self._journal.needs_sync and not self._journal.syncing

    def tick(self, now_s: float) -> None:
        """Let SyncObj work: commit what is synced, append what waits, campaign if it is time."""
        if not self.may_tick:
            raise InternalError("a group of one may not tick before its log is synced")
        core, journal = self._core, self._journal
        expected = journal.last_index + len(self._waiting)
        if self._waiting:
            for payload in self._waiting:
                core.queue(payload)
            self._waiting = []
        if core.role == adapter.LEADER:
            core.tick(now_s)
            if core.role == adapter.LEADER and journal.last_index != expected:
                raise InternalError(f"SyncObj appended up to {journal.last_index}, not {expected}")
        else:
            self.terms_begun += 1
            core.campaign(now_s)
        if core.outbox:
            raise InternalError(f"SyncObj sends {core.outbox[0][1].get('type')} in a group of one")
        self._take_over()

    def synced(self) -> None:
        """The journal's ``durable_index`` may have moved."""
        self._take_over()

    # ---- out --------------------------------------------------------------------------------------

    def take_messages(self) -> list[tuple[str, bytes]]:
        """(peer, message) to send. A group of one sends none."""
        return []

    def take_changes(self) -> list[RoleChange]:
        """What became of role, term and leader since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    def take_outcomes(self) -> list[Outcome]:
        """How proposals ended since the last call; each proposal once."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    @property
    def wants_tick(self) -> bool:
        """Whether a tick has something to do now, whatever the time."""
        return bool(self._waiting) or self._core.role != adapter.LEADER or self.role is not Role.LEADER

    def close(self) -> None:
        self._core.close()

    # ---- inside -----------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Read SyncObj's state and tell what changed."""
        core, journal = self._core, self._journal
        commit = core.commit_index
        committed = min(commit, journal.durable_index)
        if committed < self.committed_index:
            raise InternalError(f"the commit index went back from {self.committed_index} to {committed}")
        if committed > self.committed_index:
            self.committed_index = committed
            self._end_committed()
        if core.role != self._core_role or self.role is not Role.LEADER or core.term != self.term:
            self._core_role = core.role
            self._tell_role()

    def _tell_role(self) -> None:
        core, journal = self._core, self._journal
        term = core.term
        match core.role:
            case adapter.LEADER:
                ready = journal.term_at(self.committed_index) == term
                role, leader_id = (Role.LEADER if ready else Role.CANDIDATE), (self.node_id if ready else None)
            case adapter.CANDIDATE:
                role, leader_id = Role.CANDIDATE, None
            case _:
                role, leader_id = Role.FOLLOWER, core.leader_id
        if term < self.term:
            raise InternalError(f"the term went back from {self.term} to {term}")
        if (role, term, leader_id) == (self.role, self.term, self.leader_id):
            return
        if self.role is Role.LEADER:
            self._end_all()
        self.role, self.term, self.leader_id = role, term, leader_id
        self._changes.append(RoleChange(role, term, leader_id))

    def _end_committed(self) -> None:
        while self._proposed and self._proposed[0][1] <= self.committed_index:
            term, index, size = self._proposed.popleft()
            self._proposed_bytes -= size
            end = ProposalEnd.COMMITTED if self._journal.term_at(index) == term else ProposalEnd.LOST
            self._outcomes.append(Outcome(term, index, end))

    def _end_all(self) -> None:
        last = self._journal.last_index
        for term, index, _size in self._proposed:
            end = ProposalEnd.UNKNOWN if index <= last else ProposalEnd.LOST
            self._outcomes.append(Outcome(term, index, end))
        self._proposed.clear()
        self._proposed_bytes = 0
        self._waiting = []
