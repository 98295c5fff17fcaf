"""A whole broker on a simulated world: real bytes, a virtual clock, a disk that loses power, sockets that fill up.

``World`` is what outlives a process: clock, disk, store. ``start`` makes a broker on it, driven by the same passes as
the real one (``tq.raft.driver.Passes``) and read by the same function (``requests.read_requests``). ``Peer`` is the
other end of a connection: it speaks through ``ClientConnection``, so whoever answers a request twice, or with the
wrong reply, is found out by the protocol itself.

Nothing happens until ``settle`` (all that can be done at this moment) or ``advance_ms`` (time passes, in steps as the
broker's own loop takes them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from tq import config, limits
from tq.broker import services
from tq.broker.broker import Broker
from tq.errors import TqError, from_wire
from tq.machine.commands import Outcome
from tq.protocol import messages as m
from tq.raft.driver import Passes
from tq.raft.node import Node
from tq.raft.sync import InlineSync
from tq.sim.client import KERNEL_BYTES, SimClient
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.late_sync import LateSync
from tq.sim.random import SeededRandom
from tq.spec import Spec, encode
from tq.store.memory import MemoryStore

LEASES = config.LeasesSection(lease_ms=3_000, heartbeat_ms=1_000, session_ms=4_000)
CONFIG = config.Config(leases=LEASES)
CLUSTER_ID = b"cluster of tests"
SESSION = b"s" * 16
PASSES_MAX = 20_000


class Peer(SimClient):
    """A client or worker that lets the world settle until it is answered."""

    def __init__(self, world: World, room: int = KERNEL_BYTES) -> None:
        super().__init__(world.broker, "n1", world.disk.check_power, room)
        self.world = world
        world.peers.append(self)

    # ---- talking -----------------------------------------------------------------------------------

    def send_bytes(self, data: bytes) -> None:
        self.socket.to_broker += data

    def call(self, kind: type[m.Message], *fields: Any, **more: Any) -> Any:
        """Ask, let it be answered now, and return the reply. Raises what the broker says."""
        return self.answer(self.ask(kind, *fields, **more))

    def answer(self, rid: int) -> Any:
        """The reply to a request. Raises its error; AssertionError if it is not answered yet."""
        self.world.settle()
        assert rid in self.answers, f"request {rid} is not answered"
        reply = self.answers[rid]
        if isinstance(reply, m.ErrorReply):
            raise from_wire(reply.error)
        return reply

    def error(self, rid: int) -> TqError:
        """The error that a request is answered with."""
        self.world.settle()
        reply = self.answers[rid]
        assert isinstance(reply, m.ErrorReply), reply
        return from_wire(reply.error)

    def has(self, rid: int) -> bool:
        self.world.settle()
        return rid in self.answers

    def hello(self) -> Peer:
        self.call(m.Hello, 1, 1, "rig")
        return self

    # ---- verbs -------------------------------------------------------------------------------------

    def submit(self, *specs: bytes, atomic: bool = False) -> m.SubmitReply:
        reply: m.SubmitReply = self.call(m.SubmitTask, list(specs), atomic)
        return reply

    def get(self, id: bytes, **more: Any) -> dict[str, Any]:
        reply: m.GetReply = self.call(m.GetTask, id, **more)
        return reply.task

    def state(self, id: bytes) -> str:
        return str(self.get(id)["state"])

    def register(
        self, number: int = 1, types: tuple[str, ...] = ("work",), queues: tuple[str, ...] = ("default",)
    ) -> bytes:
        session = b"session%09d" % number
        self.call(m.RegisterWorker, session, f"worker-{number}", list(types), list(queues))
        return session

    def ask_claim(self, session: bytes, seq: int, n: int = 1, wait_ms: int = 0, queues: tuple[str, ...] = ()) -> int:
        return self.ask(m.ClaimTask, session, seq, list(queues), n, wait_ms)

    def claim(self, session: bytes, seq: int, n: int = 1, wait_ms: int = 0) -> list[Any]:
        reply: m.ClaimReply = self.answer(self.ask_claim(session, seq, n, wait_ms))
        return reply.grants

    def report(self, session: bytes, *items: list[Any]) -> list[Any]:
        reply: m.ResultReply = self.call(m.TaskResult, session, list(items))
        return reply.items

    def beat(self, session: bytes, *tasks: list[Any]) -> m.HeartbeatReply:
        reply: m.HeartbeatReply = self.call(m.Heartbeat, session, list(tasks))
        return reply


class World:
    """See the module. ``late``: the journal's sync ends only in ``finish_sync``."""

    def __init__(
        self,
        seed: int = 1,
        *,
        settings: config.Config = CONFIG,
        late: bool = False,
        segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES,
    ) -> None:
        self.settings = settings
        self.late = late
        self.segment_bytes = segment_bytes
        self.random = SeededRandom(seed)
        self.clock = VirtualClock()
        self.disk = SimDisk()
        self.store = MemoryStore(self.disk.step, self.clock)
        self.peers: list[Peer] = []
        self.on_broker: Callable[[Broker], None] = lambda broker: None  # sees each new one before it applies anything
        self.start()

    # ---- the process -------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process on what is there, until it serves."""
        self.disk.lock()
        self.sync = LateSync() if self.late else InlineSync(self.clock)
        self.node = Node(
            node_id="n1", peers=[], disk=self.disk, clock=self.clock, random=self.random.fork(), sync=self.sync,
            applied_index=self.store.checkpointed_index, election_ms=(600, 1_200), heartbeat_ms=150,
            segment_bytes=self.segment_bytes,
        )  # fmt: skip
        self.broker = Broker(
            self.settings, self.store, self.node, self.disk, self.clock, self.random.fork(), CLUSTER_ID
        )
        self.on_broker(self.broker)
        self.passes = Passes(
            self.node, self.broker.before_turn, self.broker.on_committed, self.broker.on_role, self.broker.on_reads
        )
        for _ in range(10):
            self.settle()
            self.finish_sync()
        assert self.broker.is_serving

    def finish_sync(self) -> None:
        if isinstance(self.sync, LateSync):
            self.sync.run()
            self.settle()

    def crash(self) -> None:
        """kill -9: what the kernel has stays, all else of the process is gone."""
        self._end_peers()
        self.disk.crash()
        self.store.power_loss()

    def lose_power(self) -> None:
        """What was not synced is kept, torn or gone."""
        self._end_peers()
        self.disk.power_loss(self.random)
        self.store.power_loss()

    def restart(self) -> None:
        self.crash()
        self.start()

    def _end_peers(self) -> None:
        for peer in self.peers:
            peer.reads = False
            peer.socket.is_broken = True
        self.peers.clear()

    # ---- what happens ------------------------------------------------------------------------------

    def connect(self, room: int = KERNEL_BYTES) -> Peer:
        """A connection that has said HELLO."""
        return Peer(self, room).hello()

    def settle(self) -> None:
        """Until nothing moves: requests are read, entries committed, replies written and read."""
        for _ in range(PASSES_MAX):
            if not self._pass():
                return
        raise AssertionError("the broker does not come to rest")

    def advance_ms(self, by_ms: int) -> None:
        """Time passes; the broker looks as often as its own loop would."""
        self.settle()
        while by_ms > 0:
            step = min(by_ms, services.PERIOD_MS)
            by_ms -= step
            self.clock.advance_ms(step)
            self.look()

    def look(self) -> None:
        self.broker.look()
        self.settle()

    def pause_ms(self, by_ms: int) -> None:
        """SIGSTOP and SIGCONT: time passes, the broker does not notice."""
        self.clock.advance_ms(by_ms)
        self.look()

    def stop(self) -> None:
        """What SIGTERM does, up to the end of the process."""
        self.settle()
        self.broker.stop()
        self.settle()

    def _pass(self) -> bool:
        moved = False
        for peer in list(self.peers):
            moved |= self._serve(peer)
        moved |= self.passes.run_once()
        for peer in list(self.peers):
            if peer.reads and peer.socket.to_peer:
                peer.take()
                if not peer.is_closed:
                    peer.connection.flush()
                moved = True
        return moved

    def _serve(self, peer: Peer) -> bool:
        """What the shell does for one connection, without waiting."""
        if peer.is_closed:
            self.broker.connections.discard(peer.connection)
            self.peers.remove(peer)
            if peer.reads:
                peer.take()
            return True
        if not peer.has_news:
            return False
        peer.serve()
        return True


