"""What handlers say while they run: how far they are, and what the next attempt shall have. On its way to the broker.

Theory. A *word* of progress may be lost, so only the last one of a task counts: handlers leave it in their context, and
every PROGRESS_MS all that changed leave in one message, which is not sent again. (A new connection may be to a new leader, who knows
none: then all of them are told anew.) A *checkpoint* is a promise: who makes one is told when it is durable. It is sent
again after a lost connection, under its number, until it is answered or its lease is lost; the fence and the number make that safe.

Handlers run on other threads, so ``tell`` and ``save`` may be called from any: they put something on a list and wake
the loop, once for all that comes before it looks. All else is called on the loop's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from tq import limits
from tq.errors import StaleFence, TqError
from tq.protocol import messages as m
from tq.worker.context import Context, Saved

IN_FLIGHT_MAX: Final = 4
BYTES_MAX: Final = limits.BATCH_BYTES_MAX - limits.KIB * 64


@attrs.frozen(eq=False)
class Save:
    """One checkpoint that is not answered. ``done`` is told, once."""

    context: Context
    number: int
    data: bytes | None
    done: Saved


class Asides:
    """``wake``: have the loop take a turn; called on any thread."""

    def __init__(self) -> None:
        self.wake: Callable[[], object] = lambda: None
        self.is_busy = False  # there may be something to look at, or to send
        self._is_woken = False
        self._told: deque[Context] = deque()
        self._told_ms: int | None = None  # when words left last
        self._new: deque[Save] = deque()
        self._waiting: list[Save] = []
        self._in_flight: dict[int, list[Save]] = {}  # by rid

    # ---- any thread --------------------------------------------------------------------------------

    def tell(self, context: Context) -> None:
        """It has a new word."""
        aside = context.aside
        if not aside.is_told:
            aside.is_told = True
            self._told.append(context)
            self._wake()

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None:
        """Have it kept. ``done``: called on the loop's thread, with the error or None."""
        self._new.append(Save(context, number, data, done))
        self._wake()

    def _wake(self) -> None:
        self.is_busy = True
        if not self._is_woken:
            self._is_woken = True
            self.wake()

    # ---- the loop's thread -------------------------------------------------------------------------

    def __contains__(self, rid: int) -> bool:
        return rid in self._in_flight

    @property
    def has_in_flight(self) -> bool:
        return bool(self._in_flight)

    def look(self) -> None:
        """At each turn in which it is busy: take in what is new, and let go of what is lost."""
        self._is_woken = self.is_busy = False  # before looking: who puts after the look wakes us again
        while self._new:
            self._waiting.append(self._new.popleft())
        lost = [save for save in self._waiting if save.context.lost]
        if lost:
            self._waiting = [save for save in self._waiting if not save.context.lost]
            for save in lost:
                save.done(_stale(save.context, "its lease was lost"))
        if self._waiting or self._told:
            self.is_busy = True

    def wake_ms(self, now_ms: int) -> int | None:
        """When words are to leave that may not leave yet; None: there are none."""
        if not self._told:
            return None
        return now_ms if self._told_ms is None else max(now_ms, self._told_ms + limits.PROGRESS_MS)

    def take(self, next_rid: Callable[[], int], session: bytes, now_ms: int) -> list[m.Message]:
        """What may leave now."""
        out: list[m.Message] = []
        while self._waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            count = _fitting(self._waiting)
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            rid = next_rid()
            self._in_flight[rid] = batch
            items = [[save.context.id_bytes, save.context.fence, save.number, save.data] for save in batch]
            out.append(m.Checkpoint(rid, session, items))
        if self._told and (self._told_ms is None or now_ms >= self._told_ms + limits.PROGRESS_MS):
            self._told_ms = now_ms
            words = self._words()
            if words:
                out.append(m.Progress(next_rid(), session, words))
        return out

    def _words(self) -> list[list[Any]]:
        words: list[list[Any]] = []
        while self._told and len(words) < limits.SESSION_TASKS_MAX:
            context = self._told.popleft()
            context.aside.is_told = False  # before looking, as above
            if context.word is not None and not context.lost:
                words.append([context.id_bytes, context.fence, *context.word])
        return words

    def connected(self, contexts: Iterable[Context]) -> None:
        """A broker that may not know what was told: of all that run, tell it again."""
        self._told_ms = None
        self.is_busy = True
        for context in contexts:
            if context.word is not None and not context.aside.is_told:
                context.aside.is_told = True
                self._told.append(context)

    def disconnected(self) -> None:
        """What was under way is sent again."""
        self.is_busy = True
        self._waiting[:0] = [save for saves in self._in_flight.values() for save in saves]
        self._in_flight.clear()

    def again(self, rid: int) -> None:
        """It was refused for now."""
        self.is_busy = True
        self._waiting[:0] = self._in_flight.pop(rid)

    def refused(self, rid: int, error: TqError) -> None:
        for save in self._in_flight.pop(rid):
            save.done(error)

    def answered(self, rid: int, items: list[Any]) -> None:
        self.is_busy = True  # what waited for room may leave
        for save, item in zip(self._in_flight.pop(rid, ()), items, strict=False):
            save.done(_stale(save.context, "the task went on without it") if item.__class__ is list else None)


def _stale(context: Context, why: str) -> StaleFence:
    return StaleFence(
        f"the checkpoint of task {context.id} was not kept: {why}; fence {context.fence} is no longer current",
        detail={"id": context.id, "fence": context.fence},
    )


def _fitting(saves: list[Save]) -> int:
    """How many of the first ones go into one message; at least one."""
    size = 0
    for place, save in enumerate(saves[: limits.SESSION_TASKS_MAX]):
        size += len(save.data or b"")
        if size > BYTES_MAX and place:
            return place
    return min(len(saves), limits.SESSION_TASKS_MAX)
