"""Groups in random trouble, one story a seed. ``make sim KIND=group`` plays new ones."""

from __future__ import annotations

import os
import subprocess
import sys

from tq.sim.weather import Weather

SEEDS = 60
STORY_MS = 3_000


def play(seed: int) -> Weather:
    weather = Weather(seed)
    try:
        weather.play(STORY_MS)
    except BaseException as error:
        error.add_note(
            f"seed {seed}: make sim KIND=group SEED={seed} RUNS=1 plays it again. What was done:\n"
            + "\n".join(weather.log[-30:])
        )
        raise
    return weather


def test_short():
    """Trouble must not keep the group from working: the counts below are what a calm story has many times over."""
    stories = [play(seed) for seed in range(SEEDS)]
    assert sum(story.group.committed.last_index for story in stories) > 5 * SEEDS
    assert sum(len(story.group.leaders.by_term) for story in stories) > SEEDS
    assert sum(story.group.promises.reads_answered for story in stories) > 10


def test_a_seed_tells_the_same_story_in_another_process():
    """SyncObj walks sets, whose order differs from process to process."""
    code = (
        "from tq.sim.weather import Weather\n"
        "weather = Weather(6)\n"
        "weather.play(1_500)\n"
        "print(weather.group.now_ms, weather.group.network.sent, weather.group.committed.last_index, *weather.log)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1] != ""
