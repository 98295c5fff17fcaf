"""What is done to whom and when: a plan drawn from a seed, so that it can be drawn again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import attrs


@attrs.frozen
class Fault:
    """At ``at`` seconds: ``kill`` (and start again after ``seconds``) or ``pause`` (for ``seconds``)."""

    at: float
    target: str
    action: str
    seconds: float


def plan(
    seed: int, seconds: float, brokers: Sequence[str], workers: Sequence[str], clients: Sequence[str], every: float
) -> Iterator[Fault]:
    """Faults in order of time, about one in ``every`` seconds; the first soon, none in the last tenth.

    A broker and a worker are killed first of all; then brokers get four of ten, clients one. A pause is often shorter than a lease (2 s) and sometimes longer.
    """
    draw = random.Random(seed)
    yield Fault(every / 2, draw.choice(brokers), "kill", 0.0)
    yield Fault(every, draw.choice(workers), "kill", 0.0)
    at = every * 2
    while at < seconds * 0.9:
        target = draw.choice(draw.choices((brokers, workers, clients), (4, 5, 1))[0])
        if draw.random() < 0.5:
            yield Fault(at, target, "kill", draw.choice((0.0, 0.0, 0.3, 1.0)))
        else:
            yield Fault(at, target, "pause", draw.choice((0.1, 0.5, 1.5, 3.0)))
        at += draw.uniform(0.3, 1.7) * every
