"""The broker as a plain object: the parts of one node, joined. It sees no socket, no task of trio and no clock but
the one it is given, so the simulator runs the very same object.

The shell (``run.py``) calls, on the one thread that decides:
    ``before_turn`` → ``node.turn`` → ``on_committed`` whenever something may have changed (``raft/driver.py``),
    ``on_role`` when leadership changes, ``look`` every ``services.PERIOD_MS`` or as ``look_wait_ms`` says,
    ``request`` for each request.

Leadership: a new leader proposes an entry of its own term, which also forms the cluster if it is the first. When
that entry is applied here, it knows all that was decided before: then it serves. It takes the leases and sessions
from the store and gives each one full term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import structlog

from tq import limits
from tq.broker.advance_timers import AdvanceTimers
from tq.broker.applier import Applier, LogEntry
from tq.broker.bulk_jobs import BulkJobs
from tq.broker.claims import Claims
from tq.broker.clock_watch import ClockState, ClockWatch
from tq.broker.connection import Connection
from tq.broker.deadlines import Deadlines
from tq.broker.disk_watch import DiskWatch
from tq.broker.dispatch import Dispatch
from tq.broker.events import Events
from tq.broker.expire_leases import ExpireLeases
from tq.broker.gather import Gather
from tq.broker.hand_over import HandOver
from tq.broker.histogram import Histogram
from tq.broker.holders import Holders
from tq.broker.holding import HOLD_MS, Holding
from tq.broker.leases import Leases
from tq.broker.log_time import LogTime
from tq.broker.long_work import InlineWork, LongWork
from tq.broker.proposer import Proposer
from tq.broker.relay import Relay, RelayedSocket
from tq.broker.replacing import Done, Replacing
from tq.broker.requests import answer_requests
from tq.broker.services import PERIOD_MS, REST_MS, Service
from tq.broker.snapshots import Snapshots
from tq.broker.status import Status
from tq.broker.waits import Waits
from tq.broker.worker_requests import Heartbeats, session_lost
from tq.config import Config
from tq.errors import NotLeader
from tq.machine import commands, queries
from tq.machine.answers import QUEUE_EVENTS, Applied, EventKind
from tq.machine.apply import Machine, Settings
from tq.protocol import messages as m
from tq.raft.node import Node
from tq.raft.reads import ReadEnd
from tq.raft.transport.frames import CHANNEL_FORWARD, CHANNEL_STATUS
from tq.store.store import Store
from tq.store.txn import ReadTxn
from tq.world import Clock, Disk, Random

LEADERLESS_MS = HOLD_MS
"""So long without a leader, longer than most elections, a node keeps what it has relayed to the last one, and holds what
needs the next one."""


@attrs.define
class Counters:
    """Since this node started."""

    submits: Histogram = attrs.field(factory=Histogram)  # from a submission read to its answer
    events: dict[tuple[str, str], int] = attrs.field(factory=dict)  # (queue, event) -> count
    leases_expired: int = 0
    stale_results: int = 0
    requests: int = 0
    connections_refused: int = 0


Send = Callable[[str, int, bytes], bool]


def alone(_peer: str, _channel: int, _message: bytes) -> bool:
    """``Send`` of a node without others."""
    return False


class Broker:
    def __init__(
        self,
        config: Config,
        store: Store,
        node: Node,
        disk: Disk,
        clock: Clock,
        random: Random,
        cluster_id: bytes,
        send: Send = alone,
        new_work: Callable[[], LongWork] = InlineWork,
    ) -> None:
        """
        Args:
            cluster_id: of the group that this node belongs to (``tq.raft.identity``).
            send: (node, channel, message) queues a message for another node; False if it cannot be.
            new_work: where work runs that takes longer than the loop may stand still.
        """
        self._log = structlog.get_logger("tq.broker").bind(node=config.node.id)
        self.config = config
        self.node = node
        self.clock = clock
        self.started_monotonic_ms = clock.monotonic_ms()
        self.is_stopping = False
        self.is_serving = False
        self.counters = Counters()
        self.dirty: dict[Connection, None] = {}  # in order, so that a simulated run can be repeated
        self.connections: set[Connection] = set()
        self._random = random
        self._store = store
        self._settings = _settings(config)
        self._settings_seen: Settings | None = None
        self.applier = Applier(
            store, lambda: Machine(store.txn, self._settings), node.read, clock.monotonic_s, self._on_applied
        )  # fmt: skip
        self.log_time = LogTime(clock, queries.log_time_ms(store.txn), lambda: node.clock_offsets_ms.values())
        self.stir: Callable[[], None] = _nothing  # set by who waits longer for the next look
        self.deadlines = Deadlines(clock, lambda: self.stir())
        self.relay = Relay(
            random,
            lambda peer, message: send(peer, CHANNEL_FORWARD, message),
            self._open_relayed,
            lambda connection: answer_requests(self, connection),
        )
        self._others = others = [peer.id for peer in config.cluster.peers if peer.id != config.node.id]
        self.gather = Gather(
            others,
            lambda peer, message: send(peer, CHANNEL_STATUS, message),
            self.node_status,
            self.deadlines,
            self._heard_status,
        )
        self.clock_watch = ClockWatch(
            clock,
            others,
            lambda: self.gather.ask(lambda _others: self.clock_watch.judge()),
            self._clock_changed,
        )
        self.peer_statistics: Callable[[], dict[str, dict[str, Any]]] = dict  # set by who carries the messages
        self._reachable: set[str] = set()
        self._hand_over = HandOver(
            node, clock, self.clock_watch, lambda: self._reachable, self._wake, self._log
        )  # fmt: skip
        self._replacing = Replacing(
            node, config.node.id, cluster_id, lambda: self._reachable, self._wake, self._log
        )  # fmt: skip
        self._leader_seen: str | None = None
        self._leader_seen_ms = clock.monotonic_ms() - LEADERLESS_MS
        self._way_lost_ms = self._leader_seen_ms  # when the way to the leader was lost last
        self._holding = Holding(clock, lambda connection, message: self.dispatch.request(connection, message))
        self.cluster_id = cluster_id
        self._reads: dict[int, Callable[[int | None], None]] = {}  # by ticket
        self.proposer = Proposer(node, self.log_time, self._wake)
        self.leases = Leases(clock, config.leases.lease_ms, config.leases.session_ms)
        self.waits = Waits(self.deadlines)
        self.events = Events(self._queue_name, self._type_name)
        self.events.start(self.applier.applied_index)
        self.disk_watch = DiskWatch(disk, clock, config.limits.disk_free_min_bytes, self._store_reusable_bytes)
        self.claims = Claims(
            clock,
            self.deadlines,
            lambda: self.applier.machine,
            lambda session: queries.last_seq(store.txn, session),
            self._propose_claim,
            lambda: self.applier.applied_index,
            self.release_undelivered,
        )
        self.holders = Holders(self.claims, self.leases, self.proposer.propose, lambda: self.is_serving)
        self.dispatch = Dispatch(
            self,
            self.proposer.propose,
            self.claims,
            self.leases,
            self.holders,
            self.waits,
            self.events,
            Heartbeats(config.leases.lease_ms, config.leases.heartbeat_ms, config.leases.session_ms),
            random,
        )
        self._timers = AdvanceTimers(
            lambda kind: queries.next_due_ms(store.txn, kind, self.applier.machine.settings),
            self.log_time.now_ms,
            random,
            self.proposer.propose,
            lambda: self.applier.applied_index,
        )
        self._services: list[Service] = [
            ExpireLeases(self.leases, self.proposer.propose),
            self._timers,
            BulkJobs(lambda: queries.jobs_unfinished(store.txn), self.proposer.propose),
        ]
        self.status = Status(self, store)
        self._checkpoint_due_ms = clock.monotonic_ms() + config.storage.checkpoint_ms
        self.snapshots = Snapshots(
            node,
            store,
            disk,
            clock,
            new_work,
            config.limits.disk_free_min_bytes,
            self._state_replaced,
            self._wake,
            self._log,
        )

    # ---- called by the shell -----------------------------------------------------------------------

    def before_turn(self) -> None:
        leader = self.node.leader_id
        if leader != self._leader_seen:
            self._leader_seen, self._leader_seen_ms = leader, self.clock.monotonic_ms()
            if leader is not None:
                self.relay.leader_is(leader)
                if leader != self.config.node.id:  # else when it serves
                    self._holding.release()
                self.flush()
        self.snapshots.before_turn()
        if self.proposer.has_work:
            self.claims.feed_expected(has_room=self.proposer.has_room)
        self.proposer.before_turn()

    def on_committed(self, entries: Sequence[LogEntry]) -> None:
        """Apply, answer, and send what was answered."""
        self.stir()
        self.applier.apply(entries)
        self._replacing.run_once()
        self.flush()

    def on_role(self, is_leader: bool) -> None:
        self.stir()
        if is_leader:
            self._log.info("leads", term=self.node.term)
            # An entry of this term, so that all before it is known to be committed; the first forms the cluster.
            forming = commands.ClusterForm(self.cluster_id, self.config.cluster.name)
            self.proposer.propose(forming, 1, 64, self._formed)
            # The leader's configuration counts for all. Without the log each node would apply by its own.
            settings = commands.SettingsSet(*attrs.astuple(self._settings))
            self.proposer.propose(settings, 1, 64, _ignore)
            return
        self.is_serving = False
        leader = self.leader_address
        self.proposer.leadership_lost(leader)
        self.claims.clear(NotLeader("this node is not the leader any more", retry_after=0.1, leader=leader))
        self.leases.clear()
        self.flush()
        self._log.info("follows", term=self.node.term, leader=self.node.leader_id)

    def on_reads(self, ends: Sequence[ReadEnd]) -> None:
        """Leadership was confirmed for these reads, or is over."""
        for end in ends:
            self._reads.pop(end.ticket)(end.index)
        self.flush()

    def on_peer(self, peer: str, is_reachable: bool) -> None:
        """Whether messages can be sent to another node has changed."""
        (self._reachable.add if is_reachable else self._reachable.discard)(peer)
        if is_reachable:
            self.relay.tell_again()
            self._holding.release()
            self.flush()
        else:
            if peer == self.node.leader_id:
                self._way_lost_ms = self.clock.monotonic_ms()
            self.relay.peer_lost(peer)
            self.flush()

    def on_peer_message(self, peer: str, channel: int, message: bytes) -> None:
        if channel == CHANNEL_FORWARD:
            self.relay.received(peer, message)
        else:
            self.gather.received(peer, message)
        self.flush()

    def look(self) -> None:
        """What is due by time: deadlines, services of the leader, a checkpoint, the disk."""
        self.deadlines.run()
        self.relay.tell_again()
        self._replacing.run_once()
        self._holding.look()
        if self.node.leader_id is None and self._is_leaderless:
            self.relay.leader_is(None)  # cut off, it may be: the clients can go elsewhere
        self.disk_watch.run_once()
        self.clock_watch.run_once()
        if self.is_serving and not self.is_stopping:
            self._hand_over.run_once()
            for service in self._services:
                service.run_once()
        now_ms = self.clock.monotonic_ms()
        if now_ms >= self._checkpoint_due_ms:
            self._checkpoint_due_ms = now_ms + self.config.storage.checkpoint_ms
            self.checkpoint()
        self.snapshots.look()
        self.flush()

    def look_wait_ms(self) -> float:
        """Until the next look, if nothing stirs before. With nothing to do by time, a wake is what an idle node costs."""
        is_at_rest = (
            self.applier.applied_index == self._store.checkpointed_index
            and not len(self.leases)
            and self.proposer.is_idle
            and self.relay.is_idle
            and not self.is_stopping
            and not self._holding
            and not self.snapshots.is_busy
        )
        if not is_at_rest:
            return PERIOD_MS
        wait_ms: float = REST_MS
        deadline_ms = self.deadlines.wait_ms()
        if deadline_ms is not None:
            wait_ms = min(wait_ms, deadline_ms)
        if self.is_serving:
            wait_ms = min(wait_ms, self._timers.wait_ms())
        return max(PERIOD_MS, wait_ms)

    def checkpoint(self) -> None:
        if self.applier.checkpoint():
            self.node.compact(self.snapshots.compactable(self._store.checkpointed_index))

    def request(self, connection: Connection, message: m.Message) -> None:
        self.counters.requests += 1
        self.dispatch.request(connection, message)

    def connection_refused(self) -> None:
        """There are as many as this broker takes."""
        self.counters.connections_refused += 1

    def release_undelivered(self, session: bytes, grants: list[Any]) -> None:
        """A connection closed before its grants had left, or their claim was given up."""
        self.holders.release_undelivered(session, grants)

    def flush(self) -> None:
        """Hand all queued replies to the kernel."""
        while self.dirty:
            connection = next(iter(self.dirty))
            del self.dirty[connection]
            connection.flush()

    def hand_over(self, why: str) -> bool:
        """Let another node lead; see ``HandOver.begin``."""
        return self._hand_over.begin(why)

    def stop(self) -> None:
        """No new work from now on: tell the peers, answer what is only waiting."""
        self.is_stopping = True
        for connection in list(self.connections):
            connection.send(m.GoAway("the broker is stopping", self.leader_address))
        self.claims.stop()
        self.waits.clear()
        self._holding.release()  # to be refused
        self.flush()

    @property
    def has_peers(self) -> bool:
        """Another node can be reached now."""
        return bool(self._reachable)

    @property
    def is_idle(self) -> bool:
        """Nothing in flight, nothing unsent: a stopping broker may close."""
        is_written = all(connection.out_bytes == 0 for connection in self.connections)
        return is_written and self.proposer.is_idle and self.relay.is_idle

    @property
    def is_ready(self) -> bool:
        """Clients may be sent here: this node leads and serves, or it follows and has what its leader has, but for what
        comes in just now. So one node of a cluster may be restarted after the other."""
        if self.is_stopping or self.is_serving:
            return self.is_serving and not self.is_stopping
        is_heard = self.node.told_index is not None
        return is_heard and self.applied_index >= self.told_index - limits.READY_LAG_ENTRIES_MAX

    # ---- what dispatch asks (tq.broker.dispatch.Facts) -----------------------------------------------

    @property
    def txn(self) -> ReadTxn:
        return self._store.txn

    @property
    def applied_index(self) -> int:
        return self.applier.applied_index

    @property
    def told_index(self) -> int:
        return max(self.node.commit_index, self.node.told_index or 0)

    @property
    def leader_address(self) -> str | None:
        """Client address of the leader, if it is known."""
        leader = self.node.leader_id
        if leader == self.config.node.id:
            return self.config.client_address
        return next((peer.client for peer in self.config.cluster.peers if peer.id == leader), None)

    @property
    def disk_is_low(self) -> bool:
        return self.disk_watch.is_low or self.disk_watch.are_followers_low(self._others, self._reachable)

    def forward(self, connection: Connection, message: m.Message) -> None:
        leader = self.node.leader_id
        if self.node.leads_term and not self.is_stopping:
            self._holding.hold(connection, message)  # it serves soon
            return
        if not connection.is_relayed and leader not in self._reachable and not self._is_leaderless:
            self._holding.hold(connection, message)
            return
        if connection.is_relayed or leader is None or leader == self.config.node.id:
            raise NotLeader("this node does not lead the cluster", retry_after=0.1, leader=self.leader_address)
        if self._holding:
            self._holding.release()  # what came before goes first
        self.relay.forward(leader, connection, message)

    @property
    def _is_leaderless(self) -> bool:
        """For longer than most elections take no leader is heard, or none can be reached: cut off, it may be."""
        if self.node.leader_id is None and self._leader_seen is not None:
            return False  # just now
        since_ms = self._leader_seen_ms if self.node.leader_id is None else self._way_lost_ms
        return self.clock.monotonic_ms() - since_ms >= LEADERLESS_MS

    def read_index(self, done: Callable[[int | None], None]) -> None:
        if not self.config.cluster.peers:
            done(self.applied_index)  # a node alone is its own majority
            return
        self._reads[self.node.read_index()] = done
        self._wake()

    def monotonic_s(self) -> float:
        return self.clock.monotonic_s()

    def submitted(self, began_s: float) -> None:
        self.counters.submits.observe(self.clock.monotonic_s() - began_s)

    def log_time_ms(self) -> int:
        return self.log_time.now_ms()

    def hello(self, rid: int) -> m.HelloReply:
        return self.status.hello(rid)

    def stats(self) -> dict[str, Any]:
        return self.status.numbers()

    def node_status(self) -> dict[str, Any]:
        return self.status.of_node()

    def cluster_status(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Ask all nodes; ``done`` gets the whole, with those that did not answer shown as such."""

        def gathered(others: dict[str, dict[str, Any] | None]) -> None:
            done(self.status.of_cluster(others))
            self.flush()

        self.gather.ask(gathered)

    def transfer(self, leader: str | None, to: str | None) -> dict[str, Any]:
        """Let another node lead: ``to``, or the fittest. Where another than ``leader`` leads it is done already."""
        me = self.config.node.id
        if to == me or leader not in (None, me):
            return {"leader": me, "to": None}
        return {"leader": me, "to": self._hand_over.begin_to(to)}

    def replace(self, node: object, incarnation: object, done: Done) -> None:
        """Another data directory for a node; see ``Replacing.ask``."""
        self._replacing.ask(node, incarnation, done)

    # ---- inside ------------------------------------------------------------------------------------

    def _clock_changed(self, before: ClockState) -> None:
        watch = self.clock_watch
        if watch.state is ClockState.OK:
            self._log.info("the clock is right again", offset_ms=watch.offset_ms)
        else:
            self._log.warning(
                "the clock is wrong, set it (chronyc makestep, or the like)"
                if watch.state is ClockState.FAR
                else "the clock differs from those of the others",
                offset_ms=watch.offset_ms,
                before=before.value,
            )

    def _formed(self, answer: object, index: int) -> None:
        if isinstance(answer, Exception):
            self._log.warning("could not begin to lead", error=str(answer))
            return
        self.leases.clear()
        for session, name, types, queues in queries.sessions(self.txn):
            self.leases.open(session, name, types, queues)
        for session, id, fence, grace_ms in queries.held(self.txn):
            self.leases.granted(session, fence, [id])
            if grace_ms is not None:
                self.leases.cancelling(fence, grace_ms)
        self.is_serving = True
        self._holding.release()
        self._log.info("serves", index=index, sessions=len(self.leases.sessions), leases=len(self.leases))

    def _heard_status(self, peer: str, status: dict[str, Any]) -> None:
        self.clock_watch.heard(peer, status["wall_ms"])
        self.disk_watch.heard(peer, bool(status["disk_is_low"]))

    def _store_reusable_bytes(self) -> int:
        store = self._store.statistics()
        return max(0, store.file_bytes - store.used_bytes)

    def _state_replaced(self) -> None:
        """The store has the state of another node now. What was read from the old one is read anew, who waits for what
        lies in between is answered, and who listens is told that there is a gap."""
        self.applier.begin_anew()
        index = self.applier.applied_index
        self.log_time.seen(queries.log_time_ms(self.txn))
        self.events.begin_anew(index)
        self.waits.begin_anew(index)

    def _on_applied(self, entry: LogEntry, applied: Applied | None) -> None:
        if applied is None:
            self.proposer.applied(entry.term, entry.index, [])
            self.waits.reached(entry.index)
            return
        self.log_time.seen(applied.time_ms)
        if self.applier.machine.settings is not self._settings_seen:
            self._tell_settings()
        if self.is_serving:
            self._lead(applied)
        self.proposer.applied(entry.term, entry.index, applied.answers)
        self.waits.applied(entry.index, applied.events)
        self.events.applied(applied)
        self._count(applied)
        if self.is_serving:
            if applied.cancels:
                self.holders.push_cancels(applied.cancels)
            if applied.ready:
                self.claims.became_ready(applied.ready)
            self.claims.feed_rest()

    def _tell_settings(self) -> None:
        self._settings_seen = self.applier.machine.settings
        own = attrs.asdict(self._settings)
        differs = {name: value for name, value in attrs.asdict(self._settings_seen).items() if value != own[name]}
        if differs:
            self._log.warning("the leader's settings count, and this node's configuration has others", **differs)

    def _lead(self, applied: Applied) -> None:
        """The leader's memory follows the log."""
        leases = self.leases
        for session in applied.sessions_opened:
            record = queries.session_record(self.txn, session)
            if record is not None:
                leases.open(session, *record)
        for run in applied.granted_runs:
            leases.granted(*run)
        leases.released(applied.released)
        for session in applied.sessions_ended:
            leases.close(session)
            self.claims.session_ended(session, session_lost())
            self.holders.session_ended(session)

    def _count(self, applied: Applied) -> None:
        totals = self.counters.events
        for (kind, queue), count in applied.events.counts().items():
            if kind in QUEUE_EVENTS:
                continue  # of no task
            name = (self._queue_name(queue), EventKind(kind).name.lower())
            totals[name] = totals.get(name, 0) + count
            if kind == EventKind.CRASHED:
                self.counters.leases_expired += count
            elif kind == EventKind.STALE_REFUSED:
                self.counters.stale_results += count

    def _propose_claim(self, claim: commands.Claim, done: Callable[[object, int], None]) -> None:
        size = 64 + sum([len(queue.encode()) + 2 for queue in claim.queues])
        self.proposer.propose(claim, claim.max_n, size, done)

    def _open_relayed(self, socket: RelayedSocket, peer: str) -> Connection:
        """The end here of a client that is connected to another node."""
        connection = Connection(
            socket,  # type: ignore[arg-type]  # it writes and closes; nobody reads it
            peer,
            self.dirty,
            self.release_undelivered,
        )
        connection.is_relayed = True
        connection.protocol.skip_hello()
        self.connections.add(connection)
        connection.on_close[self] = lambda: self.connections.discard(connection)
        return connection

    def _wake(self) -> None:
        """Ask the shell for a turn."""
        if self.node.wake is not None:
            self.node.wake()

    def _queue_name(self, number: int) -> str:
        return self.applier.machine.queue_name(number)

    def _type_name(self, number: int) -> str:
        return self.applier.machine.type_name(number)


def _nothing() -> None:
    """Nobody waits to be told."""


def _ignore(_answer: object, _index: int) -> None:
    """What was lost is proposed by the next leader."""


def _settings(config: Config) -> Settings:
    return Settings(
        lease_ms=config.leases.lease_ms,
        crashes_max=config.leases.crashes_max,
        finished_keep_ms=config.retention.finished_keep_ms,
        finished_keep_tasks=config.retention.finished_keep_tasks,
        dead_keep_ms=config.retention.dead_keep_ms,
        tombstone_keep_ms=config.retention.tombstone_keep_ms,
    )
