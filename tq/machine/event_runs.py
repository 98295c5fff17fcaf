"""What happened in one entry of the log, in order.

Most entries do one thing to many tasks, and mostly nobody listens: so alike events that follow each other are kept as one
*run*, and become rows when somebody looks at them one at a time. (A row for each took a twentieth of a broker's time.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

Row = tuple[int, bytes, int, int, int, object]
"""Kind, id, queue number, type number, fence, extra: see ``tq.machine.answers.Applied``."""


class Run(NamedTuple):
    kind: int
    queue: int
    type: int
    extra: object
    ids: Sequence[bytes]
    fences: Sequence[int] | None  # None: 0 each


class EventRuns:
    """A sequence of rows, by runs."""

    __slots__ = ("runs",)

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def add(self, kind: int, id: bytes, queue: int, type_: int, fence: int, extra: object = None) -> None:
        """One event."""
        self.runs.append(Run(kind, queue, type_, extra, (id,), (fence,)))

    def add_many(self, kind: int, ids: Sequence[bytes], queue: int, type_: int) -> None:
        """Events alike, without fence and extra."""
        self.runs.append(Run(kind, queue, type_, None, ids, None))

    def begin(self, kind: int, queue: int, type_: int) -> tuple[list[bytes], list[int]]:
        """A run without extra, whose ids and fences the caller appends to both lists, until the next event of another kind."""
        ids: list[bytes] = []
        fences: list[int] = []
        self.runs.append(Run(kind, queue, type_, None, ids, fences))
        return ids, fences

    def __eq__(self, other: object) -> bool:
        """The same rows, however they were put in."""
        return isinstance(other, EventRuns) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"EventRuns({list(self)})"

    def __len__(self) -> int:
        return sum([len(run.ids) for run in self.runs])

    def __iter__(self) -> Iterator[Row]:
        for kind, queue, type_, extra, ids, fences in self.runs:
            for id, fence in zip(ids, repeat(0) if fences is None else fences):  # noqa: B905  # begun together
                yield kind, id, queue, type_, fence, extra

    def counts(self) -> dict[tuple[int, int], int]:
        """How many there are, by kind and queue."""
        counts: dict[tuple[int, int], int] = {}
        for kind, queue, _type, _extra, ids, _fences in self.runs:
            counts[kind, queue] = counts.get((kind, queue), 0) + len(ids)
        return counts
