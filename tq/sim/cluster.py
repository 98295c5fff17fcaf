"""A cluster of whole brokers in one world, watched by checkers. The same seed gives the same run.

Time jumps from event to event. Clients are moved by whoever uses the cluster (tq/sim/crowd); what they are
answered goes on through ``run``. The checkers look at every entry that any node hands out and at every leader; what
clients saw is judged at the end (checkers/history.py, checkers/replay.py).
"""

from __future__ import annotations

from collections.abc import Callable

from tq import config
from tq.broker.broker import Broker
from tq.errors import TqError
from tq.machine import queries
from tq.raft.node import Entry
from tq.sim.checkers.effects import Effects
from tq.sim.checkers.raft_committed import RaftCommitted
from tq.sim.checkers.raft_leaders import RaftLeaders
from tq.sim.checkers.raft_logs import RaftLogs
from tq.sim.checkers.unanswered import check_answered
from tq.sim.disk import PowerLoss
from tq.sim.host import ELECTION_MS, Host
from tq.sim.random import SeededRandom
from tq.sim.streams import SimStreams
from tq.sim.time_loop import TimeLoop

START_WALL_MS = 1_700_000_000_000  # as each clock's
STOP_MS = 2_000  # for what is in flight
LEASES = config.LeasesSection(lease_ms=3_000, heartbeat_ms=1_000, session_ms=4_000)


