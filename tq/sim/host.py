"""One machine of a simulated cluster: what outlives its processes (disk, store, clock), and the process that runs on it.

A process is what ``broker/run.py`` starts: identity, peers, node, broker, the driver's passes, a look every PERIOD_MS.
All of them are the real ones; the store is the one in memory, which falls back to its last checkpoint when the process
ends. ``serve`` does what is due now, in the order of the real loop.
"""

from __future__ import annotations

from collections.abc import Callable

from tq import config
from tq.broker import services
from tq.broker.broker import Broker
from tq.broker.snapshot_installing import finish_installation
from tq.errors import TqError
from tq.raft.driver import Passes
from tq.raft.identity import Identity
from tq.raft.node import Entry, Node
from tq.raft.segments import DIRECTORY as JOURNAL_DIRECTORY
from tq.raft.sync import InlineSync, SyncStrategy
from tq.raft.transport.frames import CHANNEL_RAFT
from tq.raft.transport.link import Ident
from tq.sim.client import KERNEL_BYTES, SimClient
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.late_sync import LateSync
from tq.sim.peers import SimPeers
from tq.sim.platter import Platter
from tq.sim.random import SeededRandom
from tq.sim.streams import Arrival, SimStreams
from tq.store.memory import MemoryStore

ELECTION_MS = (200, 400)
HEARTBEAT_MS = 50
PART_BYTES = 4 << 10  # of a snapshot
PASSES_AT_ONCE = 50  # a node that always has something to do would stop the time
PEER_PORT = 8000
CLIENT_PORT = 9000


class Trouble:
    """What happens to messages of Raft between link and node: worse than TCP does. All in permille."""

    def __init__(self) -> None:
        self.loss = 0
        self.duplicate = 0
        self.late = 0
        self.late_ms = 60


