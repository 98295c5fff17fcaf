"""How this node comes to campaign, and what it answers to those that do. The rules and their sets are in elections.py; here
they meet SyncObj, the log and the wire.

Rules
- The timer that runs out asks for prevotes; a majority of them, or the leader's TimeoutNow, begins a campaign.
- SyncObj's own vote requests are taken out of its hands, and leave when the vote for ourselves is synced.
- A vote that SyncObj gives leaves when it is synced. One that comes counts once, in the term of its making.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from tq.errors import InternalError
from tq.raft import adapter
from tq.raft.adapter import Core
from tq.raft.elections import Ballot, Elections, HeldVotes
from tq.raft.journal import Journal
from tq.raft.messages import Message, PreVote, PreVoteReply, RequestVote, TimeoutNow, Vote
from tq.raft.voting import Voting


class Candidacy:
    """
    Args:
        core: SyncObj; it is made anew now and then.
        known_leader: who leads the present term, if it is another node and was heard.
        send: queues a message.

    Attributes:
        leader_missed: the timer ran out or the leader's process ended, and no leader was heard since.
    """

    def __init__(
        self, node_id: str, journal: Journal, voting: Voting, elections: Elections, *, core: Callable[[], Core],
        known_leader: Callable[[], str | None], send: Callable[[str, Message], None],
    ) -> None:  # fmt: skip
        self.leader_missed = False
        self._node_id = node_id
        self._journal = journal
        self._voting = voting
        self._elections = elections
        self._core = core
        self._known_leader = known_leader
        self._send = send
        self._held = HeldVotes(node_id, journal)

    def is_sticky(self, now_s: float) -> bool:
        """Whether a leader is alive as far as this node knows: then nobody is helped to depose it."""
        return self._core().role == adapter.LEADER or self._elections.is_sticky(now_s)

    def take(self, peer: str, message: PreVote | PreVoteReply | RequestVote | Vote | TimeoutNow, now_s: float) -> None:
        """``message`` is of the present term, or of a kind for which that does not matter."""
        core = self._core()
        match message:
            case PreVote():
                granted = message.term >= core.term and not self.is_sticky(now_s) and self._is_current(message)
                if granted:
                    self._elections.gave_prevote(now_s)
                self._send(peer, PreVoteReply(core.term, message.round, granted))
            case PreVoteReply():
                if not message.granted or core.role == adapter.LEADER:
                    return
                if self._elections.prevote_granted(peer, message.round):
                    self.campaign(now_s, transfer=False)
            case RequestVote():
                if message.transfer or not self.is_sticky(now_s):
                    core.feed_vote_request(peer, message.term, message.last_index, message.last_term, now_s)
            case Vote():
                if (
                    core.role == adapter.CANDIDATE
                    and self._held.vote_is_synced(core.term, self._node_id)
                    and self._elections.vote_is_new(peer)
                ):
                    core.feed_vote(peer, now_s)
            case TimeoutNow():
                if core.role == adapter.FOLLOWER and self._known_leader() == peer:
                    self.campaign(now_s, transfer=True)
            case _:
                assert_never(message)

    def ask_prevotes(self, now_s: float) -> None:
        """The timer ran out."""
        self.leader_missed = True
        round_ = self._elections.ask_prevotes(self._node_id, now_s)
        journal = self._journal
        question = PreVote(self._core().term, round_, journal.last_index, journal.last_term)
        for peer in self._voting.peers:
            self._send(peer, question)

    def leader_gone(self, now_s: float) -> None:
        """The process of the leader that this node follows ended."""
        self.leader_missed = True
        leader, voters = self._known_leader(), self._voting.voters
        places = [voter for voter in voters if voter != leader]
        if self._node_id in places:
            self._elections.leader_gone(places.index(self._node_id), len(places), now_s)
        else:
            self._elections.forget_leader()

    def campaign(self, now_s: float, *, transfer: bool) -> None:
        """``transfer``: the leader asked for it, so nobody is to protect that one."""
        core, journal, peers = self._core(), self._journal, self._voting.peers
        self._elections.begin(self._node_id, now_s)
        last_index, last_term = journal.last_index, journal.last_term
        core.campaign(now_s)
        if core.role != adapter.CANDIDATE:
            raise InternalError("SyncObj did not campaign when it was told to")
        asked = [peer for peer, message in core.outbox if message["type"] == "request_vote"]
        core.outbox[:] = [sent for sent in core.outbox if sent[1]["type"] != "request_vote"]
        if sorted(asked) != peers:
            raise InternalError(f"SyncObj asked {sorted(asked)} for votes, not {peers}")
        self._held.hold([(peer, RequestVote(core.term, last_index, last_term, transfer)) for peer in peers])

    def voted(self, peer: str, term: int, now_s: float) -> None:
        """SyncObj gave its vote in ``term``."""
        self._elections.restart_timer(now_s)
        self._held.hold([(peer, Vote(term))])

    def release(self, term: int) -> list[Ballot]:
        """Votes, and requests for them, that may leave now."""
        return self._held.release(term)

    def _is_current(self, message: PreVote) -> bool:
        return (message.last_term, message.last_index) >= (self._journal.last_term, self._journal.last_index)