class SimCluster(TimeLoop):
    """
    Args:
        expected: errors that may stop a node; any other ends the run.

    Attributes:
        on_broker: sees each new broker before it applies anything.
        installations: snapshots that nodes have taken while they ran.
    """

    def __init__(
        self, seed: int, size: int = 3, *, leases: config.LeasesSection = LEASES,
        expected: tuple[type[TqError], ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.seed = seed
        self.random = SeededRandom(seed)
        self.streams = SimStreams(self.random.fork())
        names = [f"n{number}" for number in range(1, size + 1)]
        self.hosts = {
            name: Host(name, names, leases, self.random.fork(), self.streams, lambda: self.now_ms) for name in names
        }
        self.leaders = RaftLeaders()
        self.logs = RaftLogs()
        self.committed = RaftCommitted()
        self.effects = Effects()
        self.on_broker: Callable[[Host, Broker], None] = lambda host, broker: None
        self.installations = 0
        self._installed: dict[str, int] = {}  # by life
        self._expected = expected
        for host in self.hosts.values():
            host.on_broker = self._watch_broker
            host.on_entries = self._watch_entries

    @property
    def true_wall_ms(self) -> int:
        return START_WALL_MS + self.now_ms

    def log_time_ms(self) -> int:
        """Of the last entry that any node applied."""
        return max(queries.log_time_ms(host.store.txn) for host in self.live())

    # ---- processes ----------------------------------------------------------------------------------

    def start_all(self) -> None:
        for name in self.hosts:
            self.start(name)

    def start(self, name: str) -> bool:
        """Whether it started: the power may go meanwhile."""
        host = self.hosts[name]
        try:
            host.start()
        except PowerLoss:
            host.lose_power()
            return False
        except self._expected as error:
            host.failures.append(error)
            host.kill()
            return False
        return True

    def kill(self, name: str) -> None:
        self.hosts[name].kill()

    def lose_power(self, name: str) -> None:
        self.hosts[name].lose_power()

    def stop(self, name: str) -> None:
        """SIGTERM: it hands leadership over, answers what is in flight, and ends. Time passes."""
        host, broker = self.hosts[name], self.broker(name)
        if broker.hand_over("it stops"):
            self._run_while(lambda: host.broker is broker and broker.node.leader_id in (None, name), ELECTION_MS[1])
        if host.broker is broker:
            broker.stop()
            host.clients_read()
            self._run_while(lambda: host.broker is broker and not broker.is_idle, STOP_MS)
        if host.broker is broker:
            broker.checkpoint()
            host.kill()

    def _run_while(self, condition: Callable[[], bool], at_most_ms: int) -> None:
        end_ms = self.now_ms + at_most_ms
        while condition() and self.now_ms < end_ms:
            self.run(5)

    def live(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.is_up]

    def broker(self, name: str) -> Broker:
        broker = self.hosts[name].broker
        assert broker is not None, f"{name} serves nobody"
        return broker

    def leader(self) -> str | None:
        """Who serves as the leader in the highest term, of those that run."""
        leading = [host for host in self.live() if host.broker is not None and host.broker.is_serving]
        return max(leading, key=lambda host: host.node.term if host.node else 0).name if leading else None

    def followers(self) -> list[str]:
        leader = self.leader()
        return [host.name for host in self.live() if host.broker is not None and host.name != leader]

    # ---- time -----------------------------------------------------------------------------------------

    def elect(self, within_ms: int = 10_000) -> str:
        """A leader that serves, and that all who run know and reach."""

        def is_known() -> bool:
            leader = self.leader()
            running = [host for host in self.live() if not host.is_paused]
            return leader is not None and all(
                host.node and host.node.leader_id == leader and (host.name == leader or leader in host.reachable)
                for host in running
            )

        self.run_until(is_known, within_ms, "a leader that all know and reach")
        leader = self.leader()
        assert leader is not None
        return leader

    def elect_among(self, *outside: str) -> str:
        """As ``elect``, where these nodes do not count."""
        self.run_until(lambda: self.leader() not in (None, *outside), 10_000, "a leader")
        leader = self.leader()
        assert leader is not None
        return leader

    def _due_ms(self) -> int | None:
        due = [host.next_ms() for host in self.hosts.values() if host.is_up and not host.is_paused]
        arrival = self.streams.next_due_ms()
        if arrival is not None:
            due.append(arrival)
        return min(due, default=None)

    def _pass_time(self, for_ms: int) -> None:
        for host in self.hosts.values():
            host.pass_time(for_ms)

    def step(self) -> None:
        """Do all that is due now."""
        for arrival in self.streams.take_due(self.now_ms):
            self.hosts[arrival.to].arrived(arrival)
        for host in self.hosts.values():
            if host.is_up and not host.is_paused and host.next_ms() <= self.now_ms:
                self._serve(host)

    def _serve(self, host: Host) -> None:
        try:
            host.serve()
        except PowerLoss:
            host.lose_power()
            return
        except self._expected as error:
            host.failures.append(error)
            host.kill()
            return
        node = host.node
        if node is None:
            return
        if host.installed != self._installed.get(host.life, 0):
            self._installed[host.life] = host.installed
            self.installations += 1
            self.logs.forget(host.name)
        self.logs.look(host.name, node.journal)
        if node.leads_term and self.leaders.leads(host.name, node.leads_term):
            self.committed.new_leader(host.name, node.leads_term, node.journal)
        check_answered(host.clients, host.running_ms)

    # ---- the watch ------------------------------------------------------------------------------------

    def _watch_broker(self, host: Host, broker: Broker) -> None:
        self.logs.forget(host.name)
        self.effects.watch(host.life, broker)
        self.on_broker(host, broker)

    def _watch_entries(self, host: Host, entries: list[Entry]) -> None:
        assert host.node is not None
        host.platter.note(host.node.journal)
        for entry in entries:
            first = self.committed.handed_out(host.name, entry)
            if first and entry.index > 1:
                self.committed.on_majority(entry, self._holders(entry), len(self.hosts))

    def _holders(self, entry: Entry) -> list[str]:
        return [name for name, host in self.hosts.items() if host.platter.has(entry)]

    # ---- the end --------------------------------------------------------------------------------------

    def heal(self) -> None:
        """All that ails the world is over: every node runs, and reaches every other."""
        self.streams.heal()
        self.streams.delay_ms = (1, 3)
        for host in self.hosts.values():
            host.is_paused = False
            host.disk.mend()
            host.trouble.loss = host.trouble.duplicate = host.trouble.late = 0
            while not host.is_up:
                self.start(host.name)

    def settle(self, within_ms: int = 20_000) -> None:
        """All nodes have applied all that any of them has."""
        self.elect(within_ms)

        def is_equal() -> bool:
            applied = {host.broker.applied_index if host.broker else -1 for host in self.hosts.values()}
            return len(applied) == 1 and self.committed.last_index in applied

        self.run_until(is_equal, within_ms, "all nodes have applied the same")
