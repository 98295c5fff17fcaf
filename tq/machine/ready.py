"""Which (queue, type) have tasks ready to run, and which of them is first: what a claim has to look at, and nothing else.

The order of the tasks is the table READY. In memory stand the number of tasks of each pair, and, for queues that were
claimed from for several types at once, the *front*: the first task of each type, in order. So a claim costs what it takes, not
what waits, nor how many types wait. All of it follows from the table and is rebuilt with the machine.

A front is kept lazily: what was taken from makes its type unknown, and the next claim that needs the front looks it up.

Rejected: one order per queue over all types (a claim would walk over types it cannot run).
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedList

from tq.machine.counts import Counts
from tq.machine.session import scan_all
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

Pair = tuple[int, int]
Place = bytes  # keys.READY_PLACE: 255 - priority, index, ordinal

FEW = 4  # a session that runs less than a part of the types that wait has its own ones looked up instead


class _Front:
    """Of one queue. ``order``: (place, type) of each type in ``heads``; ``unknown``: types to be looked up."""

    __slots__ = ("heads", "order", "unknown")

    def __init__(self, types: dict[int, None]) -> None:
        self.heads: dict[int, Place] = {}
        self.order: SortedList = SortedList()
        self.unknown: dict[int, None] = dict(types)

    def put(self, type_: int, place: Place) -> None:
        """A task entered at ``place``."""
        if type_ in self.unknown:
            return
        head = self.heads.get(type_)
        if head is None or place < head:
            if head is not None:
                self.order.remove((head, type_))
            self.heads[type_] = place
            self.order.add((place, type_))

    def drop(self, type_: int, has_more: bool) -> None:
        """Tasks of this type left."""
        head = self.heads.pop(type_, None)
        if head is not None:
            self.order.remove((head, type_))
        if has_more:
            self.unknown[type_] = None
        else:
            self.unknown.pop(type_, None)


class Ready:
    def __init__(self, txn: ReadTxn, counts: Counts) -> None:
        self.pairs: dict[Pair, int] = {}
        self.types_by_queue: dict[int, dict[int, None]] = {}
        self._counts = counts
        self._fronts: dict[int, _Front] = {}
        for key, value in scan_all(txn, Table.COUNTS, b"r"):
            _, queue, type_ = keys.COUNT_READY.unpack(key)
            self.pairs[queue, type_] = keys.unpack_u64(value)
            self.types_by_queue.setdefault(queue, {})[type_] = None

    def add(self, pair: Pair, n: int, place: Place) -> None:
        """``n`` tasks entered; ``place``: of the one of them that is first in line."""
        queue, type_ = pair
        known = self.pairs.get(pair, 0)
        self.pairs[pair] = known + n
        if not known:
            self.types_by_queue.setdefault(queue, {})[type_] = None
        front = self._fronts.get(queue)
        if front is not None:
            front.put(type_, place)
        self._counts.add(keys.count_ready(queue, type_), n)

    def remove(self, pair: Pair, n: int) -> None:
        queue, type_ = pair
        left = self.pairs[pair] - n
        assert left >= 0, f"{pair} has fewer tasks ready than were taken"
        if left:
            self.pairs[pair] = left
        else:
            del self.pairs[pair]
            types = self.types_by_queue[queue]
            del types[type_]
            if not types:
                del self.types_by_queue[queue]
        front = self._fronts.get(queue)
        if front is not None:
            if queue in self.types_by_queue:
                front.drop(type_, left > 0)
            else:
                del self._fronts[queue]
        self._counts.add(keys.count_ready(queue, type_), -n)

    def candidates(self, queues: list[int], types: set[int]) -> list[tuple[int, int]]:
        """``(rank, queue)`` of each queue that has tasks of these types."""
        by_queue = self.types_by_queue
        return [
            (rank, queue)
            for rank, queue in enumerate(queues)
            if (here := by_queue.get(queue)) is not None and not _are_disjoint(here, types)
        ]

    def only_type(self, queue: int, types: set[int]) -> int | None:
        """The type, if the queue has tasks of one of these types alone."""
        here = self.types_by_queue[queue]
        few, many = (here, types) if len(here) <= len(types) else (types, here)
        found = None
        for type_ in few:
            if type_ in many:
                if found is not None:
                    return None
                found = type_
        return found

    def in_order(self, txn: ReadTxn, queue: int, types: set[int]) -> Iterator[tuple[Place, int]]:
        """``(place, type)`` of the first task of each of these types that has some. Not to be used across changes."""
        here = self.types_by_queue[queue]
        front = self._fronts.get(queue)
        if front is None:
            front = self._fronts[queue] = _Front(here)
        if len(types) * FEW <= len(here):
            own = [type_ for type_ in types if type_ in here]
            self._look_up(txn, queue, front, [type_ for type_ in own if type_ in front.unknown])
            return iter(sorted((front.heads[type_], type_) for type_ in own))
        self._look_up(txn, queue, front, list(front.unknown))
        return (head for head in front.order if head[1] in types)

    def _look_up(self, txn: ReadTxn, queue: int, front: _Front, types: list[int]) -> None:
        for type_ in types:
            prefix = keys.READY_PAIR.pack(queue, type_)
            first = txn.scan(Table.READY, prefix, keys.after(prefix), 1)
            place = first[0][0][keys.READY_PAIR.size :]
            front.heads[type_] = place
            front.order.add((place, type_))
            del front.unknown[type_]


def _are_disjoint(here: dict[int, None], types: set[int]) -> bool:
    return types.isdisjoint(here) if len(here) <= len(types) else here.keys().isdisjoint(types)
