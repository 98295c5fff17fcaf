"""When a process has lived long enough."""

from __future__ import annotations

import pytest

from tq import limits
from tq.sim.random import SeededRandom
from tq.worker.recycling import NEVER, Life, Recycling


def tasks_of_a_life(tasks_max: int, seed: int) -> int:
    life = Life(Recycling(tasks_max=tasks_max), SeededRandom(seed))
    for count in range(1, 10_000):
        why = life.task_ended()
        if why is not None:
            assert why == f"it has run {count} tasks"
            return count
    raise AssertionError("it lives for ever")


def test_lives_end_after_so_many_tasks_and_not_all_at_once() -> None:
    lives = [tasks_of_a_life(1_000, seed) for seed in range(50)]
    assert max(lives) <= 1_000
    assert min(lives) >= 900
    assert len(set(lives)) > 30


@pytest.mark.parametrize("count", [1, 2, 9])
def test_small_numbers_are_kept(count: int) -> None:
    assert tasks_of_a_life(count, 7) == count


def test_lives_end_above_so_much_memory() -> None:
    recycling = Recycling(memory_bytes_max=1_000 * limits.MIB)
    bounds = set()
    for seed in range(20):
        life = Life(recycling, SeededRandom(seed))
        life.task_ended()
        bound = next(mb for mb in range(1, 1_100) if life.grown(mb * limits.MIB) is not None)
        assert life.grown(bound * limits.MIB) == f"it takes {bound} MiB of memory"
        bounds.add(bound)
    assert min(bounds) >= 900
    assert max(bounds) <= 1_001
    assert len(bounds) > 10


def test_one_that_is_too_large_from_the_start_runs_a_task_in_each_life() -> None:
    life = Life(Recycling(memory_bytes_max=1), SeededRandom(7))
    assert life.grown(limits.MIB) is None
    life.task_ended()
    assert life.grown(limits.MIB) is not None


def test_without_limits_it_lives_on() -> None:
    life = Life(NEVER, SeededRandom(7))
    assert (NEVER.is_on, life.is_measured) == (False, False)
    assert Recycling(tasks_max=1).is_on
    assert Recycling(memory_bytes_max=1).is_on
    assert {life.task_ended() for _ in range(1_000)} == {None}
    assert life.grown(1 << 60) is None
