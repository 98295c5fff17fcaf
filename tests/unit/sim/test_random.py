from __future__ import annotations

from tq.sim.random import SeededRandom


def drawn(random: SeededRandom) -> list[object]:
    return [random.bytes(8), *(random.below(1_000) for _ in range(5)), random.bytes(3)]


def test_a_seed_repeats_the_run() -> None:
    assert drawn(SeededRandom(7)) == drawn(SeededRandom(7))
    assert drawn(SeededRandom(7)) != drawn(SeededRandom(8))
    assert SeededRandom(7).seed == 7


def test_draws_are_in_range() -> None:
    random = SeededRandom(1)
    assert {random.below(3) for _ in range(200)} == {0, 1, 2}
    assert random.below(1) == 0
    assert random.bytes(0) == b""
    assert len(random.bytes(1_000)) == 1_000


def test_a_fork_is_not_changed_by_what_others_draw() -> None:
    first, second = SeededRandom(3), SeededRandom(3)
    fork, other = first.fork(), second.fork()
    drawn(second)
    drawn(second)
    assert drawn(fork) == drawn(other)
    assert drawn(first.fork()) != drawn(fork)
