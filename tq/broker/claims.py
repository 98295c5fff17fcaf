"""Claims: fed when something is ready, parked when nothing is.

Rules
- A claim is proposed only when this leader sees a ready task for it, or one that is submitted in the same entry, or when it
  repeats the number of the session's last grant (its reply may be lost); what is granted is decided by the log.
- Submissions take parked claims along into their entry, behind all of them: the task is assigned when it is accepted, and an
  entry and a sync are saved. What they bring is a guess (the first task of a batch speaks for all; one may be there
  already): a claim that finds nothing is back at the head of the line, tasks that none took wake others.
- A paused queue is to a claim as an empty one: it is not proposed for, not woken for, and waits on.
- Tasks that become ready wake parked claims in the order in which those were parked, and exactly as many as
  the tasks can feed.
- A parked claim dies with its connection and at its time. A session has one parked claim; a second one (after a
  reconnect) takes its place, and the first is answered with nothing.
- A claim that was beaten to its tasks goes back to the head of the line; its wait is not renewed.
- A claim that is given up is answered with nothing. What the log grants to it nevertheless goes back at once.
- What a woken claim leaves (it was refused, its session ended or holds all it may, one reply holds no more, or it
  took others of higher priority) wakes the next ones: no task is ready while a claim that could take it sleeps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs

from tq import limits
from tq.broker.connection import Connection
from tq.broker.deadlines import Deadline, Deadlines
from tq.broker.histogram import Histogram
from tq.errors import TqError
from tq.machine.commands import Claim
from tq.world import Clock


@attrs.define(eq=False)
class Waiting:
    """One claim that is not answered yet."""

    connection: Connection
    rid: int
    claim: Claim
    queues: tuple[str, ...]
    types: frozenset[str]
    until_ms: int
    began_ms: int
    was_parked: bool = False
    is_given_up: bool = False
    deadline: Deadline | None = None


class ReadyView(Protocol):
    """What the claims see of the machine (``tq.machine.apply.Machine``)."""

    @property
    def ready(self) -> Mapping[tuple[int, int], int]: ...
    def has_ready(self, queues: Iterable[str], types: Iterable[str]) -> bool: ...
    def is_paused(self, queue: int) -> bool: ...
    def number_of_queue(self, name: str) -> int | None: ...
    def queue_name(self, number: int) -> str: ...
    def type_name(self, number: int) -> str: ...


Propose = Callable[[Claim, Callable[[object, int], None]], None]


class Claims:
    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        machine: Callable[[], ReadyView],
        last_seq: Callable[[bytes], int],
        propose: Propose,
        applied_index: Callable[[], int],
        release: Callable[[bytes, list[Any]], None],
    ) -> None:
        """machine: the present one. last_seq: the number of a session's last claim that granted something. release: gives
        back grants that nobody takes."""
        self._clock = clock
        self._deadlines = deadlines
        self._machine = machine
        self._last_seq = last_seq
        self._propose = propose
        self._applied_index = applied_index
        self._release = release
        self.waited = Histogram()  # of claims that were granted something
        self._parked: dict[bytes, Waiting] = {}
        self._by_queue: dict[str, OrderedDict[bytes, Waiting]] = {}
        self._proposed: dict[Waiting, None] = {}
        self._expected: dict[tuple[str, str], int] = {}  # (queue, type): tasks that wait to be proposed
        self._is_owed = False  # a claim came back: there may be tasks that it was woken for and did not take
        self._is_stopped = False

    def claim(
        self,
        connection: Connection,
        rid: int,
        claim: Claim,
        queues: tuple[str, ...],
        types: Iterable[str],
        wait_ms: int,
    ) -> None:
        """Answer a claim now, or park it for ``wait_ms``."""
        queues = tuple(dict.fromkeys(queues))
        now_ms = self._clock.monotonic_ms()
        waiting = Waiting(connection, rid, claim, queues, frozenset(types), now_ms + wait_ms, now_ms)
        former = self._parked.get(claim.session)
        if former is not None:
            self._unpark(former)
            self._answer(former, [], self._applied_index())
        if self._machine().has_ready(queues, waiting.types) or claim.seq <= self._last_seq(claim.session):
            self._feed(waiting)
        elif wait_ms <= 0:
            self._answer(waiting, [], self._applied_index())
        else:
            self._park(waiting, wait_ms)

    def expect(self, queue: str, type_: str, count: int) -> None:
        """Tasks that are in the proposer's queue, and ready once they are accepted."""
        if queue in self._by_queue:
            self._expected[queue, type_] = self._expected.get((queue, type_), 0) + count

    def feed_expected(self, *, has_room: bool) -> None:
        """The next entry is about to be made: wake claims for what it brings. has_room: the proposer takes them; if not, they sleep
        until the tasks are ready."""
        if not self._expected:
            return
        expected, self._expected = self._expected, {}
        if not has_room:
            return
        machine = self._machine()
        for (queue, type_), count in expected.items():
            number = machine.number_of_queue(queue)
            if number is None or not machine.is_paused(number):
                self._wake(queue, type_, count)

    def became_ready(self, ready: Mapping[tuple[int, int], int]) -> None:
        """``{(queue, type): tasks}`` that could not be claimed before the last entry; those that it granted do not count."""
        machine = self._machine()
        for pair, count in ready.items():
            queue, type_ = pair
            self._wake(machine.queue_name(queue), machine.type_name(type_), min(count, machine.ready.get(pair, 0)))

    def feed_rest(self) -> None:
        """After each entry: wake claims for what those that came back did not take, less what others are on the way for."""
        is_owed, self._is_owed = self._is_owed, False
        if not is_owed or not self._parked:
            return
        machine = self._machine()
        for (queue_number, type_number), count in list(machine.ready.items()):
            if machine.is_paused(queue_number):
                continue
            queue = machine.queue_name(queue_number)
            if queue in self._by_queue:
                type_ = machine.type_name(type_number)
                for waiting in self._proposed:
                    if type_ in waiting.types and queue in waiting.queues:
                        count -= waiting.claim.max_n
                self._wake(queue, type_, count)

    def stop(self) -> None:
        """Answer all parked claims with nothing granted, and park none from now on."""
        self._is_stopped = True
        self.clear(None)

    def clear(self, error: TqError | None) -> None:
        """Answer all parked claims: with the error, or with nothing granted."""
        self._expected.clear()
        for waiting in list(self._parked.values()):
            self._unpark(waiting)
            if error is None:
                self._answer(waiting, [], self._applied_index())
            else:
                waiting.connection.send_error(waiting.rid, error)

    def give_up(self, connection: Connection, rid: int, session: bytes) -> bool:
        """Nobody waits for its answer any more. False: it was answered before."""
        parked = self._parked.get(session)
        for waiting in (parked, *self._proposed):
            if waiting is not None and waiting.rid == rid and waiting.connection is connection:
                waiting.is_given_up = True
                self._unpark(waiting)
                self._answer(waiting, [], self._applied_index())
                return True
        return False

    def session_ended(self, session: bytes, error: TqError) -> None:
        waiting = self._parked.get(session)
        if waiting is not None:
            self._unpark(waiting)
            waiting.connection.send_error(waiting.rid, error)

    def repeats(self, session: bytes) -> bool:
        """Whether the session's last grant is asked for again, and on its way over another connection."""
        seq = self._last_seq(session)
        return any(
            waiting.claim.session == session
            and waiting.claim.seq == seq
            and not waiting.is_given_up
            and not waiting.connection.is_closed
            for waiting in self._proposed
        )

    def __len__(self) -> int:
        return len(self._parked)

    # ---- one claim ---------------------------------------------------------------------------------

    def _wake(self, queue: str, type_: str, count: int) -> None:
        """Feed the first parked claims for ``count`` tasks."""
        line = self._by_queue.get(queue)
        if not line or count <= 0:
            return
        for waiting in [waiting for waiting in line.values() if type_ in waiting.types]:
            if count <= 0:
                break
            count -= waiting.claim.max_n
            self._unpark(waiting)
            self._feed(waiting)

    def _feed(self, waiting: Waiting) -> None:
        self._proposed[waiting] = None
        try:
            self._propose(waiting.claim, lambda answer, index: self._fed(waiting, answer, index))
        except TqError as error:  # as many commands as the broker holds: the caller may be the log itself
            del self._proposed[waiting]
            waiting.connection.send_error(waiting.rid, error)

    def _fed(self, waiting: Waiting, answer: object, index: int) -> None:
        del self._proposed[waiting]
        self._is_owed = True
        if waiting.is_given_up:  # and answered
            if isinstance(answer, list) and answer:
                self._release(waiting.claim.session, answer)
            return
        if isinstance(answer, TqError):
            waiting.connection.send_error(waiting.rid, answer)
            return
        assert isinstance(answer, list)
        left_ms = waiting.until_ms - self._clock.monotonic_ms()
        if (
            answer
            or self._is_stopped
            or left_ms <= 0
            or waiting.connection.is_closed
            or waiting.claim.session in self._parked
            # Ready tasks, and yet nothing: the session holds all it may, or the number of the claim is an old one.
            # To ask again would change nothing; here the worker decides.
            or self._machine().has_ready(waiting.queues, waiting.types)
        ):
            self._answer(waiting, answer, index)
        else:
            self._park(waiting, left_ms)

    def _park(self, waiting: Waiting, left_ms: int) -> None:
        session = waiting.claim.session
        self._parked[session] = waiting
        for queue in waiting.queues:
            line = self._by_queue.setdefault(queue, OrderedDict())
            line[session] = waiting
            if waiting.was_parked:
                line.move_to_end(session, last=False)
        waiting.was_parked = True
        waiting.deadline = self._deadlines.after(left_ms, lambda: self._timed_out(waiting))
        waiting.connection.on_close[waiting] = lambda: self._unpark(waiting)

    def _unpark(self, waiting: Waiting) -> None:
        session = waiting.claim.session
        if self._parked.get(session) is not waiting:
            return
        del self._parked[session]
        waiting.connection.on_close.pop(waiting, None)
        for queue in waiting.queues:
            here = self._by_queue[queue]
            del here[session]
            if not here:
                del self._by_queue[queue]
        if waiting.deadline is not None:
            waiting.deadline.cancel()

    def _timed_out(self, waiting: Waiting) -> None:
        self._unpark(waiting)
        self._answer(waiting, [], self._applied_index())

    def _answer(self, waiting: Waiting, grants: list[object], index: int) -> None:
        if grants:
            self.waited.observe((self._clock.monotonic_ms() - waiting.began_ms) / 1000)
        waiting.connection.send_grants(waiting.rid, index, waiting.claim.session, grants)


assert limits.SESSION_CLAIMS_PARKED_MAX == 1  # what `_parked` is keyed by
