"""What is done to whom and when: a plan drawn from a seed, so that it can be drawn again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import attrs

LEADER = "leader"
"""A target: the node that leads when the time has come."""
ALL = "all"
"""A target: every node at once."""

WAY_ACTIONS = ("cut", "deafen", "mute", "slow", "break")
MACHINE_ACTIONS = ("skew", "fill", "grind")
AWAY_SECONDS = (4.0, 8.0)  # a node of several: so long that it needs a snapshot when it is back
SECONDS = {
    "kill": (0.0, 0.0, 0.3, 1.0),
    "pause": (0.1, 0.5, 1.5, 3.0),
    "cut": (0.3, 1.0, 3.0, 6.0),
    "deafen": (0.5, 1.5, 3.0),
    "mute": (0.5, 1.5, 3.0),
    "slow": (1.0, 3.0),
    "break": (0.0,),
    "restart": (0.0,),
    "skew": (1.0, 3.0, 8.0),
    "fill": (0.5, 2.0),
    "grind": (1.0, 3.0),
}


@attrs.frozen
class Fault:
    """At ``at`` seconds, and undone ``seconds`` later.

    action: ``kill`` (undone: started again), ``restart`` (the same after SIGTERM) and ``pause`` of a process; ``cut`` (from
    the others), ``deafen`` (it hears nobody), ``mute`` (nobody hears it), ``slow`` and ``break`` (its connections end) of
    the ways between nodes; ``skew`` (its wall clock is wrong), ``fill`` (its disk is full) and ``grind`` (slow) of its machine.
    """

    at: float
    target: str
    action: str
    seconds: float


def plan(
    seed: int,
    seconds: float,
    brokers: Sequence[str],
    workers: Sequence[str],
    clients: Sequence[str],
    every: float,
    *,
    has_machines: bool = False,
) -> Iterator[Fault]:
    """Faults in order of time, about one in ``every`` seconds; the first soon, none in the last tenth.

    A broker and a worker are killed first of all, the leader of several is then cut off and stopped, its
    clock goes wrong and its disk is full. After that brokers
    get four of ten (of several nodes six), clients one. A pause is often shorter than a lease (2 s) and sometimes longer.
    Of several nodes the leader is hit as often as all others together, and sometimes all die at once.
    """
    draw = random.Random(seed)
    is_group = len(brokers) > 1
    yield Fault(every / 2, LEADER if is_group else brokers[0], "kill", 0.0)
    yield Fault(every, draw.choice(workers), "kill", 0.0)
    if is_group:
        yield Fault(every * 2, LEADER, "cut", 1.0)
        yield Fault(every * 4, LEADER, "pause", 1.5)
        if has_machines:
            yield Fault(every * 6, LEADER, "skew", 3.0)
            yield Fault(every * 9, LEADER, "fill", 0.5)
    at = every * (10 if has_machines else 6 if is_group else 2)
    while at < seconds * 0.9:
        kind = draw.choices((brokers, workers, clients), (8, 4, 1) if is_group else (4, 5, 1))[0]
        target, actions = draw.choice(kind), ("kill", "pause")
        if is_group and kind is brokers:
            target = LEADER if draw.random() < 0.5 else target
            actions = (*actions, *actions, "restart", *WAY_ACTIONS, *(MACHINE_ACTIONS if has_machines else ()))
            if draw.random() < 0.04:
                target, actions = ALL, ("kill",)
        action = draw.choice(actions)
        is_away = is_group and kind is brokers and target != ALL and action in ("kill", "cut") and draw.random() < 0.4
        yield Fault(at, target, action, draw.choice(AWAY_SECONDS if is_away else SECONDS[action]))
        at += draw.uniform(0.3, 1.7) * every
