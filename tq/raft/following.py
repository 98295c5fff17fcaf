"""A follower's append: what a leader sent is matched against the journal before anything is believed of it.

Theory
- ``matched_index``: up to it this log is as the leader of ``term`` has it. It begins at the commit index, because a
  leader holds all that was committed, and rises only by comparison: the entry before those sent has the index and
  term that the leader says. **Nothing above it is taken for committed**, whatever commit index the leader names.
- An entry that is here already (same index, same term) is left alone: a late or repeated append removes nothing.
  Only a conflict cuts, from there on. A conflict at or below what is committed or was matched breaks Raft's promise:
  the node stops.
- A rejection names ``matched_index``, so one round trip finds the place.
- An acknowledgement says what is **synced**, with the term synced too. A sign of life goes out at once and says what
  is synced so far; another follows the sync.
- A cut waits for a sync that runs. The append is held until then; a later one takes its place.
"""

from __future__ import annotations

from tq.errors import InternalError
from tq.raft.journal import Journal
from tq.raft.messages import Ack, Append, Reject


class Following:
    """One leader's term, as its follower sees it.

    Attributes:
        told_index: the highest commit index that the leader named: how far others are. Nothing is committed by it.
    """

    def __init__(self, journal: Journal, leader_id: str, term: int, commit_index: int, life_s: float) -> None:
        self.leader_id = leader_id
        self.term = term
        self.matched_index = commit_index
        self.told_index = commit_index
        self.held: Append | None = None
        self._journal = journal
        self._life_s = life_s
        self._answered_s = float("-inf")
        self._round = 0
        self._sequence = 0
        self._told_index = 0
        self._owes_ack = False

    def append(self, message: Append, commit_index: int, wall_ms: int, now_s: float) -> Ack | Reject | None:
        """Take an append of this term. Returns what to answer at once, if anything; see ``ack_due`` too.

        Raises InternalError: the logs contradict each other where they must not.
        """
        journal = self._journal
        fresh = message.round > self._round
        self._round = max(self._round, message.round)
        self.matched_index = max(self.matched_index, commit_index)
        self.told_index = max(self.told_index, message.commit_index)
        if not self._has_before(message):
            self._answered_s = now_s
            return Reject(
                self.term, message.sequence, self._round, wall_ms, message.prev_index, self.matched_index
            )  # fmt: skip
        at = self._first_new(message)
        if at <= journal.last_index and at <= message.prev_index + len(message.entries):
            if journal.syncing:
                self.held = message
                return self._answer(wall_ms, now_s)
            journal.truncate_from(at)
        for number in range(at, message.prev_index + len(message.entries) + 1):
            term, payload = message.entries[number - message.prev_index - 1]
            if term > self.term:
                raise InternalError(f"the leader of term {self.term} sent an entry of term {term}")
            journal.append(payload, number, term)
        self.matched_index = max(self.matched_index, message.prev_index + len(message.entries))
        self._sequence = max(self._sequence, message.sequence)
        self._owes_ack = True
        durable_index = self._durable_index()
        is_news = fresh or durable_index > self._told_index or (message.entries and durable_index >= self.matched_index)
        if is_news or now_s - self._answered_s >= self._life_s:
            return self._answer(wall_ms, now_s)
        return None

    def has_entry(self, index: int, term: int) -> bool:
        """Whether the log has what a snapshot ends with, and so all before it: it is committed."""
        journal = self._journal
        if index <= self.matched_index:
            return True
        if index > journal.last_index or journal.term_at(index) != term:
            return False
        self.matched_index = index
        return True

    def ack_due(self, wall_ms: int, now_s: float) -> Ack | None:
        """What a sync brought, if the leader does not know it."""
        if self._owes_ack and self._durable_index() > self._told_index:
            return self._answer(wall_ms, now_s)
        return None

    def _answer(self, wall_ms: int, now_s: float) -> Ack:
        self._answered_s = now_s
        self._told_index = self._durable_index()
        self._owes_ack = self._told_index < self.matched_index
        return Ack(self.term, self._sequence, self._round, wall_ms, self._told_index)

    def _durable_index(self) -> int:
        """What this node can vouch for: in the log as the leader has it, and synced together with the term."""
        journal = self._journal
        return min(self.matched_index, journal.durable_index) if journal.durable_term >= self.term else 0

    def _has_before(self, message: Append) -> bool:
        journal, prev_index = self._journal, message.prev_index
        if prev_index > journal.last_index:
            return False
        if prev_index < journal.base_index or journal.term_at(prev_index) == message.prev_term:
            return True
        if prev_index <= self.matched_index:
            raise InternalError(
                f"entry {prev_index} has term {journal.term_at(prev_index)} here and {message.prev_term} at the leader"
                f" {self.leader_id} of term {self.term}, but all up to {self.matched_index} is committed or was"
                " matched: this node stops before it makes it worse"
            )
        return False

    def _first_new(self, message: Append) -> int:
        """The first index whose entry is not here, or is another one."""
        journal = self._journal
        for number, (term, _payload) in enumerate(message.entries, message.prev_index + 1):
            if number > journal.last_index:
                return number
            if number >= journal.base_index and journal.term_at(number) != term:
                if number <= self.matched_index:
                    raise InternalError(
                        f"the leader {self.leader_id} of term {self.term} sent entry {number} of term {term}, but here"
                        f" it has term {journal.term_at(number)} and all up to {self.matched_index} is committed or"
                        " was matched: this node stops before it makes it worse"
                    )
                return number
        return message.prev_index + len(message.entries) + 1
