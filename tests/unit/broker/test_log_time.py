from __future__ import annotations

import pytest

from tq.broker.log_time import LogTime
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000)


def test_it_follows_the_wall_clock(clock):
    time = LogTime(clock, 0)
    assert time.now_ms() == 1_000_000
    clock.advance_ms(250)
    assert time.now_ms() == 1_000_250
    assert time.offset_ms() == 0


def test_a_cluster_that_slept_wakes_up(clock):
    time = LogTime(clock, 0)
    clock.jump_wall_ms(86_400_000)
    assert time.now_ms() == 87_400_000


def test_it_never_runs_backwards_and_never_stands_still(clock):
    time = LogTime(clock, 0)
    before = time.next_ms()
    clock.jump_wall_ms(-10_000)
    assert time.now_ms() == before
    clock.advance_ms(1_000)
    assert time.now_ms() == before + 500
    assert time.ahead_ms() == 9_500
    assert time.offset_ms() == 0


def test_it_meets_the_wall_clock_again(clock):
    time = LogTime(clock, 0)
    before = time.next_ms()
    clock.jump_wall_ms(-10_000)
    for _ in range(300):
        clock.advance_ms(100)
        time.next_ms()
    assert time.now_ms() == clock.wall_ms() == before + 20_000


def test_small_steps_at_half_pace_add_up(clock):
    time = LogTime(clock, 0)
    before = time.next_ms()
    clock.jump_wall_ms(-10_000)
    for _ in range(1_000):
        clock.advance_ms(1)
        time.next_ms()
    assert time.now_ms() == before + 500


def test_it_is_not_behind_what_was_applied(clock):
    time = LogTime(clock, 5_000_000)
    assert time.now_ms() == 5_000_000
    time.seen(6_000_000)
    assert time.now_ms() == 6_000_000
    time.seen(10)
    assert time.now_ms() == 6_000_000


def test_who_only_looks_does_not_move_it(clock):
    """A node whose clock was wrong before it heard of the others must not keep that for its time as leader."""
    offsets: list[int] = []
    time = LogTime(clock, 0, lambda: offsets)
    right = time.now_ms()
    clock.jump_wall_ms(3_600_000)
    assert time.now_ms() == right + 3_600_000
    offsets[:] = [-3_600_000, -3_600_000]
    assert time.now_ms() == time.next_ms() == right


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_wall_clock_does(seed):
    random = SeededRandom(seed)
    clock = VirtualClock(1_000_000)
    time = LogTime(clock, random.below(3_000_000))
    last_ms = time.next_ms()
    for _ in range(500):
        choice = random.below(4)
        if choice == 0:
            clock.jump_wall_ms(random.below(20_000) - 10_000)
        elif choice == 1:
            time.seen(last_ms + random.below(2_000) - 1_000)
        elif choice == 2:
            assert time.now_ms() >= last_ms, f"seed {seed}"
        passed_ms = random.below(200)
        clock.advance_ms(passed_ms)
        now_ms = time.next_ms()
        assert now_ms >= last_ms, f"seed {seed}"
        last_ms = now_ms


def test_it_follows_the_median_of_all_voters_so_one_wrong_clock_moves_nothing(clock):
    offsets = [0, 5]
    time = LogTime(clock, 0, lambda: offsets)
    right = time.now_ms()
    clock.jump_wall_ms(86_400_000)  # ours goes wrong: to it, the others are a day behind
    offsets[:] = [-86_400_000, -86_399_995]
    clock.advance_ms(100)
    assert right + 100 <= time.now_ms() <= right + 105
    assert 86_399_990 <= time.offset_ms() <= 86_400_000
    clock.jump_wall_ms(-86_400_000)
    offsets[:] = [86_400_000, 3]  # another's goes wrong
    clock.advance_ms(100)
    assert right + 200 <= time.now_ms() <= right + 205
    assert time.offset_ms() == -3


def test_with_one_other_voter_the_one_behind_counts(clock):
    """Two clocks have no median: early is worse than late."""
    assert LogTime(clock, 0, lambda: [60_000]).now_ms() == 1_000_000
    assert LogTime(clock, 0, lambda: [-60_000]).now_ms() == 940_000
