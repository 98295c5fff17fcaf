"""What was proposed on this node and has not ended: each ends once, whatever happens to the leadership."""

from __future__ import annotations

import enum
from collections import deque

import attrs

from tq import limits
from tq.errors import Backpressure, InvalidRequest
from tq.raft.journal import Journal
from tq.raft.members import is_members


class ProposalEnd(enum.Enum):
    COMMITTED = "committed"
    LOST = "lost"  # not done, and never will be
    UNKNOWN = "unknown"  # this node stopped leading while it was in the log


@attrs.frozen
class Outcome:
    term: int
    index: int
    end: ProposalEnd


class Proposals:
    """
    Attributes:
        waiting: payloads for the next tick, in order.
    """

    def __init__(self, journal: Journal) -> None:
        self.waiting: list[bytes] = []
        self._journal = journal
        self._open: deque[tuple[int, int, int]] = deque()  # term, index, bytes; in the log or waiting
        self._open_bytes = 0
        self._untold: set[tuple[int, int]] = set()  # ends that nobody asks for
        self._outcomes: list[Outcome] = []

    def add(self, term: int, data: bytes, prefix: bytes) -> tuple[int, int]:
        """Returns the (term, index) it will have. Raises Backpressure, InvalidRequest; nothing was taken then."""
        if is_members(prefix + data[:1]):
            raise InvalidRequest.of("entry", data[:8], "must not begin with the byte 0xFF, which marks lists of voters")
        return self._add(term, data, prefix + data)

    def add_members(self, term: int, payload: bytes, *, is_told: bool = True) -> tuple[int, int]:
        """A list of voters, as ``add``. is_told: its end is an outcome, for who has proposed it."""
        return self._add(term, payload, payload, is_told)

    @property
    def is_full(self) -> bool:
        """``add_members`` would be refused."""
        return (
            len(self._open) >= limits.RAFT_PROPOSALS_MAX
            or self._open_bytes + limits.KIB * limits.RAFT_VOTERS_MAX > limits.RAFT_PROPOSALS_BYTES_MAX
        )

    def _add(self, term: int, data: bytes, payload: bytes, is_told: bool = True) -> tuple[int, int]:
        size = len(data)
        if not 1 <= size <= limits.ENTRY_BYTES_MAX:
            raise InvalidRequest.of("entry", f"{size} bytes", f"1 to {limits.ENTRY_BYTES_MAX} bytes")
        if len(self._open) >= limits.RAFT_PROPOSALS_MAX or self._open_bytes + size > limits.RAFT_PROPOSALS_BYTES_MAX:
            raise Backpressure(
                "the log has as many entries in flight as it can hold",
                retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
            )
        self.waiting.append(payload)
        index = self._journal.last_index + len(self.waiting)
        self._open.append((term, index, size))
        if not is_told:
            self._untold.add((term, index))
        self._open_bytes += size
        return term, index

    def take_waiting(self) -> list[bytes]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def end_committed(self, committed_index: int) -> None:
        while self._open and self._open[0][1] <= committed_index:
            term, index, size = self._open.popleft()
            self._open_bytes -= size
            end = ProposalEnd.COMMITTED if self._journal.term_at(index) == term else ProposalEnd.LOST
            self._outcomes.append(Outcome(term, index, end))

    def end_all(self) -> None:
        """Leadership went: what is in the log may yet be committed, what waits is lost."""
        appended_to = self._journal.last_index
        for term, index, _size in self._open:
            kept = index <= appended_to and self._journal.term_at(index) == term
            self._outcomes.append(Outcome(term, index, ProposalEnd.UNKNOWN if kept else ProposalEnd.LOST))
        self._open.clear()
        self._open_bytes = 0
        self.waiting = []

    def take_outcomes(self) -> list[Outcome]:
        outcomes, self._outcomes = self._outcomes, []
        if self._untold:
            outcomes = [outcome for outcome in outcomes if (outcome.term, outcome.index) not in self._untold]
            self._untold &= {(term, index) for term, index, _size in self._open}
        return outcomes
