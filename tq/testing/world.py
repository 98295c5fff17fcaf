"""Nodes, clients, workers and handlers in one process, under one virtual clock; one thread at a time. The same seed gives the same run.

Theory. The nodes are the simulator's (``tq/sim/cluster.py``): the real broker, log, guard and machine, on disks in memory.
To them come *actors*: the shells under the test's clients and the workers. Time stands while anybody has something to do,
and jumps to what is due next when nobody has.

- Whoever calls into this (a verb of a client, ``advance``) *drives*: turns until its condition holds, or its time is over.
- A plain handler runs where the world is driven, in the driver's thread, between two turns. It takes no time. If it
  calls a client, it drives in turn: other tasks run on top of it, until it is answered. So handlers may submit and wait,
  and no thread is needed to make them wait; but one that waits for a task below it on the stack waits in vain.
- Coroutines run on loops of their own, in threads that run only while the world stands (``baton.py``): always one
  thread runs, and which one is no matter of luck.
- A node alone has nothing to do by time but what the log and its leases ask for, so its clock jumps over what is idle. Where
  there are others, every heartbeat between nodes is played.

Rejected: a thread for each plain handler (a debugger, a fixture or a database connection of the test would be in
another one, for no gain); greenlets (a dependency that sees into every frame); waiting in real time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import attrs

from tq import config, limits
from tq.broker import services
from tq.broker.broker import Broker
from tq.broker.leases import Leases
from tq.errors import InvalidState
from tq.machine import queries
from tq.machine.commands import Timer
from tq.machine.states import ENDS, State
from tq.protocol.addresses import Address, parse_one, show
from tq.sim.checkers.breach import Breach
from tq.sim.cluster import SimCluster
from tq.sim.host import Host
from tq.testing.plain import PlainHandlers
from tq.testing.wire import Refused, Wire

MONOTONIC_START_MS: Final = 1_000  # as each node's clock
ELECTION_MS: Final = limits.RAFT_ELECTION_MS_DEFAULT
LEASE_LOOK_MS: Final = 500  # below the gap from which on time of leases stands still
IDLE_LOOK_MS: Final = 3_600_000
CALM_MS: Final = 60_000  # so long without anything that could happen: then nothing will
KEEP_ALIVE_MS: Final = 1_000  # what an idle client or worker wants to do later than that is a sign of life
ERRORS_KEPT: Final = 1_000
STIRRED_TURNS: Final = 20
TURN_S: Final = 5.0  # real time that a thread waits for another one that drives


class Actor(Protocol):
    """A client or a worker."""

    def pump(self) -> bool:
        """Move what there is to move now. Whether anything was."""
        ...

    def due_ms(self) -> int | None:
        """When it has something to do by time."""
        ...

    @property
    def sessions(self) -> dict[bytes, int]:
        """Its sessions that it keeps alive by itself, and how many leases each holds."""
        ...


class Loop(Protocol):
    """Runs coroutines, see ``baton.py``."""

    def pump(self) -> bool: ...
    def due_ms(self) -> int | None: ...
    @property
    def busy(self) -> int:
        """Jobs that it has not ended."""
        ...

    @property
    def thread(self) -> int | None: ...


class Clock:
    """The time of clients and workers."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic_ms(self) -> int:
        return MONOTONIC_START_MS + self._world.now_ms

    def monotonic_s(self) -> float:
        return self.monotonic_ms() / 1000

    def wall_ms(self) -> int:
        return self._world.start_wall_ms + self._world.now_ms


@attrs.frozen(eq=False)
class End:
    """Of a wait: when it is over, whatever happened; None: never."""

    at_ms: int | None


