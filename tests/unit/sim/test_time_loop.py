"""Time jumps to what is due, is never late for it, and stands still while it is done."""

from __future__ import annotations

import pytest

from tq.sim.checkers.breach import Breach
from tq.sim.time_loop import IDLE_MS, TimeLoop


class Alarms(TimeLoop):
    """Does what is due, and notes when."""

    def __init__(self, *due_ms: int) -> None:
        super().__init__()
        self.due_ms = list(due_ms)
        self.done: list[tuple[int, int]] = []  # due, done
        self.passed: list[int] = []

    def step(self) -> None:
        for due_ms in [due_ms for due_ms in self.due_ms if due_ms <= self.now_ms]:
            self.due_ms.remove(due_ms)
            self.done.append((due_ms, self.now_ms))

    def _due_ms(self) -> int | None:
        return min(self.due_ms, default=None)

    def _pass_time(self, for_ms: int) -> None:
        self.passed.append(for_ms)


def test_time_jumps_to_what_is_due():
    loop = Alarms(7, 3_000, 0)
    loop.run(5_000)
    assert loop.done == [(0, 0), (7, 7), (3_000, 3_000)]
    assert loop.now_ms == sum(loop.passed) == 5_000
    assert loop.passed[:2] == [7, 2_993]


def test_it_does_not_go_beyond_the_end():
    loop = Alarms(100)
    loop.run(99)
    assert (loop.now_ms, loop.done) == (99, [])
    loop.run(1)
    assert loop.done == [(100, 100)]


def test_what_stays_due_does_not_stop_time():
    class Stuck(Alarms):
        def step(self) -> None:
            self.done.append((0, self.now_ms))

    loop = Stuck(0)
    loop.run(3)
    assert loop.done == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_where_nothing_happens_time_passes():
    loop = Alarms()
    loop.run(IDLE_MS * 2)
    assert loop.passed == [IDLE_MS, IDLE_MS]


def test_until_something_is_true():
    loop = Alarms(40, 50)
    assert loop.run_until(lambda: len(loop.done) == 1, 100, "the first") == 40
    assert loop.run_until(lambda: True, 0, "nothing") == 0
    with pytest.raises(Breach, match="not within 100 ms: the third"):
        loop.run_until(lambda: len(loop.done) == 3, 100, "the third")