class Host:
    """
    Attributes:
        broker, node, peers: of the process; None while there is none. node and broker come when the cluster is formed.
        is_paused: as by SIGSTOP: time passes, nothing is done, what comes waits in the kernel.
        running_ms: true time that processes have run here, pauses not counted.
        rate_permille: how fast its clock runs.
        sync_ms: bounds of the time that a sync takes; None: it runs inline and takes none.
        segment_bytes, keep_bytes: of the journal; what is kept of it for members that are behind.
        part_bytes: of a snapshot. election_ms, heartbeat_ms: of the node; all of these count from the next start on.
        platter: what of its log is synced.
        on_broker: sees each new broker before it applies anything.
        on_entries: sees what is committed, before it is applied.
    """

    def __init__(self, name: str, names: list[str], leases: config.LeasesSection, random: SeededRandom,
                 streams: SimStreams, true_ms: Callable[[], int]) -> None:  # fmt: skip
        self.name = name
        self.random = random
        self.disk = SimDisk()
        self.clock = VirtualClock()
        self.store = MemoryStore(self.disk.step, self.clock)
        self.config = _config(name, names, leases)
        self.rate_permille = 1000
        self.sync_ms: tuple[int, int] | None = None
        self.segment_bytes = 16 << 10
        self.keep_bytes = 1 << 30
        self.part_bytes = PART_BYTES
        self.election_ms = ELECTION_MS
        self.heartbeat_ms = HEARTBEAT_MS
        self.trouble = Trouble()
        self.is_paused = False
        self.running_ms = 0
        self.lives = 0
        self.platter = Platter()
        self.failures: list[TqError] = []
        self.identity: Identity | None = None
        self.peers: SimPeers | None = None
        self.node: Node | None = None
        self.broker: Broker | None = None
        self.clients: list[SimClient] = []
        self.on_broker: Callable[[Host, Broker], None] = lambda host, broker: None
        self.on_entries: Callable[[Host, list[Entry]], None] = lambda host, entries: None
        self.wake_ms = self.look_ms = self.sync_due_ms = 0  # true time
        self._others = [other for other in names if other != name]
        self._streams = streams
        self._true_ms = true_ms
        self._passed = 0
        self._mailbox: list[Arrival] = []
        self._late: list[tuple[int, Ident, bytes]] = []  # due, who sent it, message
        self._sync: SyncStrategy | None = None
        self._passes: Passes | None = None
        self._is_rung = False
        self._peers_due_ms = 0  # true time at which the connections to the others have something to do

    @property
    def is_up(self) -> bool:
        return self.peers is not None

    @property
    def installed(self) -> int:
        """Snapshots that this process has taken."""
        return self.broker.snapshots.installed if self.broker is not None else 0

    @property
    def reachable(self) -> list[str]:
        return self.peers.reachable if self.peers is not None else []

    @property
    def life(self) -> str:
        return f"{self.name}/{self.lives}"

    def pass_time(self, true_ms: int) -> None:
        before_ms, self._passed = self._passed // 1000, self._passed + true_ms * self.rate_permille
        self.clock.advance_ms(self._passed // 1000 - before_ms)
        if self.is_up and not self.is_paused:
            self.running_ms += true_ms

    # ---- lives --------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process on what is there. The power may go, a fault of the disk may stop it."""
        assert not self.is_up
        self.lives += 1
        self._streams.powered.add(self.name)
        self.disk.lock()
        has_journal = self.disk.exists(JOURNAL_DIRECTORY)
        self.identity = Identity(
            self.disk, self.random.fork(), node_id=self.name, peers=self._others, has_journal=has_journal
        )  # fmt: skip
        self.peers = SimPeers(
            self._others, self.identity, self.clock, self.random.fork(), self._streams, self._true_ms,
            self._on_message, self._on_change, self._on_gone, lambda: None,
        )  # fmt: skip
        self._streams.listening.add(self.name)
        self.wake_ms = self.look_ms = self._peers_due_ms = self._true_ms()
        self._attach_if_formed()

    def _attach_if_formed(self) -> None:
        if self.node is not None or self.identity is None or self.peers is None or not self.identity.is_formed:
            return
        assert self.identity.cluster_id is not None
        self._sync = InlineSync(self.clock) if self.sync_ms is None else LateSync()
        self.sync_due_ms = 0
        finish_installation(self.disk, self.store)
        node = Node(
            node_id=self.name, peers=[self.name, *self._others], disk=self.disk, clock=self.clock,
            random=self.random.fork(), sync=self._sync, applied_index=self.store.checkpointed_index,
            election_ms=self.election_ms, heartbeat_ms=self.heartbeat_ms, segment_bytes=self.segment_bytes,
            tail_bytes_max=self.segment_bytes // 2, keep_bytes=self.keep_bytes, part_bytes=self.part_bytes,
            joins=self.identity.joins, founders=self.identity.members,
        )  # fmt: skip
        broker = Broker(
            self.config, self.store, node, self.disk, self.clock, self.random.fork(), self.identity.cluster_id,
            self.peers.send,
        )  # fmt: skip
        peers = self.peers
        node.send = self._send_raft
        self.identity.refusal = node.refusal
        node.on_members = self._members_changed
        self._members_changed()
        node.wake = self._ring
        self.node, self.broker = node, broker
        self.on_broker(self, broker)
        for peer in peers.reachable:
            broker.on_peer(peer, True)
        self._passes = Passes(node, broker.before_turn, self._on_committed, broker.on_role, broker.on_reads)

    def kill(self) -> None:
        """kill -9: what the kernel has stays, all else of the process is gone."""
        self._end()
        self._streams.died(self._true_ms(), self.name)
        self.disk.crash()

    def lose_power(self) -> None:
        """What was not synced is kept, torn or gone."""
        self._end()
        self._streams.lost_power(self.name)
        self.disk.power_loss(self.random)

    def _end(self) -> None:
        for client in self.clients:
            client.reads = False
            client.socket.is_broken = True
        self.clients = []
        if self.node is not None:
            self.platter.note(self.node.journal)
        self._streams.listening.discard(self.name)
        self.node = self.broker = self.peers = self.identity = self._passes = self._sync = None
        self._mailbox, self._late = [], []
        self.is_paused = self._is_rung = False
        self.store.power_loss()

    # ---- clients --------------------------------------------------------------------------------------

    @property
    def accepts(self) -> bool:
        return self.broker is not None and not self.is_paused

    def connect(self, room: int = KERNEL_BYTES) -> SimClient:
        assert self.broker is not None
        client = SimClient(self.broker, self.name, self.disk.check_power, room)
        self.clients.append(client)
        return client

    # ---- time -----------------------------------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        self._mailbox.append(arrival)

    def next_ms(self) -> int:
        """True time at which ``serve`` has something to do."""
        if self._mailbox or self._is_rung:
            return self._true_ms()
        for client in self.clients:
            if client.has_news:
                return self._true_ms()
        due_ms = self._peers_due_ms
        if self.node is not None:
            due_ms = min(due_ms, self.wake_ms, self.look_ms)
        if self.sync_due_ms:
            due_ms = min(due_ms, self.sync_due_ms)
        for at_ms, _peer, _message in self._late:
            due_ms = min(due_ms, at_ms)
        return due_ms

    def serve(self) -> None:
        """All that is due now. PowerLoss and TqError come out of it: the owner ends this life."""
        assert self.peers is not None
        now_ms = self._true_ms()
        if self.sync_due_ms and self.sync_due_ms <= now_ms:
            self.sync_due_ms = 0
            assert isinstance(self._sync, LateSync)
            self._sync.run()
        mailbox, self._mailbox = self._mailbox, []
        for arrival in mailbox:
            self.peers.arrived(arrival)
        self._attach_if_formed()
        self._take_late(now_ms)
        for client in self.clients:
            if client.has_news:
                client.serve()
        if self.broker is not None and (self._is_rung or self.wake_ms <= now_ms):
            self._run_passes(now_ms)
        if self.broker is not None and self.look_ms <= now_ms:
            self.broker.look()
            self.look_ms = now_ms + services.PERIOD_MS
        if isinstance(self._sync, LateSync) and self._sync.in_flight and not self.sync_due_ms:
            assert self.sync_ms is not None
            low, high = self.sync_ms
            self.sync_due_ms = now_ms + max(1, low + self.random.below(high - low + 1))
        self.peers.tick()
        self._peers_due_ms = now_ms - (-self.peers.wait_ms() * 1000 // self.rate_permille)  # by its clock; rounded up
        self.clients_read()
        self.clients = [client for client in self.clients if not client.is_closed]

    def clients_read(self) -> None:
        """What the broker has sent them."""
        for client in self.clients:
            while client.reads and client.take() and not client.is_closed:
                client.connection.flush()

    def _run_passes(self, now_ms: int) -> None:
        assert self._passes is not None
        assert self.node is not None
        for _ in range(PASSES_AT_ONCE):
            self._is_rung = False
            self._passes.run_once()
            self.platter.note(self.node.journal)
            if not self._is_rung and self.node.wait_ms() > 0:
                break
        self.wake_ms = now_ms + max(1, self.node.wait_ms())

    def _ring(self) -> None:
        self._is_rung = True

    def _on_committed(self, entries: list[Entry]) -> None:
        assert self.broker is not None
        self.on_entries(self, entries)
        self.broker.on_committed(entries)

    # ---- peers ----------------------------------------------------------------------------------------

    def _members_changed(self) -> None:
        assert self.identity is not None
        assert self.peers is not None
        self.peers.drop(self.identity.is_ruled_out)

    def _on_message(self, ident: Ident, channel: int, message: bytes) -> None:
        peer = ident.node_id
        if self.node is None or self.broker is None:
            return
        if channel != CHANNEL_RAFT:
            self.broker.on_peer_message(peer, channel, message)
            return
        trouble = self.trouble
        copies = 1 + self._chance(trouble.duplicate) - self._chance(trouble.loss)
        for _ in range(copies):
            if self._chance(trouble.late):
                due_ms = self._true_ms() + 1 + self.random.below(trouble.late_ms)
                self._late.append((due_ms, ident, message))
            else:
                self._receive(ident, message)

    def _take_late(self, now_ms: int) -> None:
        if not self._late:
            return
        due = [item for item in self._late if item[0] <= now_ms]
        self._late = [item for item in self._late if item[0] > now_ms]
        for _due, ident, message in due:
            if self.identity is not None and not self.identity.is_ruled_out(
                ident
            ):  # a connection that is over says nothing
                self._receive(ident, message)

    def _receive(self, ident: Ident, message: bytes) -> None:
        assert self.node is not None
        self.node.receive(ident.node_id, message, ident.incarnation)
        if self.node.needs_turn:
            self._ring()

    def _send_raft(self, peer: str, message: bytes) -> None:
        assert self.peers is not None
        self.peers.send(peer, CHANNEL_RAFT, message)

    def _on_change(self, peer: str, is_reachable: bool) -> None:
        if self.broker is not None:
            self.broker.on_peer(peer, is_reachable)

    def _on_gone(self, peer: str) -> None:
        if self.node is not None:
            self.node.peer_gone(peer)
            self._ring()

    def _chance(self, permille: int) -> int:
        return int(permille > 0 and self.random.below(1000) < permille)


def _config(name: str, names: list[str], leases: config.LeasesSection) -> config.Config:
    peers = tuple(
        config.PeerEntry(other, f"127.0.0.1:{PEER_PORT + number}", f"127.0.0.1:{CLIENT_PORT + number}")
        for number, other in enumerate(names, 1)
    )
    if len(peers) == 1:
        peers = ()
    cluster = config.ClusterSection(name="simulated", peers=peers, secret_file="simulated" if peers else "")
    return config.Config(
        node=config.NodeSection(id=name), cluster=cluster, leases=leases, storage=config.StorageSection("inline")
    )
