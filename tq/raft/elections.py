"""When this node campaigns, and whom it lets campaign. SyncObj's own timers never fire.

Theory
- The timer is drawn anew within ``election_ms`` each time it starts. It starts when a leader was heard, a vote was
  given, or it ran out.
- **PreVote**: when it runs out the node asks whether a majority would vote for it, in a term that nobody takes yet.
  Only then it campaigns. So a node that was cut off comes back with the term it left with.
- **Stickiness**: who leads, or heard a leader within the shortest time-out, refuses prevotes and votes, and does
  not even take the term from them. Elections that the leader asked for (transfer) are let through.
- **A leader whose process ended is not waited for.** Its machine says so: its connections end, and nobody listens where
  it did (raft/transport/shell.py). To a node that is told so the leader is dead: stickiness is over there, for it was to
  protect a living one. And it does not wait for its timer: the nodes left ask for prevotes in turns, in the order of
  their names, a slot after the other, so that no two of them campaign at once and split the votes; the lead before
  the first slot is for the word to reach all. Who grants a prevote lets its own turn pass. After the shorter
  bound the drawn timers go on.
  It is a hint, and safety does not lean on it. A wrong one costs a round of prevotes, that all refuse who still
  hear the leader: to depose one that lives takes a majority that lost it. A connection that breaks and is made anew
  is no hint, and what is heard of the leader takes it back. A machine that is off says nothing: then the timer decides.
- Votes and prevotes are sets of member ids, in one term and one round. SyncObj counts votes and would count one twice.

A log is as good as ours if its last term is higher, or the same with at least our length.

Rejected: each draws a short time when its leader is gone (two of three nodes collide too often, and then wait for the
whole timer); a lost connection as the sign (a router that forgets them all would depose leaders that live).
"""

from __future__ import annotations

from tq.raft.journal import Journal
from tq.raft.messages import RequestVote, Vote
from tq.world import Random

Ballot = tuple[str, RequestVote | Vote]

LEAD_PERMILLE = 50
"""Of the shorter bound: from the word that the leader is gone to the first slot."""
SLOT_PERMILLE = 125
"""Of the shorter bound: in which one node asks for prevotes, and should have won before the next one asks."""


class Elections:
    """
    Attributes:
        deadline_s: when the timer runs out.
        round: of the last prevotes asked for; rises for ever.
        started: elections this node started.
    """

    def __init__(self, voters: int, random: Random, election_ms: tuple[int, int], now_s: float) -> None:
        self._quorum = voters // 2 + 1
        self._random = random
        self._election_ms = election_ms
        self._heard_s = float("-inf")
        self._prevotes: set[str] | None = None
        self._votes: set[str] | None = None
        self._is_gone = False
        self._turns_until_s = float("-inf")
        self._turn_s = 0.0  # from one slot of ours to the next
        self.round = 0
        self.started = 0
        self.deadline_s = 0.0
        self.restart_timer(now_s)

    def set_voters(self, count: int, now_s: float) -> None:
        """How many vote now. An election that runs is over."""
        self._quorum = count // 2 + 1
        self.end()
        self.restart_timer(now_s)

    def restart_timer(self, now_s: float) -> None:
        if self._quorum == 1:
            return  # alone: it campaigns when it likes
        low, high = self._election_ms
        self._turns_until_s = float("-inf")
        self.deadline_s = now_s + (low + self._random.below(high - low + 1)) / 1000

    def heard_leader(self, now_s: float) -> None:
        self._heard_s = now_s
        self._is_gone = False
        self._prevotes = self._votes = None
        self.restart_timer(now_s)

    def forget_leader(self) -> None:
        """Its reign is over: nobody is to be protected."""
        self._heard_s = float("-inf")

    def leader_gone(self, place: int, places: int, now_s: float) -> None:
        """The process of the leader ended; that counts until one is heard. This node has the slot ``place`` of
        ``places``."""
        if self._is_gone:
            return
        self._is_gone = True
        self.forget_leader()
        low_s = self._election_ms[0] / 1000
        slot_s = low_s * SLOT_PERMILLE / 1000
        self._turn_s = places * slot_s
        self._turns_until_s = now_s + low_s
        self.deadline_s = now_s + low_s * LEAD_PERMILLE / 1000 + place * slot_s

    def is_sticky(self, now_s: float) -> bool:
        """Whether a leader is alive as far as this follower knows."""
        return now_s - self._heard_s < self._election_ms[0] / 1000

    # ---- prevotes ----------------------------------------------------------------------------------

    def ask_prevotes(self, own_id: str, now_s: float) -> int:
        """The timer ran out. Returns the round to ask in."""
        if now_s < self._turns_until_s:
            self.deadline_s = now_s + self._turn_s
        else:
            self.restart_timer(now_s)
        self.forget_leader()
        self.round += 1
        self._prevotes, self._votes = {own_id}, None
        return self.round

    def prevote_granted(self, peer: str, round_: int) -> bool:
        """Whether this grant makes it a majority; that ends the round."""
        if self._prevotes is None or round_ != self.round:
            return False
        self._prevotes.add(peer)
        if len(self._prevotes) < self._quorum:
            return False
        self._prevotes = None
        return True

    def gave_prevote(self, now_s: float) -> None:
        """Another one may campaign now."""
        if now_s < self._turns_until_s:
            self.deadline_s = max(self.deadline_s, now_s + self._turn_s)

    # ---- votes -------------------------------------------------------------------------------------

    def begin(self, own_id: str, now_s: float) -> None:
        """A term of ours begins."""
        self.started += 1
        self._prevotes, self._votes = None, {own_id}
        self.restart_timer(now_s)

    def vote_is_new(self, peer: str) -> bool:
        """Take a vote of the current term; False if it was counted, or the election is over."""
        if self._votes is None or peer in self._votes:
            return False
        self._votes.add(peer)
        return True

    def end(self) -> None:
        """Won, or in another term."""
        self._prevotes = self._votes = None


class HeldVotes:
    """Votes, and requests for them, wait until the vote that they speak of is synced; in another term they are dropped.
    Who forgets a vote could vote twice, and two would lead a term."""

    def __init__(self, own_id: str, journal: Journal) -> None:
        self._own_id = own_id
        self._journal = journal
        self._held: list[Ballot] = []

    def vote_is_synced(self, term: int, vote: str) -> bool:
        return (self._journal.durable_term, self._journal.durable_vote) == (term, vote)

    def hold(self, ballots: list[Ballot]) -> None:
        """In place of those held: there is one vote a term."""
        self._held = ballots

    def release(self, term: int) -> list[Ballot]:
        """What may leave now."""
        if not self._held:
            return []
        current = [(peer, message) for peer, message in self._held if message.term == term]
        ready = [
            (peer, message)
            for peer, message in current
            if self.vote_is_synced(term, peer if isinstance(message, Vote) else self._own_id)
        ]
        self._held = [ballot for ballot in current if ballot not in ready]
        return ready
