"""Three whole brokers, driven step by step, for scripts about snapshots: messages arrive at once and in order, time passes
when it is told to, and disks lose power where a script wants it. ``tq/sim/cluster.py`` has the weather.

``Member`` is a machine: disk, store and clock outlive its processes. Journals are cut early and parts are small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from tests.sim.one_node import Peer
from tq import config
from tq.broker import services
from tq.broker.broker import Broker
from tq.broker.long_work import InlineWork, LongWork
from tq.broker.snapshot_installing import finish_installation
from tq.protocol import messages as m
from tq.raft.driver import Passes
from tq.raft.node import Node
from tq.raft.sync import InlineSync
from tq.raft.transport.frames import CHANNEL_RAFT
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.late_sync import LateSync
from tq.sim.random import SeededRandom
from tq.spec import Spec, encode
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore

NAMES = ("n1", "n2", "n3")
STEP_MS = 10
SEGMENT_BYTES = 2_000
PART_BYTES = 4_000
PASSES_MAX = 200
CLUSTER_ID = b"cluster of tests"


class Member:
    def __init__(self, name: str, random: SeededRandom) -> None:
        self.name = name
        self.random = random
        self.disk = SimDisk()
        self.clock = VirtualClock()
        self.store = MemoryStore(self.disk.step, self.clock)
        self.node: Node | None = None
        self.broker: Broker | None = None
        self.sync: InlineSync | LateSync = InlineSync(self.clock)
        self.passes: Passes | None = None
        self.look_ms = 0
        self.mailbox: deque[tuple[str, int, bytes]] = deque()

    def check_power(self) -> None:
        """For ``Peer``: what it is sent was told."""
        self.disk.check_power()


class Brokers:
    """``late``: a sync ends in the step after the one that began it."""

    def __init__(self, seed: int, *, late: bool = False) -> None:
        self.random = SeededRandom(seed)
        self.late = late
        self.members = {name: Member(name, self.random.fork()) for name in NAMES}
        self.ids: list[bytes] = []
        self.cut: set[tuple[str, str]] = set()  # (from, to)
        self.new_work: Callable[[], LongWork] = InlineWork  # of who is started next

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    # ---- processes -----------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """May raise PowerLoss."""
        member = self.members[name]
        finish_installation(member.disk, member.store)
        member.sync = LateSync() if self.late else InlineSync(member.clock)
        member.node = Node(
            node_id=name, peers=[other for other in NAMES if other != name], disk=member.disk, clock=member.clock,
            random=member.random.fork(), sync=member.sync, applied_index=member.store.checkpointed_index,
            election_ms=(200, 400), heartbeat_ms=50, segment_bytes=SEGMENT_BYTES, tail_bytes_max=1_000, keep_bytes=0,
            part_bytes=PART_BYTES,
        )  # fmt: skip
        peers = tuple(
            config.PeerEntry(other, f"127.0.0.1:{8000 + at}", f"127.0.0.1:{9000 + at}")
            for at, other in enumerate(NAMES)
        )
        settings = config.Config(
            node=config.NodeSection(id=name), cluster=config.ClusterSection(peers=peers, secret_file="simulated")
        )
        member.broker = Broker(
            settings, member.store, member.node, member.disk, member.clock, member.random.fork(), CLUSTER_ID,
            lambda to, channel, message: self._send(name, to, channel, message), self.new_work,
        )  # fmt: skip
        member.node.send = lambda to, message: (self._send(name, to, CHANNEL_RAFT, message), None)[1]
        broker = member.broker
        member.passes = Passes(member.node, broker.before_turn, broker.on_committed, broker.on_role, broker.on_reads)
        member.mailbox.clear()
        for other in self.members.values():
            if other is not member and other.broker is not None:
                broker.on_peer(other.name, True)
                other.broker.on_peer(name, True)

    def lose_power(self, name: str) -> None:
        member = self.members[name]
        member.node = member.broker = member.passes = None
        member.disk.stop_at(None)
        member.disk.power_loss(self.random)
        member.store.power_loss()
        for other in self.members.values():
            if other.broker is not None:
                other.broker.on_peer(name, False)

    def _send(self, name: str, to: str, channel: int, message: bytes) -> bool:
        member = self.members[to]
        if member.node is None or (name, to) in self.cut:
            return False
        member.mailbox.append((name, channel, message))
        return True

    # ---- time ----------------------------------------------------------------------------------------

    def step(self) -> None:
        """A few milliseconds for all. PowerLoss comes out of it, and names its member in ``lost``."""
        for member in self.members.values():
            member.clock.advance_ms(STEP_MS)
            if member.node is not None:
                self.lost = member.name
                self._serve(member)

    def _serve(self, member: Member) -> None:
        assert member.node is not None
        assert member.broker is not None
        assert member.passes is not None
        if isinstance(member.sync, LateSync):
            member.sync.run()
        while member.mailbox:
            peer, channel, message = member.mailbox.popleft()
            if channel == CHANNEL_RAFT:
                member.node.receive(peer, message)
            else:
                member.broker.on_peer_message(peer, channel, message)
        for _ in range(PASSES_MAX):
            if not member.passes.run_once() and member.node.wait_ms() > 0:
                break
        if member.clock.monotonic_ms() >= member.look_ms:
            member.look_ms = member.clock.monotonic_ms() + services.PERIOD_MS
            member.broker.look()

    def run_until(self, condition: Any, what: str, within_ms: int = 20_000) -> None:
        for _ in range(within_ms // STEP_MS):
            if condition():
                return
            self.step()
        raise AssertionError(f"not within {within_ms} ms: {what}")

    # ---- what happens ----------------------------------------------------------------------------------

    def leader(self) -> str | None:
        serving = [member for member in self.members.values() if member.broker is not None and member.broker.is_serving]
        return max(serving, key=lambda member: member.node.term if member.node else 0).name if serving else None

    def elect(self) -> str:
        self.run_until(lambda: self.leader() is not None, "a leader")
        leader = self.leader()
        assert leader is not None
        return leader

    def peer(self, name: str) -> Peer:
        member: Any = self.members[name]
        assert member.broker is not None
        return Peer(member, member.broker)

    def submit(self, count: int) -> int:
        """Tasks, one an entry. Returns the index behind them."""
        indexes: list[int] = []
        peer = self.peer(self.elect())
        for _ in range(count):
            spec = Spec(self.random.bytes(16), "work", self.random.bytes(300))
            self.ids.append(spec.id)
            had = len(indexes)

            def on_reply(reply: m.Message) -> None:
                assert isinstance(reply, m.SubmitReply), reply
                indexes.append(reply.index)

            raw = encode(spec)
            peer.ask(lambda rid, raw=raw: m.SubmitTask(rid, [raw], False), on_reply)  # type: ignore[misc]
            self.run_until(lambda had=had: len(indexes) > had, "an answer")
        return indexes[-1]

    def has_applied(self, index: int) -> bool:
        return all(
            member.broker is not None and member.broker.applied_index >= index for member in self.members.values()
        )

    def digests(self) -> set[bytes]:
        """Of all, when all have applied the same."""
        self.run_until(self._are_level, "all have applied the same")
        return {state_digest(member.store.txn) for member in self.members.values()}

    def _are_level(self) -> bool:
        applied = {member.broker.applied_index if member.broker else -1 for member in self.members.values()}
        return len(applied) == 1
