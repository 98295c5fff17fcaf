"""Which (queue, type) have tasks ready to run, and how many: what a claim has to look at, and nothing else.

The order of the tasks is the table READY. In memory stand only the number of tasks of each pair and, for pairs that
a claim over several compared, the place of the first one; both follow from the table and are rebuilt with the machine.
"""

from __future__ import annotations

from tq.machine.counts import Counts
from tq.machine.session import scan_all
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

Pair = tuple[int, int]


class Ready:
    def __init__(self, txn: ReadTxn, counts: Counts) -> None:
        self.pairs: dict[Pair, int] = {}
        self.types_by_queue: dict[int, dict[int, None]] = {}
        self._counts = counts
        self._heads: dict[Pair, bytes] = {}
        for key, value in scan_all(txn, Table.COUNTS, b"r"):
            _, queue, type_ = keys.COUNT_READY.unpack(key)
            self.pairs[queue, type_] = keys.unpack_u64(value)
            self.types_by_queue.setdefault(queue, {})[type_] = None

    def add(self, pair: Pair, n: int, place: bytes) -> None:
        """``n`` tasks entered; ``place``: of the one that is first in line (``keys.READY_PLACE``)."""
        known = self.pairs.get(pair, 0)
        self.pairs[pair] = known + n
        if not known:
            self.types_by_queue.setdefault(pair[0], {})[pair[1]] = None
        else:
            head = self._heads.get(pair)
            if head is not None and place < head:
                self._heads[pair] = place
        self._counts.add(keys.COUNT_READY.pack(b"r", *pair), n)

    def remove(self, pair: Pair, n: int) -> None:
        left = self.pairs[pair] - n
        assert left >= 0, f"{pair} has fewer tasks ready than were taken"
        if left:
            self.pairs[pair] = left
        else:
            del self.pairs[pair]
            types = self.types_by_queue[pair[0]]
            del types[pair[1]]
            if not types:
                del self.types_by_queue[pair[0]]
        self._heads.pop(pair, None)
        self._counts.add(keys.COUNT_READY.pack(b"r", *pair), -n)

    def candidates(self, queues: list[int], types: set[int]) -> list[tuple[int, Pair]]:
        """``(rank of the queue, pair)`` of each pair that has tasks, of these queues and types."""
        found: list[tuple[int, Pair]] = []
        for rank, queue in enumerate(queues):
            here = self.types_by_queue.get(queue)
            if here is None:
                continue
            if len(here) <= len(types):
                found += [(rank, (queue, type_)) for type_ in here if type_ in types]
            else:
                found += [(rank, (queue, type_)) for type_ in types if type_ in here]
        return found

    def head(self, txn: ReadTxn, pair: Pair) -> bytes:
        """The place of the first task of a pair that has some."""
        known = self._heads.get(pair)
        if known is None:
            prefix = keys.READY_PAIR.pack(*pair)
            first = txn.scan(Table.READY, prefix, keys.after(prefix), 1)
            known = self._heads[pair] = first[0][0][keys.READY_PAIR.size :]
        return known
