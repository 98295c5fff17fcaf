"""The main loop of a broker: its parts, started top to bottom, stopped bottom to top.

SIGTERM or SIGINT: peers are told (GOAWAY), what is in flight is answered, the store is checkpointed, and the
process ends with 0. A broken invariant, a failed sync or damaged data end it at once with a message and 1;
nothing is acknowledged after that.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from socket import socket

import structlog
import trio

from tq import limits, logs
from tq.broker import health, listen, services
from tq.broker.broker import Broker, alone
from tq.broker.long_work import ThreadWork
from tq.broker.peers import Peers
from tq.broker.snapshot_installing import unfinished
from tq.broker.waiting import Waiting
from tq.config import Config, read_secret
from tq.errors import ConfigError, StorageFailed, TqError
from tq.machine import queries
from tq.metrics import CONTENT_TYPE, BrokerCollector, render
from tq.raft import driver
from tq.raft.identity import Identity
from tq.raft.node import Node
from tq.raft.segments import DIRECTORY as JOURNAL_DIRECTORY
from tq.raft.snapshots import pending_snapshot
from tq.raft.sync import new_sync
from tq.store.lmdb_store import LmdbStore
from tq.version import VERSION
from tq.world import RealClock, RealDisk, RealRandom

STORE_DIRECTORY = "store"
Wait = Callable[[], Awaitable[object]]
ELECTION_MS = {"default": limits.RAFT_ELECTION_MS_DEFAULT, "fast": limits.RAFT_ELECTION_MS_FAST}
HEARTBEAT_MS = {"default": limits.RAFT_HEARTBEAT_MS_DEFAULT, "fast": limits.RAFT_HEARTBEAT_MS_FAST}


def main(config: Config) -> int:
    """Run a broker until it is told to stop. Returns the exit code; what went wrong is on standard error."""
    logs.configure(config.log.level, config.log.format)
    failures: list[TqError] = []
    try:
        trio.run(serve, config)
    except* TqError as group:
        failures = list(_leaves(group))
    for error in failures:
        print(f"tq broker: {error.message}", file=sys.stderr)
    return 1 if failures else 0


async def serve(config: Config) -> None:
    """The broker, from its files to its sockets and back.

    Raises:
        ConfigError: an address or the data directory cannot be used; another broker has it.
        StorageFailed, DataDamaged: of the disk; nothing that it concerns was acknowledged.
    """
    clock, random = RealClock(), RealRandom()
    with ExitStack() as stack:
        disk = open_disk(config.node.data_dir)
        stack.callback(disk.unlock)
        ids = [entry.id for entry in config.cluster.peers]
        has_journal = disk.exists(JOURNAL_DIRECTORY)
        identity = Identity(disk, random, node_id=config.node.id, peers=ids, has_journal=has_journal)
        clients = stack.enter_context(listen.open_listener("node.listen", config.node.listen))
        metrics = stack.enter_context(listen.open_listener("node.metrics_listen", config.node.metrics_listen))
        peers = None
        if len(ids) > 1:
            peers = Peers(config, identity, read_secret(config.cluster.secret_file), clock, random)
            others = stack.enter_context(
                listen.open_listener("node.peer_listen", config.node.peer_listen, is_authenticated=config.tls.is_on)
            )
        process = Process(config, disk, identity, peers, clients, clock, random)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_signal, signals, process.stopping)
                nursery.start_soon(health.serve_health, metrics, process.routes)
                if peers is not None:
                    nursery.start_soon(peers.run, others)
                    await process.form(peers)
                if identity.is_formed and not process.stopping.is_set():
                    await process.serve_group()
                nursery.cancel_scope.cancel()


class Process:
    """What stays the same from the first moment of a broker to its last, and what it does one after the other."""

    def __init__(
        self, config: Config, disk: RealDisk, identity: Identity, peers: Peers | None, clients: socket, clock: RealClock,
        random: RealRandom,
    ) -> None:  # fmt: skip
        self.config = config
        self.disk = disk
        self.identity = identity
        self.peers = peers
        self.clients = clients
        self.clock = clock
        self.random = random
        self.stopping = trio.Event()
        self.routes = _routes_before(identity)
        self._log = structlog.get_logger("tq.broker").bind(node=config.node.id)

    async def form(self, peers: Peers) -> None:
        """Until the group is formed, or it is told to stop. Clients are told how far that is."""
        if self.identity.is_formed:
            return
        waiting = Waiting(self.config, self.clock, lambda: self.identity.waits_for, peers.statistics)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen.accept_clients, waiting, self.clients, nursery)
            await _either(peers.formed, self.stopping.wait)
            waiting.close()
            nursery.cancel_scope.cancel()

    async def serve_group(self) -> None:
        """A member of a formed group, until it is told to stop."""
        config = self.config
        with ExitStack() as stack:
            store = LmdbStore.open(self.disk, STORE_DIRECTORY, self.clock)
            stack.callback(store.close)
            await _finish_installation(self.disk, store)
            node = self._new_node(store)
            stack.callback(node.close)
            broker = self._new_broker(store, node)
            if self.peers is not None:
                self.peers.attach(node, broker)
                stack.callback(self.peers.detach)
            stack.callback(broker.snapshots.close)
            _freeze_garbage()
            self._log.info(
                "starts",
                version=VERSION,
                listen=config.node.listen,
                metrics=config.node.metrics_listen,
                data=config.node.data_dir,
                applied=broker.applied_index,
            )
            self.routes.update(_routes(broker))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    driver.run, node, broker.before_turn, broker.on_committed, broker.on_role, broker.on_reads
                )
                nursery.start_soon(_look, broker)
                accepting = trio.CancelScope()
                nursery.start_soon(_accept, accepting, broker, self.clients, nursery)
                await self.stopping.wait()
                accepting.cancel()
                self._log.info("stops", connections=len(broker.connections))
                await _stop(broker)
                nursery.cancel_scope.cancel()
            broker.checkpoint()
            self._log.info("stopped", applied=broker.applied_index)

    def _new_node(self, store: LmdbStore) -> Node:
        config = self.config
        return Node(
            node_id=config.node.id,
            peers=[entry.id for entry in config.cluster.peers],
            disk=self.disk,
            clock=self.clock,
            random=self.random,
            sync=new_sync(config.storage.sync, self.clock),
            applied_index=store.checkpointed_index,
            election_ms=ELECTION_MS[config.cluster.profile],
            heartbeat_ms=HEARTBEAT_MS[config.cluster.profile],
            segment_bytes=config.storage.segment_bytes,
            keep_bytes=config.storage.log_keep_bytes,
            joins=self.identity.joins,
            founders=self.identity.members,
        )

    def _new_broker(self, store: LmdbStore, node: Node) -> Broker:
        cluster_id = self.identity.cluster_id
        assert cluster_id is not None
        send = alone if self.peers is None else self.peers.send
        return Broker(
            self.config, store, node, self.disk, self.clock, self.random, cluster_id, send, new_work=ThreadWork
        )  # fmt: skip


async def _finish_installation(disk: RealDisk, store: LmdbStore) -> None:
    """Of a snapshot that was cut short. What is long runs on a thread: this process must look alive meanwhile."""
    pending = await trio.to_thread.run_sync(pending_snapshot, disk)
    filling = unfinished(pending, store)
    if filling is not None:
        await trio.to_thread.run_sync(filling.run)
        store.adopt(filling.intake)
    if pending is not None:
        pending.close()


def open_disk(data_dir: str) -> RealDisk:
    """The data directory, locked for this process."""
    try:
        disk = RealDisk(data_dir)
        disk.lock()
    except BlockingIOError as error:
        raise ConfigError(
            f'node.data_dir = "{data_dir}" is in use: another broker runs on it; stop that one, or use another folder'
        ) from error
    except OSError as error:
        raise StorageFailed(f'node.data_dir = "{data_dir}" cannot be used: {error.strerror}') from error
    return disk


async def _look(broker: Broker) -> None:
    while True:
        wait_ms = broker.look_wait_ms()
        if wait_ms > services.PERIOD_MS:
            stirred = trio.Event()
            broker.stir = stirred.set
            with trio.move_on_after(wait_ms / 1000):
                await stirred.wait()
        if wait_ms <= services.PERIOD_MS or stirred.is_set():
            await trio.sleep(services.PERIOD_MS / 1000)
        broker.look()


async def _accept(scope: trio.CancelScope, broker: Broker, listener: socket, nursery: trio.Nursery) -> None:
    with scope:
        await listen.accept_clients(broker, listener, nursery)


async def _until_signal(signals: AsyncIterator[int], stopping: trio.Event) -> None:
    async for _signal in signals:
        stopping.set()
        return


async def _either(first: Wait, second: Wait) -> None:
    """Until one of them returns."""

    async def run(wait: Wait) -> None:
        await wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, first)
        nursery.start_soon(run, second)


async def _stop(broker: Broker) -> None:
    """Another leads, and nothing is in flight any more; but not longer than an election and GRACEFUL_STOP_MS."""
    if broker.hand_over("it stops"):
        with trio.move_on_after(ELECTION_MS[broker.config.cluster.profile][1] / 1000):
            # Clients are told whom to ask then. If all others go as well, nobody is waited for.
            while broker.has_peers and broker.node.leader_id in (None, broker.config.node.id):
                await trio.sleep(0.005)
    broker.stop()
    with trio.move_on_after(limits.GRACEFUL_STOP_MS / 1000):
        while not broker.is_idle:
            await trio.sleep(0.01)


def _leaves(group: BaseExceptionGroup[TqError]) -> list[TqError]:
    found: list[TqError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def _freeze_garbage() -> None:
    """What is alive now lives as long as the process: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _routes_before(identity: Identity) -> health.Routes:
    """Until the group is formed."""
    return {
        "/health/live": lambda: health.json_answer(200, {"live": True}),
        "/health/ready": lambda: health.json_answer(503, {"ready": False, "waits_for": identity.waits_for}),
    }


def _routes(broker: Broker) -> health.Routes:
    collector = BrokerCollector(broker.stats, lambda: queries.queues(broker.txn, broker.log_time_ms()))

    def ready() -> health.Answer:
        status = 200 if broker.is_ready else 503
        return health.json_answer(
            status, {"ready": status == 200, "role": broker.node.role.name.lower(), "leader": broker.node.leader_id}
        )

    return {
        "/metrics": lambda: (200, CONTENT_TYPE, render(collector)),
        "/health/live": lambda: health.json_answer(200, {"live": True}),
        "/health/ready": ready,
    }
