from __future__ import annotations

import pytest

from tq.sim.clock import VirtualClock


def test_time_passes_when_it_is_told_to() -> None:
    clock = VirtualClock(wall_ms=5_000_000)
    assert (clock.monotonic_ms(), clock.monotonic_s(), clock.wall_ms()) == (1_000, 1.0, 5_000_000)
    clock.advance_ms(250)
    assert (clock.monotonic_ms(), clock.monotonic_s(), clock.wall_ms()) == (1_250, 1.25, 5_000_250)
    clock.advance_ms(0)
    assert clock.monotonic_ms() == 1_250


def test_the_wall_jumps_either_way_and_alone() -> None:
    clock = VirtualClock(wall_ms=5_000_000)
    clock.jump_wall_ms(-60_000)
    assert (clock.monotonic_ms(), clock.wall_ms()) == (1_000, 4_940_000)
    clock.jump_wall_ms(70_000)
    clock.advance_ms(1)
    assert (clock.monotonic_ms(), clock.wall_ms()) == (1_001, 5_010_001)


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        VirtualClock().advance_ms(-1)
