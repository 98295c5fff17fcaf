"""One wrong clock among three or more is found out by itself; of two that differ nobody knows which it is."""

from __future__ import annotations

import pytest

from tq import limits
from tq.broker.clock_watch import LATE_MS, LOOK_MS, ClockState, ClockWatch
from tq.sim.clock import VirtualClock

WARN_MS = limits.CLOCK_OFFSET_WARN_MS
FAR_MS = limits.CLOCK_OFFSET_LEAD_MS_MAX


class Rig:
    """n1, whose others answer at once with their own clocks."""

    def __init__(self, **others_ms: int | None) -> None:
        """others_ms: by node, its clock less true time; None: it is down."""
        self.clock = VirtualClock()
        self.others_ms = others_ms
        self.answer_ms = 0
        self.asked = 0
        self.changes: list[tuple[ClockState, ClockState]] = []
        self.jumped_ms = 0
        self.watch = ClockWatch(
            self.clock, list(others_ms), self.ask, lambda before: self.changes.append((before, self.watch.state))
        )

    def ask(self) -> None:
        self.asked += 1
        walls_ms = {
            peer: self.clock.wall_ms() - self.jumped_ms + offset_ms
            for peer, offset_ms in self.others_ms.items()
            if offset_ms is not None
        }
        self.clock.advance_ms(self.answer_ms)
        for peer, wall_ms in walls_ms.items():
            self.watch.heard(peer, wall_ms)
        self.watch.judge()

    def look(self) -> ClockState:
        self.clock.advance_ms(LOOK_MS)
        self.watch.run_once()
        return self.watch.state

    def jump(self, by_ms: int) -> None:
        self.clock.jump_wall_ms(by_ms)
        self.jumped_ms += by_ms


def test_it_asks_every_few_seconds() -> None:
    rig = Rig(n2=0, n3=0)
    rig.watch.run_once()
    rig.watch.run_once()
    assert rig.asked == 1
    rig.clock.advance_ms(LOOK_MS - 1)
    rig.watch.run_once()
    assert rig.asked == 1
    assert rig.look() is ClockState.OK
    assert rig.asked == 2


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("off_ms", "state"),
    [
        (0, ClockState.OK),
        (WARN_MS, ClockState.OK),
        (WARN_MS + 1, ClockState.WARN),
        (FAR_MS, ClockState.WARN),
        (FAR_MS + 1, ClockState.FAR),
    ],
)
def test_how_far_ours_is_off(sign: int, off_ms: int, state: ClockState) -> None:
    rig = Rig(n2=0, n3=0)
    rig.jump(sign * off_ms)
    assert rig.look() is state
    assert rig.watch.offset_ms == sign * off_ms
    assert rig.changes == ([] if state is ClockState.OK else [(ClockState.OK, state)])


def test_a_wrong_clock_elsewhere_is_theirs() -> None:
    rig = Rig(n2=2 * FAR_MS, n3=10)
    assert rig.look() is ClockState.OK
    assert rig.watch.offset_ms == -10  # the median is that of n3
    assert rig.watch.is_far("n2")
    assert not rig.watch.is_far("n3")
    assert not rig.watch.is_far("n9")


def test_a_change_is_told_once_and_so_is_its_end() -> None:
    rig = Rig(n2=0, n3=0)
    rig.jump(-FAR_MS - 1)
    assert [rig.look() for _ in range(3)] == [ClockState.FAR] * 3
    rig.jump(FAR_MS + 1)
    assert [rig.look() for _ in range(3)] == [ClockState.OK] * 3
    assert rig.changes == [(ClockState.OK, ClockState.FAR), (ClockState.FAR, ClockState.OK)]


def test_two_clocks_that_differ_only_warn() -> None:
    rig = Rig(n2=10 * FAR_MS, n3=None)
    assert rig.look() is ClockState.WARN
    assert not rig.watch.is_far("n2")


def test_a_node_that_is_down_now_still_counts_with_what_it_said() -> None:
    rig = Rig(n2=0, n3=0)
    assert rig.look() is ClockState.OK
    rig.others_ms["n3"] = None
    for _ in range(100):
        assert rig.look() is ClockState.OK
    rig.jump(FAR_MS + 1)
    assert rig.look() is ClockState.FAR


def test_an_answer_that_comes_late_is_no_time() -> None:
    rig = Rig(n2=0, n3=0)
    rig.look()
    rig.answer_ms = LATE_MS + 90_000  # this process stood still
    rig.look()
    assert rig.watch.state is ClockState.OK
    assert abs(rig.watch.offset_ms) < 10


def test_a_node_alone_asks_nobody() -> None:
    rig = Rig()
    assert rig.look() is ClockState.OK
    assert (rig.asked, rig.watch.offset_ms) == (0, 0)
