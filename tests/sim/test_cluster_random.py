"""Three whole brokers at random, ``tq/sim/story.py``: a story a seed.

A failure prints the seed. ``make sim KIND=cluster SEED=n RUNS=1`` plays it again, RUNS=m that and the ones behind it,
MINUTES=m as many as fit; ``tq verify`` does the same for people who have no sources.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tq.sim.story import Story
from tq.sim.story import play as play_story

SHORT_SEEDS = range(36)


pytestmark = pytest.mark.usefixtures("quiet")


def play(seed: int) -> Story:
    """Play and judge. What is wrong is raised with the seed."""
    try:
        return play_story(seed)
    except BaseException as error:
        error.add_note(f"make sim KIND=cluster SEED={seed} RUNS=1 plays it again")
        raise


@pytest.mark.timeout(1_800)  # of a machine that does other things
def test_short():
    stories = [play(seed) for seed in SHORT_SEEDS]
    faults: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for story in stories:
        faults += story.storm.counts
        for actor in story.actors:
            errors += actor.errors
    assert set(faults) == set(stories[0].storm.kinds), "some trouble never came"
    assert errors["UNAVAILABLE"] > len(stories), "hardly anything was in flight when a leader was lost"
    assert sum(story.cluster.installations for story in stories) > 3, "hardly a node was brought back by a snapshot"
    assert sum(len(story.stage.ids) for story in stories) > 30 * len(stories), "little was submitted"
    assert sum(story.queues.seen["pauses"] for story in stories) > len(stories), "hardly a queue was paused"
    assert sum(story.queues.seen["created under a bound"] for story in stories) > len(stories), (
        "hardly a queue was bounded"
    )
    assert sum(story.listener.events for story in stories) > 30 * len(stories), "little was heard"
    assert sum(len(story.cluster.leaders.by_term) for story in stories) > 2 * len(stories), "leaders hardly changed"


def test_a_seed_is_the_story():
    first, second = Story(4, 2_000), Story(4, 2_000)
    first.play()
    second.play()
    assert first.stage.recorder.lines == second.stage.recorder.lines
