"""What each node says of itself, asked of all when somebody wants to see the cluster.

A node that does not answer in time is shown as such: a status page that waits for a dead node is no help. Answers are
never kept; questions are numbered, so a late answer finds nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from tq import cbor
from tq.broker.deadlines import Deadline, Deadlines
from tq.errors import InternalError

ASK: Final = 0  # [ASK, number]
TELL: Final = 1  # [TELL, number, status]
WAIT_MS: Final = 1_000

Status = dict[str, Any]
Done = Callable[[dict[str, Status | None]], None]
"""Called once, with what each other node said; None for one that did not."""


@attrs.define(eq=False)
class Question:
    done: Done
    answers: dict[str, Status | None]
    missing: set[str]
    deadline: Deadline | None = None


class Gather:
    def __init__(
        self,
        others: Sequence[str],
        send: Callable[[str, bytes], bool],
        own: Callable[[], Status],
        deadlines: Deadlines,
        heard: Callable[[str, Status], None] = lambda _peer, _status: None,
    ) -> None:
        """send: (peer, message), False if it cannot be. own: what this node says of itself. heard: called with each
        answer when it comes."""
        self._others = tuple(others)
        self._send = send
        self._own = own
        self._deadlines = deadlines
        self._heard = heard
        self._count = 0
        self._questions: dict[int, Question] = {}

    def ask(self, done: Done) -> None:
        self._count += 1
        number = self._count
        message = cbor.dumps([ASK, number])
        asked = {peer for peer in self._others if self._send(peer, message)}
        question = Question(done, dict.fromkeys(self._others), asked)
        if not asked:
            done(question.answers)
            return
        self._questions[number] = question
        question.deadline = self._deadlines.after(WAIT_MS, lambda: self._end(number))

    def received(self, peer: str, data: bytes) -> None:
        match cbor.loads(data):
            case [int(kind), int(number)] if kind == ASK:
                self._send(peer, cbor.dumps([TELL, number, self._own()]))
            case [int(kind), int(number), dict(status)] if kind == TELL:
                self._told(peer, number, status)
            case other:
                raise InternalError(f"{peer} tells {str(other)[:80]!r}")

    def _told(self, peer: str, number: int, status: Status) -> None:
        question = self._questions.get(number)
        if question is None or peer not in question.missing:
            return
        self._heard(peer, status)
        question.answers[peer] = status
        question.missing.discard(peer)
        if not question.missing:
            self._end(number)

    def _end(self, number: int) -> None:
        question = self._questions.pop(number)
        if question.deadline is not None:
            question.deadline.cancel()
        question.done(question.answers)
