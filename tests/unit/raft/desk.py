"""One guard of a group, and the test plays the others: it writes their messages and reads what comes back."""

from __future__ import annotations

from typing import TypeVar

from tq.raft import adapter, messages
from tq.raft.guard import Guard, Role
from tq.raft.journal import Journal
from tq.raft.messages import Ack, Append, Message, PreVote, PreVoteReply, Reject, RequestVote, Vote
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom

from .rig import journal_on

M = TypeVar("M", bound=Message)
ELECTION_MS = (600, 1_200)
HEARTBEAT_S = 0.15


class Desk:
    """n1, with n2 and n3 (and more) played by the test. Time stands still until ``wait``."""

    def __init__(
        self, *, size: int = 3, disk: SimDisk | None = None, floor: int = 0, seed: int = 1, segment_bytes: int = 1 << 20
    ) -> None:
        self.disk = disk or SimDisk()
        self.journal: Journal = journal_on(self.disk, floor=floor, segment_bytes=segment_bytes, tail_bytes=1 << 20)
        self.others = [f"n{number}" for number in range(2, size + 1)]
        self.now_s = 10.0
        self.guard = Guard(
            node_id="n1", peers=self.others, journal=self.journal, random=SeededRandom(seed), now_s=self.now_s,
            election_ms=ELECTION_MS, heartbeat_ms=150,
        )  # fmt: skip

    # ---- in ----------------------------------------------------------------------------------------

    def say(self, peer: str, *said: Message) -> None:
        for message in said:
            self.guard.receive(peer, messages.encode(message), self.now_s)

    def sync(self) -> None:
        self.journal.sync()
        self.guard.synced()

    def tick(self) -> None:
        self.guard.tick(self.now_s)

    def wait(self, for_s: float) -> None:
        self.now_s += for_s
        self.tick()

    # ---- out ---------------------------------------------------------------------------------------

    def sent(self) -> list[tuple[str, Message]]:
        return [(peer, messages.decode(data)) for peer, data in self.guard.take_messages()]

    def sent_of(self, kind: type[M]) -> list[tuple[str, M]]:
        return [(peer, message) for peer, message in self.sent() if isinstance(message, kind)]

    def answer(self, kind: type[M]) -> M:
        """The only message that was sent."""
        [(_, message)] = self.sent()
        assert isinstance(message, kind), message
        return message

    # ---- stories -----------------------------------------------------------------------------------

    def follow(self, *terms: int, leader: str = "n2", term: int = 1, commit: int = 1) -> None:
        """Have ``leader`` send entries of ``terms`` behind what is there."""
        entries = tuple((entry_term, payload(self.journal.last_index + 1 + at)) for at, entry_term in enumerate(terms))
        self.say(leader, append(term, self.journal.last_index, self.journal.last_term, entries, commit=commit))

    def ask_prevotes(self) -> PreVote:
        """Let the timer run out."""
        self.wait(ELECTION_MS[1] / 1000 + 0.001)
        questions = self.sent_of(PreVote)
        assert [peer for peer, _ in questions] == self.others
        return questions[0][1]

    def campaign(self) -> RequestVote:
        """Up to vote requests that left, with the own vote synced."""
        question = self.ask_prevotes()
        for peer in self.others[: len(self.others) // 2]:
            self.say(peer, PreVoteReply(question.term, question.round, True))
        assert self.raw_role == adapter.CANDIDATE
        assert self.sent() == []
        self.sync()
        requests = self.sent_of(RequestVote)
        assert [peer for peer, _ in requests] == self.others
        return requests[0][1]

    def win(self) -> int:
        """Elected, with the first entry in the log, not synced. Returns the term."""
        term = self.campaign().term
        for peer in self.others[: len(self.others) // 2]:
            self.say(peer, Vote(term))
        assert self.raw_role == adapter.LEADER
        return term

    def lead(self) -> int:
        """A leader that says so: the first entry of its term is committed. What was sent is read."""
        term = self.win()
        self.sync()
        for peer in self.others:
            self.say(peer, ack(term, self.journal.last_index))
        self.tick()
        assert self.guard.role is Role.LEADER
        self.sent()
        self.guard.take_changes()
        return term

    def propose(self, *datas: bytes) -> None:
        """Proposed, appended and sent; not synced."""
        for data in datas:
            self.guard.propose(data)
        self.tick()

    @property
    def raw_role(self) -> int:
        return self.guard._core.role

    @property
    def log(self) -> list[int]:
        """The terms of the entries, from index 2 on."""
        return [self.journal.term_at(index) for index in range(2, self.journal.last_index + 1)]


def payload(index: int) -> bytes:
    return b"\x01entry %d" % index


def entries_of(first: int, *terms: int) -> tuple[tuple[int, bytes], ...]:
    return tuple((term, payload(first + at)) for at, term in enumerate(terms))


def append(
    term: int, prev_index: int, prev_term: int, entries: tuple[tuple[int, bytes], ...] = (), *, commit: int = 1,
    sequence: int = 1, round_: int = 0,
) -> Append:  # fmt: skip
    return Append(term, sequence, round_, 0, prev_index, prev_term, commit, entries)


def ack(term: int, matched: int, *, sequence: int = 1, round_: int = 0) -> Ack:
    return Ack(term, sequence, round_, 0, matched)


def reject(term: int, matched: int, *, sequence: int, prev: int) -> Reject:
    return Reject(term, sequence, 0, 0, prev, matched)
