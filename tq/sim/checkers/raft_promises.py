"""Each proposal ends once and as it was said; each read sees all that was committed before it came."""

from __future__ import annotations

from tq.raft.guard import Outcome, ProposalEnd, ReadEnd
from tq.raft.node import Entry
from tq.sim.checkers.breach import Breach

Proposal = tuple[str, int, int]  # node and life, term, index


class RaftPromises:
    """
    Attributes:
        ends: how many proposals ended in which way.
        reads_answered: how many reads were answered.
    """

    def __init__(self) -> None:
        self._open: dict[Proposal, bytes] = {}
        self._ended: list[tuple[int, int, bytes, ProposalEnd]] = []
        self._reads: dict[tuple[str, int], int] = {}
        self.ends = dict.fromkeys(ProposalEnd, 0)
        self.reads_answered = 0

    def proposed(self, life: str, term: int, index: int, data: bytes) -> None:
        self._open[(life, term, index)] = data

    def ended(self, life: str, outcome: Outcome) -> None:
        data = self._open.pop((life, outcome.term, outcome.index), None)
        if data is None:
            raise Breach(f"{life}: {outcome} ends no proposal, or ends it twice")
        self.ends[outcome.end] += 1
        self._ended.append((outcome.term, outcome.index, data, outcome.end))

    def read_began(self, life: str, ticket: int, committed_index: int) -> None:
        """``committed_index``: the highest that anybody handed out so far."""
        self._reads[(life, ticket)] = committed_index

    def read_ended(self, life: str, end: ReadEnd) -> None:
        committed_index = self._reads.pop((life, end.ticket))
        if end.index is None:
            return
        self.reads_answered += 1
        if end.index < committed_index:
            raise Breach(f"{life}: a read is answered at {end.index}, but {committed_index} was committed when it came")

    def died(self, life: str) -> None:
        """What it had not answered nobody will."""
        self._open = {key: data for key, data in self._open.items() if key[0] != life}
        self._reads = {key: index for key, index in self._reads.items() if key[0] != life}

    def check(self, committed: dict[int, Entry], waiting: set[str]) -> None:
        """At the end. ``waiting``: lives that still lead, whose proposals and reads may be open."""
        for term, index, data, end in self._ended:
            entry = committed.get(index)
            is_there = entry is not None and (entry.term, entry.data) == (term, data)
            if end is ProposalEnd.COMMITTED and not is_there:
                raise Breach(f"{data!r} was committed at {index} in term {term}, but there stands {entry}")
            if end is ProposalEnd.LOST and is_there:
                raise Breach(f"{data!r} was called lost, but it is committed at {index}")
        hanging = [key for key in self._open if key[0] not in waiting]
        hanging_reads = [key for key in self._reads if key[0] not in waiting]
        if hanging or hanging_reads:
            raise Breach(f"without an end: proposals {hanging}, reads {hanging_reads}")