class World(SimCluster):
    """
    Attributes:
        plain: handlers that are no coroutines.
        errors: what handlers raised, the newest last, with the ids of their tasks.
        loops: of coroutines, by name; each is made when it is first needed.
    """

    def __init__(self, seed: int, size: int, leases: config.LeasesSection, start_wall_ms: int) -> None:
        super().__init__(seed, size, leases=leases)
        self.start_wall_ms = start_wall_ms
        self.clock = Clock(self)
        self.actors: list[Actor] = []
        self.loops: dict[str, Loop] = {}
        self.errors: deque[tuple[str, BaseException]] = deque(maxlen=ERRORS_KEPT)
        self.groups: list[set[str]] = []  # who reaches whom; empty: everybody everybody
        self.plain = PlainHandlers(lambda timeout, is_set: self.drive(is_set, timeout), self.errors)
        self._timers_at: tuple[Broker | None, int] = (None, 0)  # of the next one
        self._timer_ms: int | None = None
        self._has_bulk = False
        self._driver = 0  # thread
        self._ends: list[End] = []  # of the coroutines that drive
        self._stirs = 0  # times that one began or ended
        self._turn = threading.Lock()
        self._hosts_by_address = {parse_one(host.config.client_address): host for host in self.hosts.values()}
        for host in self.hosts.values():
            host.clock.set_wall_ms(start_wall_ms)
            host.election_ms = ELECTION_MS
            host.heartbeat_ms = limits.RAFT_HEARTBEAT_MS_DEFAULT
            host.part_bytes = limits.SNAPSHOT_PART_BYTES

    @property
    def addresses(self) -> list[str]:
        return [show(address) for address in self._hosts_by_address]

    @property
    def true_wall_ms(self) -> int:
        return self.start_wall_ms + self.now_ms

    @property
    def is_alone(self) -> bool:
        """There is one node."""
        return len(self.hosts) == 1

    # ---- the network ------------------------------------------------------------------------------------

    def dial(self, endpoint: str, address: Address) -> Wire:
        """Raises Refused."""
        host = self._hosts_by_address.get(address)
        if host is None or not host.accepts or host.broker is None:
            raise Refused("connection refused")
        if self.is_cut(endpoint, host.name):
            raise Refused("no route to it: there is a partition between")
        return Wire(host, host.broker, lambda: self.is_cut(endpoint, host.name))

    def is_cut(self, one: str, other: str) -> bool:
        """Whether a partition is between them. Who stands in no group reaches all."""
        if not self.groups:
            return False
        homes = [next((at for at, group in enumerate(self.groups) if name in group), None) for name in (one, other)]
        return None not in homes and homes[0] != homes[1]

    def _watch_broker(self, host: Host, broker: Broker) -> None:
        if not self.is_alone:  # else there is nobody to differ from
            super()._watch_broker(host, broker)

    def _serve(self, host: Host) -> None:
        if self.is_alone:
            host.serve()  # its log is compared with no other
        else:
            super()._serve(host)

    # ---- driving ------------------------------------------------------------------------------------------

    def drive(self, is_done: Callable[[], bool], seconds: float | None) -> bool:
        """Let things happen until ``is_done``, or for so much virtual time. Whether it is done."""
        return self.drive_until(is_done, None if seconds is None else self.now_ms + max(0, round(seconds * 1000)))

    def drive_until(self, is_done: Callable[[], bool], end_ms: int | None) -> bool:
        with self._told():
            return self._drive(is_done, end_ms)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """``driving``; a breach says when it was."""
        try:
            with self.driving():
                yield
        except Breach as breach:
            breach.add_note(f"seed {self.seed}, {self.now_ms} ms after the start")
            raise

    def _drive(self, is_done: Callable[[], bool], end_ms: int | None) -> bool:
        while not self._is_done_now(is_done):
            if end_ms is not None and self.now_ms >= end_ms:
                return False
            self._advance(end_ms)
        return True

    def _is_done_now(self, is_done: Callable[[], bool]) -> bool:
        """All that happens without time passing, until ``is_done``."""
        while True:
            self._settle()
            self.plain.raise_stopped(threading.get_ident())
            if is_done():
                return True
            # Only what is waited for lets others run on top: a chain of tasks must not become a tower of calls.
            if not self._run_handler():
                return False

    async def drive_async(
        self, is_done: Callable[[], bool], end_ms: int | None, others: Callable[[int], Awaitable[object]]
    ) -> bool:
        """``drive_until`` for a coroutine of the test, among others: ``others`` lets those run, for so many turns of their loop,
        before time passes. After a wait has begun or ended they get many, for what they do behind it.

        Any number may drive at once; time does not pass the first of their ends."""
        end = End(end_ms)
        self._ends.append(end)
        self._stirs += 1
        seen = 0
        try:
            while True:
                with self._told():
                    if self._is_done_now(is_done):
                        return True
                await others(1)
                while seen != self._stirs:
                    seen = self._stirs
                    await others(STIRRED_TURNS)
                with self._told():
                    if self._is_done_now(is_done):
                        return True
                    if end_ms is not None and self.now_ms >= end_ms:
                        return False
                    ends = [other.at_ms for other in self._ends if other.at_ms is not None]
                    first_ms = min(ends, default=None)
                    if first_ms is None or first_ms > self.now_ms:  # else that one is about to see it
                        self._advance(first_ms)
        finally:
            self._ends.remove(end)
            self._stirs += 1

    def run(self, for_ms: int) -> None:
        with self.driving():
            super().run(for_ms)

    def run_until(self, condition: Callable[[], bool], within_ms: int, what: str) -> int:
        with self.driving():
            return super().run_until(condition, within_ms, what)

    def step(self) -> None:
        """All that happens without time passing, handlers too."""
        self._settle()
        while self._run_handler():
            self._settle()

    def _settle(self) -> None:
        """All that happens without time passing between nodes, clients and workers."""
        while True:
            super().step()
            if not sum([actor.pump() for actor in list(self.actors)]):
                break
        if self.is_alone:
            self._look_when_due()

    def _run_handler(self) -> bool:
        """Run one, or the coroutines for a while. False: there is nothing to run now."""
        return self.plain.run_one(threading.get_ident()) or any(loop.pump() for loop in list(self.loops.values()))

    def _due_ms(self) -> int | None:
        due = [self._node_due_ms(), *[actor.due_ms() for actor in self.actors]]
        due += [loop.due_ms() for loop in self.loops.values()]
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def _node_due_ms(self) -> int | None:
        due_ms = super()._due_ms()
        if self.is_alone and due_ms is not None and due_ms > self.now_ms:
            for host in self.hosts.values():
                if host.broker is not None and host.broker.is_serving:
                    return min(host.look_ms, host.wake_ms)  # it has no peers to look after
        return due_ms

    def _look_when_due(self) -> None:
        """A node alone: let it look again when there is something to see, and not sooner."""
        for host in self.hosts.values():
            broker = host.broker
            if broker is None or not broker.is_serving or host.is_paused:
                continue
            if self._timers_at != (broker, broker.applied_index):
                self._timers_at = (broker, broker.applied_index)
                self._timer_ms = self._next_timer_ms(broker)
                self._has_bulk = bool(queries.jobs_unfinished(broker.txn))
            if self._has_bulk:  # each look does a slice of it
                host.look_ms = min(host.look_ms, self.now_ms + services.PERIOD_MS)
                continue
            # Leases age only while the node looks; those of workers that are alive here need not. Their claims are parked,
            # and may be so for longer than they asked.
            is_foreign = self._has_foreign(broker.leases)
            wait_ms = LEASE_LOOK_MS if is_foreign else IDLE_LOOK_MS
            if self._timer_ms is not None:
                wait_ms = min(wait_ms, self._timer_ms - broker.log_time_ms())
            deadline_ms = broker.deadlines.wait_ms()
            if deadline_ms is not None and (is_foreign or len(broker.waits)):
                wait_ms = min(wait_ms, deadline_ms)
            host.look_ms = host.wake_ms = self.now_ms + max(1, wait_ms)

    def _next_timer_ms(self, broker: Broker) -> int | None:
        """In log time."""
        settings = broker.applier.machine.settings
        due = [queries.next_due_ms(broker.txn, kind, settings) for kind in Timer]
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    def _has_foreign(self, leases: Leases) -> bool:
        """There are leases or sessions that no worker here keeps alive."""
        alive: dict[bytes, int] = {}
        for actor in self.actors:
            alive |= actor.sessions
        return len(leases) != sum(alive.values()) or any(session not in alive for session in leases.sessions)

    # ---- whose turn it is -----------------------------------------------------------------------------------

    @contextmanager
    def driving(self) -> Iterator[None]:
        """One thread at a time lets the world go on; another one waits until it is free.

        Raises:
            InvalidState: it does not become free.
        """
        here = threading.get_ident()
        if self._driver == here:
            yield
            return
        if not self._turn.acquire(timeout=TURN_S):
            raise InvalidState(
                f"another thread has been driving this simulated broker for {TURN_S:g} s: its clients are used by one thread at a "
                "time. A handler must not wait for a thread that uses one"
            )
        self._driver = here
        try:
            yield
        finally:
            self._driver = 0
            self._turn.release()

    def loop_here(self) -> Loop | None:
        """The loop of coroutines that runs in this thread."""
        here = threading.get_ident()
        return next((loop for loop in self.loops.values() if loop.thread == here), None)

    def lend(self, thread: int) -> int:
        """Let another thread drive; returns which one did."""
        before, self._driver = self._driver, thread
        return before

    # ---- what there is to do ----------------------------------------------------------------------------------

    def count(self, *states: State) -> int:
        """Tasks in these states, as the leader has them; 0 while nobody leads."""
        leader = self.leader()
        if leader is None:
            return 0
        counts = queries.counts(self.broker(leader).txn)
        return sum(counts[state.name.lower()] for state in states)

    def unended(self) -> int:
        return self.count(*(state for state in State if state not in ENDS))

    @property
    def is_in_handler(self) -> bool:
        """The one who asks is a handler."""
        return bool(self.plain.stack) or self.loop_here() is not None

    @property
    def has_jobs(self) -> bool:
        """A handler runs, or is to."""
        return bool(self.plain.queued or self.plain.stack or any(loop.busy for loop in self.loops.values()))

    def is_calm(self) -> bool:
        """Nothing runs, and nothing will happen by time: what has not ended now never will."""
        leader = self.leader()
        if self.plain.queued or any(loop.busy for loop in self.loops.values()):
            return False
        if leader is None:
            return True
        broker = self.broker(leader)
        if queries.jobs_unfinished(broker.txn):
            return False
        kept = (Timer.RETENTION, Timer.TOMBSTONE, Timer.OPERATION, Timer.RESULT_TTL, Timer.KEPT)
        settings = broker.applier.machine.settings
        timers = [queries.next_due_ms(broker.txn, kind, settings) for kind in Timer if kind not in kept]
        return len(broker.leases) == len(self.plain.stack) and all(at_ms is None for at_ms in timers)
