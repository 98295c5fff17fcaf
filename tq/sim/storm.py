"""Random trouble for a cluster: one seed, one story. Whoever plays it moves time and clients in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from tq.errors import Backpressure, InvalidRequest, NotLeader
from tq.sim.cluster import SimCluster
from tq.sim.disk import PowerLoss
from tq.sim.host import Host
from tq.sim.random import SeededRandom

T = TypeVar("T")

SYNC_MS = (None, None, (1, 5), (5, 40), (20, 100))
DELAY_MS = ((1, 3), (1, 3), (1, 15), (5, 60))
PERMILLE = (0, 0, 10, 80)
RATES_PERMILLE = (1000, 1000, 1000, 950, 1050)
CLOCK_JUMPS_MS = (-3_600_000, -20_000, -1_000, 1_000, 20_000, 3_600_000)


class Storm:
    """
    Attributes:
        counts: what was done, by kind.
        log: the same with times, in words.
    """

    def __init__(self, cluster: SimCluster, random: SeededRandom) -> None:
        self.cluster = cluster
        self.random = random
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        cluster.streams.delay_ms = self._one_of(DELAY_MS)
        for host in cluster.hosts.values():
            host.sync_ms = self._one_of(SYNC_MS)
            host.rate_permille = self._one_of(RATES_PERMILLE)
            host.segment_bytes = self._one_of((2 << 10, 4 << 10, 1 << 20))
            host.keep_bytes = self._one_of((0, 0, 10_000, 1 << 30))
            host.trouble.loss = self._one_of(PERMILLE)
            host.trouble.duplicate = self._one_of(PERMILLE)
            host.trouble.late = self._one_of(PERMILLE)
        self._acts: tuple[tuple[int, str, Callable[[Host], object]], ...] = (
            (6, "kill", self._kill), (5, "power loss", self._lose_power), (4, "power fails soon", self._power_fails_soon),
            (3, "stop", self._stop), (1, "power loss of all", self._all_down), (30, "start", self._start), (4, "pause", self._pause),
            (20, "go on", self._go_on), (3, "isolate", self._isolate), (4, "cut one way", self._cut_one_way),
            (3, "cut between two", self._cut_pair), (14, "heal", self._heal), (4, "reset a connection", self._reset),
            (2, "transfer", self._transfer), (2, "wall clock jumps", self._jump), (2, "map is full", self._full_map),
            (1, "sync fails", self._fail_sync), (1, "disk is full", self._fill_disk), (2, "disk has room", self._empty_disk),
        )  # fmt: skip
        self._total = sum(weight for weight, _name, _act in self._acts)

    @property
    def kinds(self) -> list[str]:
        return [name for _weight, name, _act in self._acts]

    def act(self) -> None:
        chance = self.random.below(self._total)
        for weight, name, act in self._acts:
            chance -= weight
            if chance < 0:
                host = self._one_of(list(self.cluster.hosts.values()))
                if act(host) is not False:
                    self.counts[name] += 1
                    self.log.append(f"{self.cluster.now_ms} {name} ({host.name})")
                return

    def _one_of(self, choices: Sequence[T]) -> T:
        return choices[self.random.below(len(choices))]

    # ---- processes and machines -----------------------------------------------------------------------

    def _kill(self, host: Host) -> bool:
        if host.is_up:
            host.kill()
            return True
        return False

    def _lose_power(self, host: Host) -> bool:
        if host.is_up:
            host.lose_power()
            return True
        return False

    def _stop(self, host: Host) -> bool:
        if host.broker is None or host.is_paused:
            return False
        try:
            self.cluster.stop(host.name)
        except PowerLoss:
            host.lose_power()
        return True

    def _power_fails_soon(self, host: Host) -> None:
        host.disk.stop_at(host.disk.steps + 1 + self.random.below(25))

    def _all_down(self, _host: Host) -> None:
        for host in self.cluster.live():
            host.lose_power()

    def _start(self, _host: Host) -> bool:
        down = [host for host in self.cluster.hosts.values() if not host.is_up]
        if not down:
            return False
        host = self._one_of(down)
        host.disk.mend()
        if self.random.below(4) == 0:
            self._power_fails_soon(host)
        return self.cluster.start(host.name)

    def _pause(self, host: Host) -> bool:
        host.is_paused = host.is_up
        return host.is_up

    def _go_on(self, _host: Host) -> bool:
        paused = [host for host in self.cluster.hosts.values() if host.is_paused]
        for host in paused:
            host.is_paused = False
        return bool(paused)

    # ---- the network ------------------------------------------------------------------------------------

    def _isolate(self, host: Host) -> None:
        self.cluster.streams.isolate(host.name, self.cluster.hosts)

    def _cut_one_way(self, host: Host) -> None:
        self.cluster.streams.cut(host.name, self._one_of(list(self.cluster.hosts)))

    def _cut_pair(self, host: Host) -> None:
        self.cluster.streams.isolate(host.name, [self._one_of(list(self.cluster.hosts))])

    def _heal(self, _host: Host) -> None:
        self.cluster.streams.heal()

    def _reset(self, _host: Host) -> bool:
        wires = self.cluster.streams.wires()
        if wires:
            self.cluster.streams.reset(self.cluster.now_ms, self._one_of(wires))
        return bool(wires)

    # ---- the rest -----------------------------------------------------------------------------------------

    def _transfer(self, _host: Host) -> bool:
        for host in self.cluster.live():
            if host.node is not None and host.node.is_leader and not host.is_paused:
                try:
                    host.node.transfer()
                except (NotLeader, Backpressure, InvalidRequest):
                    return False
                host.wake_ms = self.cluster.now_ms
                return True
        return False

    def _jump(self, host: Host) -> None:
        """At most one clock is wrong by much; the others are about right."""
        for other in self.cluster.hosts.values():
            other.clock.set_wall_ms(self.cluster.true_wall_ms)
        host.clock.jump_wall_ms(self._one_of(CLOCK_JUMPS_MS))

    def _full_map(self, host: Host) -> None:
        host.store.full_after(self.random.below(40))

    def _fail_sync(self, host: Host) -> None:
        host.disk.fail_sync(self.random.below(3))

    def _fill_disk(self, host: Host) -> None:
        host.disk.fill_after(self.random.below(5_000))

    def _empty_disk(self, host: Host) -> None:
        host.disk.mend()
