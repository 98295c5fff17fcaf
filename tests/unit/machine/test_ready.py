"""The fronts of queues: always the first task of each type, whatever was added and taken, and looked up only where needed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.driver import Driver
from tq.machine.counts import Counts
from tq.machine.ready import Ready
from tq.store import keys
from tq.store.tables import Table

steps = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 5), st.sampled_from([0, 100, 255]), st.booleans(), st.sets(st.integers(0, 5))
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(steps)
def test_fronts_follow_what_is_added_and_taken(script: list[tuple[int, int, int, bool, set[int]]]) -> None:
    txn = Driver().txn
    ready = Ready(txn, Counts(txn))
    there: dict[tuple[int, int], list[bytes]] = {}
    for n, (queue, type_, priority, adds, asked) in enumerate(script):
        line = there.setdefault((queue, type_), [])
        if adds:
            place = keys.READY_PLACE.pack(255 - priority, n, 0)
            txn.put(Table.READY, keys.READY_PAIR.pack(queue, type_) + place, b"id")
            ready.add((queue, type_), 1, place)
            line.append(place)
            line.sort()
        elif line:
            place = line.pop(priority % len(line))  # also from the middle, as a cancel does
            txn.delete(Table.READY, keys.READY_PAIR.pack(queue, type_) + place)
            ready.remove((queue, type_), 1)
        have = {t: places[0] for (q, t), places in there.items() if q == queue and places}
        assert [rank for rank, _ in ready.candidates([queue], asked)] == ([0] if have.keys() & asked else [])
        if have:
            assert list(ready.in_order(txn, queue, asked)) == sorted((have[t], t) for t in have.keys() & asked)
            only = have.keys() & asked
            assert ready.only_type(queue, asked) == (next(iter(only)) if len(only) == 1 else None)
    assert ready.pairs == {pair: len(places) for pair, places in there.items() if places}


def test_taking_more_than_there_is_stops_the_node() -> None:
    txn = Driver().txn
    ready = Ready(txn, Counts(txn))
    ready.add((0, 0), 1, keys.READY_PLACE.pack(0, 1, 0))
    with pytest.raises(AssertionError, match="fewer tasks ready"):
        ready.remove((0, 0), 2)


def test_a_count_below_zero_stops_the_node() -> None:
    with pytest.raises(AssertionError, match="below zero"):
        Counts(Driver().txn).add(keys.COUNT_FINISHED, -1)
