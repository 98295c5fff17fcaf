"""What tq verify does with seeds: it counts, ends at a breach, and tells how to play that again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sim.fake_story import FakeStory
from tq.errors import InternalError
from tq.sim.clock import VirtualClock
from tq.sim.verify import Tally, repeat, verify


def played(*outcomes: BaseException | None, nodes: int = 3) -> tuple[Tally, list[int]]:
    """Seeds from 7 on, one an outcome; each takes a second."""
    clock, told = VirtualClock(), []
    tally = Tally(7, nodes)

    def play(seed: int, size: int) -> Any:
        assert size == nodes
        clock.advance_ms(1_000)
        outcome = outcomes[seed - 7]
        if outcome is not None:
            raise outcome
        return FakeStory()

    verify(range(7, 7 + len(outcomes)), tally, clock, lambda tally: told.append(tally.runs), play)
    return tally, told


def test_all_is_counted() -> None:
    tally, told = played(None, None, None, nodes=5)
    assert told == [1, 2, 3]
    assert (tally.runs, tally.tasks, tally.answers, tally.events, tally.leaders, tally.snapshots) == (
        3,
        300,
        3_000,
        150,
        6,
        3,
    )
    assert (tally.simulated_ms, tally.wall_ms) == (24_000, 3_000)
    assert tally.faults == {"kill": 6, "power loss": 3}
    assert tally.failure is None
    assert tally.repeat == "tq verify --seed 7 --runs 3 --nodes 5"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AssertionError("lost: x"), "lost: x"),
        (AssertionError(), "an invariant of the brokers does not hold"),
        (InternalError("the applier has stopped"), "InternalError: the applier has stopped"),
    ],
)
def test_a_breach_ends_it_with_its_seed(error: Exception, message: str) -> None:
    error.add_note("it ended at 8000 ms, after")
    error.add_note("120 kill (n1)")
    tally, told = played(None, error, None)
    assert told == [1, 2]
    assert tally.failure is not None
    assert (tally.failure.seed, tally.failure.message) == (8, message)
    assert tally.failure.log == "it ended at 8000 ms, after\n120 kill (n1)"
    assert tally.failure.repeat == "tq verify --seed 8 --runs 1 --nodes 3"


def test_what_is_no_breach_goes_up_and_names_the_seed() -> None:
    with pytest.raises(KeyError) as caught:
        played(None, KeyError("a bug"))
    assert caught.value.__notes__ == [f"in the story of seed 8: {repeat(8, 1, 3)}"]
