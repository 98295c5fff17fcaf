"""The short forms of ``make torture``: the same runs, the same checker, each under a minute."""

from __future__ import annotations

import os
import random

import pytest

from tests.faulty.machine import why_not
from tests.torture.run import Report, torture
from tq.bench.processes import Ground

SECONDS = float(os.environ.get("TQ_TORTURE_SECONDS", "30"))


def run(ground: Ground, nodes: int) -> Report:
    seed = int(os.environ.get("TQ_TORTURE_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    report = torture(ground, SECONDS, seed, print, nodes)
    print("\n".join(report.lines()))
    assert not report.breaches, f"seed {seed}; logs and histories are in {ground.keep()}"
    assert report.tasks > 200, "too little was done to prove anything"
    assert report.reads > 20
    assert report.faults["kill worker"] > 0
    assert report.crashes > 0
    return report


@pytest.mark.timeout(300)
def test_nothing_is_lost_under_kills_and_pauses(ground: Ground) -> None:
    report = run(ground, 1)
    assert report.faults["kill broker"] > 0


@pytest.mark.timeout(300)
def test_nothing_is_lost_on_three_nodes_under_kills_pauses_and_cuts(ground: Ground) -> None:
    report = run(ground, 3)
    for action in ("kill", "cut", "pause", *(() if why_not() else ("skew", "fill"))):
        assert report.faults[f"{action} leader"] > 0
    assert report.state
