"""Groups in random trouble, one story a seed. TQ_SIM_MINUTES plays new seeds for that long, TQ_SIM_SEED one alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tq.sim.weather import Weather

SEEDS = 60
MINUTES = float(os.environ.get("TQ_SIM_MINUTES", "0"))
ONE_SEED = os.environ.get("TQ_SIM_SEED")
STORY_MS = 3_000


def play(seed: int) -> Weather:
    weather = Weather(seed)
    try:
        weather.play(STORY_MS)
    except BaseException as error:
        error.add_note(
            f"seed {seed}; TQ_SIM_SEED={seed} plays it alone. What was done:\n" + "\n".join(weather.log[-30:])
        )
        raise
    return weather


def test_short():
    """Trouble must not keep the group from working: the counts below are what a calm story has many times over."""
    if ONE_SEED is not None:
        play(int(ONE_SEED))
        return
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


@pytest.mark.skipif(not MINUTES, reason="TQ_SIM_MINUTES is not set")
def test_long():
    seed = first = time.time_ns() // 1_000_000_000 * 1_000
    end_s = time.monotonic() + MINUTES * 60
    while time.monotonic() < end_s:
        play(seed)
        seed += 1
    print(f"{seed - first} stories, from seed {first}")
