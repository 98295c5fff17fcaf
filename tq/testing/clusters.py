"""``cluster(3)``: several nodes in this process, with what may happen to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tq.errors import InvalidRequest, InvalidState
from tq.sim.checkers.replay import check_replay
from tq.store.dump import state_digest
from tq.testing.simulation import LEASE_DEFAULT, Simulation
from tq.testing.worker import Worker

SIZES = (1, 3, 5, 7)
ELECT_MS = 30_000
SETTLE_MS = 120_000
CLIENT = "client"


class Cluster(Simulation):
    """Made by ``cluster``. Nodes are named n1, n2, n3 ...; ``"leader"`` stands for the one that leads.

    Every checker of our own simulation watches: a broken promise of the log, or of the contract, fails the test.
    """

    def __enter__(self) -> Cluster:
        super().__enter__()
        return self

    def _begin(self) -> None:
        super()._begin()
        self._world.elect(ELECT_MS)

    @property
    def nodes(self) -> list[str]:
        return list(self._world.hosts)

    @property
    def leader(self) -> str | None:
        """Who leads and serves now."""
        return self._world.leader()

    def elect(self) -> str:
        """Let time pass until there is a leader that serves. Raises Breach if none comes: is there a majority?"""
        self._world.run_until(lambda: self.leader is not None, ELECT_MS, "a leader")
        return self._name("leader")

    # ---- what may happen ----------------------------------------------------------------------------------------

    def kill(self, node: str | Worker) -> str:
        """As kill -9. What it has synced it has; ``restart`` starts it again. Returns its name."""
        if isinstance(node, Worker):
            node.kill()
            return node.name
        name = self._running(node)
        self._world.kill(name)
        return name

    def lose_power(self, node: str) -> str:
        """As the plug pulled: what was not synced is gone, or torn, by chance."""
        name = self._running(node)
        self._world.lose_power(name)
        return name

    def stop(self, node: str) -> str:
        """As SIGTERM: it hands leadership over, answers what is in flight, and ends. Time passes."""
        name = self._running(node)
        self._world.stop(name)
        return name

    def restart(self, node: str) -> None:
        """Start one that was killed or stopped, on what its disk holds."""
        name = self._name(node)
        if self._world.hosts[name].is_up:
            raise InvalidState(f"{name} runs")
        self._world.start(name)

    def partition(self, *groups: list[Any] | tuple[Any, ...] | set[Any]) -> None:
        """Cut the network: nothing passes between groups, until ``heal``. A later partition takes the place of this one.

        A group has nodes, workers and ``"client"``. Nodes that are named in none are a group of their own; workers and
        clients that are named in none reach everybody.
        """
        named = [{self._name(one) for one in group} for group in groups]
        seen: set[str] = set()
        for group in named:
            if group & seen:
                raise InvalidRequest.of("groups", sorted(group & seen), "stand in two groups")
            seen |= group
        rest = set(self.nodes) - seen
        named += [rest] if rest else []
        self.heal()
        self._world.groups = named
        for one in self.nodes:
            for other in self.nodes:
                if self._world.is_cut(one, other):
                    self._world.streams.cut(one, other)

    def heal(self) -> None:
        """All reach all again. Nodes that were killed stay away until ``restart``."""
        self._world.groups = []
        self._world.streams.heal()

    def _name(self, node: Any) -> str:
        if isinstance(node, Worker):
            return node.name
        if node == "leader":
            leader = self.leader
            if leader is None:
                raise InvalidState("nobody leads now: elect() waits for a leader")
            return leader
        if node not in self._world.hosts and node != CLIENT and not any(node == one.name for one in self._workers):
            raise InvalidRequest.of("node", node, f'must be "leader" or one of {", ".join(self.nodes)}')
        return str(node)

    def _running(self, node: str) -> str:
        name = self._name(node)
        if name not in self._world.hosts:
            raise InvalidRequest.of("node", node, f'must be "leader" or one of {", ".join(self.nodes)}')
        if not self._world.hosts[name].is_up:
            raise InvalidState(f"{name} does not run")
        return name

    # ---- the verdict --------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Mend everything, let all nodes catch up, and compare them with each other, the log and what was seen."""
        world = self._world
        world.groups = []
        world.heal()
        world.settle(SETTLE_MS)
        for host in world.hosts.values():
            broker = world.broker(host.name)
            world.effects.compare(host.life, broker.applied_index, state_digest(broker.txn))
        broker = world.broker(self._name("leader"))
        settings = broker.applier.machine.settings
        self._raise(self._history.breaches(broker.txn, broker.config.retention.tombstone_keep_ms))
        entries = [world.committed.entries[index] for index in sorted(world.committed.entries)]
        reads = self._history.records.reads
        self._raise([str(breach) for breach in check_replay(entries, settings, reads, world.effects.digests)])


def cluster(
    size: int = 3, *, seed: int = 0, lease: float = LEASE_DEFAULT, start: datetime | None = None, check: bool = True
) -> Cluster:
    """Several nodes in this process: the real brokers, log and store, with a network, disks and clocks that are played.

    Args:
        size: 1, 3, 5 or 7.
        seed, lease, start: as of ``memory_broker``.
        check: whether the end is judged (see ``Cluster``); it costs a few milliseconds a task.

    Raises:
        InvalidRequest: one of these is out of bounds.
    """
    if size not in SIZES:
        raise InvalidRequest.of("size", size, "must be 1, 3, 5 or 7")
    return Cluster(size, seed=seed, lease=lease, start=start, check=check)
