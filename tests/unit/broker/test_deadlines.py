from __future__ import annotations

import pytest

from tq.broker.deadlines import Deadlines
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_what_is_due_is_called_in_its_order(clock):
    deadlines = Deadlines(clock)
    called: list[str] = []
    deadlines.after(300, lambda: called.append("late"))
    deadlines.after(100, lambda: called.append("first"))
    deadlines.after(100, lambda: called.append("second"))
    deadlines.run()
    assert called == []
    assert deadlines.wait_ms() == 100
    clock.advance_ms(100)
    deadlines.run()
    assert called == ["first", "second"]
    assert deadlines.wait_ms() == 200
    clock.advance_ms(1_000)
    deadlines.run()
    deadlines.run()
    assert called == ["first", "second", "late"]
    assert deadlines.wait_ms() is None


def test_a_cancelled_one_is_not_called(clock):
    deadlines = Deadlines(clock)
    called: list[int] = []
    first = deadlines.after(10, lambda: called.append(1))
    second = deadlines.after(20, lambda: called.append(2))
    first.cancel()
    assert deadlines.wait_ms() == 20
    second.cancel()
    first.cancel()
    clock.advance_ms(50)
    deadlines.run()
    assert called == []
    assert deadlines.wait_ms() is None


def test_a_call_may_set_and_cancel_others(clock):
    deadlines = Deadlines(clock)
    called: list[str] = []
    other = deadlines.after(10, lambda: called.append("other"))

    def call() -> None:
        called.append("call")
        other.cancel()
        deadlines.after(0, lambda: called.append("now"))
        deadlines.after(5, lambda: called.append("later"))

    deadlines.after(5, call)
    clock.advance_ms(10)
    deadlines.run()
    assert called == ["call", "now"]
    clock.advance_ms(5)
    deadlines.run()
    assert called == ["call", "now", "later"]


def test_an_earlier_one_is_told(clock):
    told: list[int | None] = []
    deadlines = Deadlines(clock, lambda: told.append(1))
    deadlines.after(100, lambda: None)
    deadlines.after(200, lambda: None)
    assert len(told) == 1
    deadlines.after(50, lambda: None)
    assert len(told) == 2


def test_cancelled_ones_do_not_pile_up(clock):
    """Claims are parked for 30 s and fed within milliseconds, thousands a second."""
    deadlines = Deadlines(clock)
    deadlines.after(1, lambda: None)  # an early one that stays, so that the others are not at the head
    for _ in range(50_000):
        deadlines.after(30_000, lambda: None).cancel()
    assert len(deadlines) < 10_000


@pytest.mark.parametrize("seed", range(10))
def test_each_is_called_once_and_not_early(clock, seed):
    random = SeededRandom(seed)
    deadlines = Deadlines(clock)
    due: dict[int, int] = {}
    handles = {}
    called: list[int] = []
    for number in range(400):
        wait_ms = random.below(1_000)
        due[number] = clock.monotonic_ms() + wait_ms
        handles[number] = deadlines.after(wait_ms, lambda number=number: called.append(number))
        if random.below(3) == 0:
            victim = random.below(number + 1)
            if victim not in called:
                handles[victim].cancel()
                due.pop(victim, None)
        clock.advance_ms(random.below(20))
        deadlines.run()
        late = [n for n, at in due.items() if at <= clock.monotonic_ms() and n not in called]
        assert not late, f"seed {seed}"
    clock.advance_ms(2_000)
    deadlines.run()
    assert sorted(called) == sorted(set(called)), f"seed {seed}"
    assert set(due) <= set(called), f"seed {seed}"
