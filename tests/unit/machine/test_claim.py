"""CLAIM: the order over queues and types, what bounds a grant, and what a claim does not look at."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.driver import SESSION, Driver, id_of
from tq import limits
from tq.errors import InvalidRequest, SessionLost
from tq.machine import claim as claim_module
from tq.machine import commands as c
from tq.spec import Spec, encode
from tq.store.tables import Table

waiting = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from([0, 100, 150, 255]))


@settings(max_examples=80)
@given(
    st.lists(waiting, max_size=30),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
    st.sets(st.sampled_from("xyz"), min_size=1),
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
)
def test_order_over_queues_and_types(
    tasks: list[tuple[str, str, int]], queues: list[str], types: set[str], claims: list[int]
) -> None:
    d = Driver()
    d.open(types=tuple(sorted(types)), queues=("a",))
    for n, (queue, type_, priority) in enumerate(tasks):
        d.submit(n, queue=queue, type=type_, priority=priority)
    fit = [n for n, (queue, type_, _) in enumerate(tasks) if queue in queues and type_ in types]
    fit.sort(key=lambda n: (-tasks[n][2], queues.index(tasks[n][0]), n))
    for max_n in claims:
        wanted, fit = fit[:max_n], fit[max_n:]
        assert [id for id, _ in d.claim(max_n, tuple(queues))] == [id_of(n) for n in wanted]
    assert d.machine.ready == Counter(
        (d.machine.number_of_queue(tasks[n][0]), d.machine.number_of_type(tasks[n][1]))
        for n in range(len(tasks))
        if d.state(n) == "pending"
    )


def test_a_long_line_beside_another_is_merged_over_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "_CHUNK", 3)
    d = Driver()
    d.open(types=("x", "y"))
    for n in range(40):
        d.submit(n, type="xxy"[n % 3])
    assert [id for id, _ in d.claim(25)] == [id_of(n) for n in range(25)]
    assert [id for id, _ in d.claim(25)] == [id_of(n) for n in range(25, 40)]


def test_a_better_task_that_comes_later_is_first_although_the_head_was_known() -> None:
    d = Driver()
    d.open(types=("x", "y"))
    d.submit(1, 2, type="x", priority=100)
    d.submit(3, 4, type="y", priority=100)
    assert d.claim()[0][0] == id_of(1)
    d.submit(5, type="y", priority=200)
    d.do(c.Cancel([id_of(2)], 0))
    assert [id for id, _ in d.claim(3)] == [id_of(5), id_of(3), id_of(4)]


def test_nothing_granted_writes_nothing() -> None:
    d = Driver()
    d.open()
    d.submit(1, type="other")
    before = d.digest()
    assert d.do(c.Claim(SESSION, 5, [], 10)) == []
    assert d.digest() == before
    d.submit(2)
    assert len(d.do(c.Claim(SESSION, 5, [], 10))) == 1


def test_the_same_number_gets_what_is_still_held_in_the_order_of_the_grant() -> None:
    d = Driver()
    d.open()
    d.submit(3, 1, 2)
    first = d.do(c.Claim(SESSION, 1, [], 3))
    assert d.do(c.Claim(SESSION, 1, [], 3)) == first
    d.restart()
    assert d.do(c.Claim(SESSION, 1, [], 3)) == first
    d.complete(id_of(1), first[1][3])
    assert d.do(c.Claim(SESSION, 1, [], 3)) == [first[0], first[2]]
    assert d.do(c.Claim(SESSION, 0, [], 3)) == []


def test_a_reply_is_bounded_in_bytes_and_has_one_task_at_least() -> None:
    d = Driver()
    d.open()
    size = limits.GRANT_BYTES_MAX * 2 // 5
    for n in range(5):
        d.submit(n, payload=bytes(size))
    assert [len(d.claim(5)) for _ in range(4)] == [2, 2, 1, 0]
    d.submit(9, payload=bytes(limits.PAYLOAD_BYTES_MAX))
    assert len(d.claim(5)) == 1


def test_a_session_holds_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_TASKS_MAX", 3)
    d = Driver()
    d.open()
    d.submit(*range(5))
    grants = d.claim(5)
    assert len(grants) == 3
    assert d.claim(5) == []
    d.complete(*grants[0])
    d.restart()
    assert len(d.claim(5)) == 1


def test_grants_of_an_entry_are_bounded_and_their_fences_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_GRANTS_MAX", 4)
    d = Driver()
    d.open()
    d.submit(*range(6))
    applied = d.apply(c.Claim(SESSION, 1, [], 3), c.Claim(SESSION, 2, [], 3))
    assert [len(answer) for answer in applied.answers] == [3, 1]  # type: ignore[arg-type]
    assert [fence for _, fence, _ in applied.granted] == [d.index * limits.FENCE_ORDINALS + n for n in range(4)]


def test_refusals() -> None:
    d = Driver()
    assert isinstance(d.do(c.Claim(SESSION, 1, [], 1)), SessionLost)
    d.open()
    for max_n in (0, limits.CLAIM_TASKS_MAX + 1):
        assert isinstance(d.do(c.Claim(SESSION, 1, [], max_n)), InvalidRequest)


class _Counting:
    """A transaction that counts the rows it gives."""

    def __init__(self, txn: Any) -> None:
        self._txn = txn
        self.rows = 0

    def scan(self, *args: Any) -> Any:
        found = self._txn.scan(*args)
        self.rows += len(found)
        return found

    def get_many(self, *args: Any) -> Any:
        found = self._txn.get_many(*args)
        self.rows += len(found)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)


def test_a_claim_looks_neither_at_types_it_cannot_run_nor_behind_what_it_takes() -> None:
    d = Driver()
    d.open(types=("x", "y"))
    for type_ in ("x", "y", *(f"other-{n}" for n in range(200))):
        specs = [encode(Spec(f"{type_}-{n:03}".encode().rjust(16), type_, b"")) for n in range(10)]
        d.do(c.Submit(specs))
    counting = d.machine._txn = _Counting(d.txn)  # type: ignore[assignment]
    assert len(d.claim(2)) == 2
    assert counting.rows <= 2 + 2 + 2 + 2 + 2  # heads, lines, headers, specs


def test_timers_begin_and_end_with_the_lease() -> None:
    d = Driver()
    d.open()
    d.submit(1, timeout_ms=1_000, expires_in_ms=500, deadline_ms=9_000)
    assert d.txn.count(Table.TIMERS) == 2
    grant = d.do(c.Claim(SESSION, 1, [], 1))[0]
    assert grant[5:] == [1_000, d.now_ms + 9_000]
    assert {key[0] for key, _ in d.txn.scan(Table.TIMERS, b"\0", None, 9)} == {c.Timer.TIMEOUT, c.Timer.DEADLINE}
    d.complete(id_of(1), grant[3])
    assert d.txn.count(Table.TIMERS) == 0


def test_a_lower_number_gets_nothing() -> None:
    d = Driver()
    d.open()
    d.submit(1, 2)
    d.do(c.Claim(SESSION, 5, [], 1))
    before = d.digest()
    assert d.do(c.Claim(SESSION, 4, [], 1)) == []
    assert d.digest() == before


def test_what_is_completed_makes_room_in_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_TASKS_MAX", 2)
    d = Driver()
    d.open()
    d.submit(*range(6))
    for _ in range(3):
        grants = d.claim(5)
        assert len(grants) == 2
        for grant in grants:
            d.complete(*grant)


def test_a_start_ends_the_expiry() -> None:
    d = Driver()
    d.open()
    d.submit(1, expires_in_ms=500)
    d.claim()
    assert d.show(1)["expires_ms"] is None
