"""What all actors share: where the brokers are, the history, and what is true."""

from __future__ import annotations

from typing import Protocol

import attrs

from tq.machine.states import State
from tq.sim.client import SimClient
from tq.sim.cluster import SimCluster
from tq.sim.crowd.recorder import Recorder
from tq.sim.crowd.truth import Truth
from tq.sim.random import SeededRandom

TYPES = ("work", "toil", "forge")
QUEUES = ("left", "right")
REPORTED = {0: "applied", 1: "already"}
WAIT_MS_MAX = 4_000  # of claims and waits
LIVE = frozenset(state.name.lower() for state in (State.WAITING, State.SCHEDULED, State.PENDING, State.RUNNING))


class Place(Protocol):
    """Where the brokers are."""

    @property
    def now_ms(self) -> int: ...
    def open(self, random: SeededRandom) -> SimClient | None:
        """A connection, or None: nobody is there."""
        ...


class AnyNode:
    """A client has a list of addresses, and takes any."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster

    @property
    def now_ms(self) -> int:
        return self._cluster.now_ms

    def open(self, random: SeededRandom) -> SimClient | None:
        hosts = list(self._cluster.hosts.values())
        host = hosts[random.below(len(hosts))]
        return host.connect() if host.accepts else None


@attrs.define
class Stage:
    """What all actors share."""

    place: Place
    random: SeededRandom
    recorder: Recorder = attrs.field(factory=Recorder)
    truth: Truth = attrs.field(factory=Truth)
    ids: list[bytes] = attrs.field(factory=list)
    is_hasty: bool = False  # calls that are not answered in time are given up, with their connection
    is_draining: bool = False
    is_calm: bool = False  # little is submitted: claims sleep, and are woken one by one

    @property
    def now_ms(self) -> int:
        return self.place.now_ms

    def chance(self, percent: int) -> bool:
        return self.random.below(100) < percent