# ---- words -----------------------------------------------------------------------------------------


def with_task(world: World) -> Peer:
    """A client that has submitted task 1."""
    peer = world.connect()
    peer.submit(task(1))
    return peer


def task_id(number: int) -> bytes:
    return b"task%012d" % number


def task(number: int, type: str = "work", payload: bytes = b"x", **more: Any) -> bytes:
    return encode(Spec(task_id(number), type, payload, **more))


def complete(grant: list[Any], result: bytes = b"done") -> list[Any]:
    return [id_of(grant), grant[3], int(Outcome.COMPLETE), ["text/plain", result]]


def fail(grant: list[Any], *, permanent: bool = False, retry_after_ms: int | None = None) -> list[Any]:
    return [id_of(grant), grant[3], int(Outcome.FAIL), [["E", "bad", ""], permanent, retry_after_ms]]


def release(grant: list[Any]) -> list[Any]:
    return [id_of(grant), grant[3], int(Outcome.RELEASE), None]


def cancelled(grant: list[Any]) -> list[Any]:
    return [id_of(grant), grant[3], int(Outcome.CANCELLED), None]


def lease(grant: list[Any]) -> list[Any]:
    """As a heartbeat names it."""
    return [id_of(grant), grant[3]]


def id_of(grant: list[Any]) -> bytes:
    return bytes(grant[0][2:18]) if grant[0][1] == 0x50 else pytest_fail(grant)


def pytest_fail(grant: list[Any]) -> bytes:
    raise AssertionError(f"not a spec with an id of 16 bytes: {grant[0][:20]!r}")


def with_limits(**more: Any) -> config.Config:
    return attrs.evolve(CONFIG, limits=config.LimitsSection(**more))
