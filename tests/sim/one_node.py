"""A whole node under simulation: the broker on its journal and store, a client and a worker that write a history.

``World`` is what outlives a process: the disk, the store with its last checkpoint, the clock, and what client and worker
were told. ``Life`` is one process. A reply counts as told when its bytes are handed to the socket; a record of it goes
into the history at that moment, so ``tq.sim.checkers`` can judge the run. A world without a life can be copied: each
copy then loses its power in another way. ``tests/powerloss`` runs the same on a real disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tq.broker.broker import Broker
from tq.broker.connection import Connection
from tq.config import Config, LeasesSection
from tq.errors import NotFound, SessionLost
from tq.machine import queries
from tq.machine.answers import ReportOutcome, SubmitOutcome
from tq.machine.apply import Machine, Settings
from tq.machine.commands import Outcome
from tq.machine.states import State
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, ClientConnection, Refused
from tq.raft.driver import Passes
from tq.raft.node import Entry, Node
from tq.raft.sync import InlineSync
from tq.sim.checkers.history import check
from tq.sim.checkers.records import parse as parse_history
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.late_sync import LateSync
from tq.sim.random import SeededRandom
from tq.spec import Retry, Spec, encode, parse
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore

SEGMENT_BYTES = 6_000
TAIL_BYTES = 1_000
CONFIG = Config(leases=LeasesSection(lease_ms=2_000, heartbeat_ms=500, session_ms=3_000))
QUEUES = ("left", "right")
PRIORITIES = (50, 100, 220)
PASSES_MAX = 10_000
DRAIN_ROUNDS_MAX = 200
ENDS = ("completed", "cancelled", "expired", "dead")


class World:
    """On the simulated disk, with the store in memory. ``late``: syncs run in another thread, when they get to."""

    disk: Any
    store: Any

    def __init__(self, seed: int, *, late: bool, payload_bytes_max: int = 150) -> None:
        self.late = late
        self.payload_bytes_max = payload_bytes_max
        self.random = SeededRandom(seed)
        self.clock = VirtualClock()
        self.disk = SimDisk()
        self.store = MemoryStore(self.disk.step, self.clock)
        self.entries: dict[int, tuple[int, bytes]] = {}  # handed out as committed: index -> term, data
        self.led: list[int] = []  # terms
        self.specs: list[bytes] = []
        self.lines: list[str] = []  # the history
        self.seen_index = 0
        self.session: bytes | None = None
        self.sessions = 0
        self.claim_seq = 0
        self.held: dict[bytes, int] = {}  # id -> fence
        self.old: list[tuple[bytes, int]] = []
        self.replays = 0
        self._op = 0
        self._ticks = 0

    def stop_dead(self) -> None:
        """The process is gone, with what only its memory had."""
        self.disk.crash()
        self.store.power_loss()

    def lose_power(self, random: SeededRandom) -> None:
        self.disk.power_loss(random)
        self.store.power_loss()

    def pass_time(self, ms: int) -> None:
        self.clock.advance_ms(ms)

    def check_power(self) -> None:
        self.disk.check_power()

    def replayed(self) -> bytes:
        """The digest of a machine that lived through all of it."""
        store = MemoryStore()
        machine = Machine(store.txn, Settings(lease_ms=CONFIG.leases.lease_ms))
        for index, (_, data) in sorted(self.entries.items()):
            if data:
                machine.apply(index, data)
        return state_digest(store.txn)

    # ---- the history -----------------------------------------------------------------------------------

    def call(self, by: str, verb: str, **fields: Any) -> dict[str, Any]:
        self._op += 1
        key = {"op": self._op, "by": by}
        self._write({**key, "t": self._tick(), "call": verb, **fields})
        return key

    def answered(self, key: dict[str, Any], **fields: Any) -> None:
        self.seen_index = max(self.seen_index, fields.get("index", 0))
        self._write({**key, "t": self._tick(), **fields})

    def write_finals(self) -> None:
        for id in self.ids():
            if (task := self.task(id)) is not None:
                attempts = [row for row in task["history"] if row["outcome"] != "stale"]
                self._write({
                    "final": id.hex(), "state": task["state"], "fence": task["fence"], "attempt": task["attempt"],
                    "crashes": task["crashes"], "reason": task["reason"],
                    "body": None if task["result"] is None else bytes(task["result"]).decode(),
                    "fences": [row["fence"] for row in attempts], "outcomes": [row["outcome"] for row in attempts],
                    "dropped": task["history_dropped"],
                })  # fmt: skip

    def resume(self, record: dict[str, Any]) -> None:
        """Go on behind a record of an earlier process."""
        self.lines.append(json.dumps(record))
        self._op = max(self._op, record["op"])
        self._ticks += 1
        self.seen_index = max(self.seen_index, record.get("index", 0))

    def ids(self) -> list[bytes]:
        return [parse(spec).id for spec in self.specs]

    def task(self, id: bytes) -> dict[str, Any] | None:
        """As a user sees it; None if it is not there."""
        try:
            return queries.get_task(self.store.txn, id, queries.PART_RESULT | queries.PART_HISTORY)
        except NotFound:
            return None

    def committed(self, entry: Entry) -> None:
        known = self.entries.setdefault(entry.index, (entry.term, entry.data))
        assert known == (entry.term, entry.data), "what was committed changed"

    def leads(self, term: int) -> None:
        assert all(term > led for led in self.led), "a term is led twice"
        self.led.append(term)

    def _write(self, record: dict[str, Any]) -> None:
        self.lines.append(json.dumps(record))

    def _tick(self) -> int:
        """Time in ns; no two are alike."""
        self._ticks += 1
        return self.clock.monotonic_ms() * 1_000_000 + self._ticks


def judge(world: World) -> None:
    """At the end of a run, with all work done. Raises AssertionError."""
    assert state_digest(world.store.txn) == world.replayed(), "the store differs from one that never stopped"
    world.write_finals()
    breaches = check(parse_history([world.lines]), drained=True)
    assert not breaches, "\n".join(map(str, breaches))


class _Socket:
    """Takes all at once. What it has taken was told."""

    def __init__(self, world: World, take: Callable[[bytes], None]) -> None:
        self._world = world
        self._take = take

    def send(self, data: bytes) -> int:
        self._world.check_power()
        self._take(data)
        return len(data)

    def close(self) -> None:
        pass


class Peer:
    """One connection: asks, and calls back with the reply."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._broker = broker
        self._protocol = ClientConnection()
        self._waiting: dict[int, Callable[[m.Message], None]] = {}
        self._rid = 0
        self.pushes: list[m.Message] = []
        socket: Any = _Socket(world, self._receive)
        self._connection = Connection(socket, "peer", broker.dirty, broker.release_undelivered)
        broker.connections.add(self._connection)
        self.ask(lambda rid: m.Hello(rid, 1, 1, "simulated"), lambda reply: None)

    def ask(self, make: Callable[[int], m.Message], on_reply: Callable[[m.Message], None]) -> None:
        self._rid += 1
        self._waiting[self._rid] = on_reply
        connection = self._connection
        connection.protocol.receive_data(self._protocol.send(make(self._rid)))
        while (event := connection.protocol.next_event()) is not NEED_DATA:
            assert isinstance(event, m.Message | Refused)
            if isinstance(event, Refused):
                connection.send_error(event.rid, event.error)
            else:
                self._broker.request(connection, event)
        self._broker.flush()

    def _receive(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        while (event := self._protocol.next_event()) is not NEED_DATA:
            assert isinstance(event, m.Message)
            rid = getattr(event, "rid", None)
            if rid is None:
                self.pushes.append(event)
            else:
                self._waiting.pop(rid)(event)


class Life:
    """One process on a world: starts, leads, does what chance asks of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random
        self.sync = LateSync() if world.late else InlineSync(world.clock)
        world.disk.lock()
        self.node = Node(
            node_id="n1", peers=[], disk=world.disk, clock=world.clock, random=world.random.fork(), sync=self.sync,
            applied_index=world.store.checkpointed_index, election_ms=(600, 1_200), heartbeat_ms=150,
            segment_bytes=SEGMENT_BYTES, tail_bytes_max=TAIL_BYTES,
        )  # fmt: skip
        self.broker = Broker(CONFIG, world.store, self.node, world.disk, world.clock, world.random.fork(), bytes(16))
        self._applied = world.store.checkpointed_index
        self._passes = Passes(
            self.node, self.broker.before_turn, self._on_committed, self._on_role, self.broker.on_reads
        )
        self.settle()
        assert self.broker.is_serving
        self.peer = Peer(world, self.broker)

    def settle(self, *, patiently: bool = True) -> None:
        """Until there is nothing more to do. A sync in another thread is waited for only if patient."""
        for _ in range(PASSES_MAX):
            if self._passes.run_once():
                continue
            if not (patiently and isinstance(self.sync, LateSync) and self.sync.in_flight):
                return
            self.sync.run()
        raise AssertionError("the node is never idle")

    def step(self) -> None:
        """One thing that happens, drawn by chance. It may end this life: the caller begins the next."""
        verbs = (self._submit, self._claim, self._report, self._cancel, self._read, self._heartbeat, self._wait)
        weights = (6, 5, 6, 1, 2, 1, 4)
        pick = self.random.below(sum(weights))
        for verb, weight in zip(verbs, weights, strict=True):
            pick -= weight
            if pick < 0:
                verb()
                break
        if self.random.below(25) == 0 and isinstance(self.world.store, MemoryStore):
            self.world.store.full_after(self.random.below(15))
        self.settle(patiently=self.random.below(2) == 0)

    def stop(self) -> None:
        """As on SIGTERM."""
        self.broker.stop()
        self.settle()
        self.broker.checkpoint()
        self.node.close()

    def drain(self) -> None:
        """Until every task has ended."""
        world = self.world
        self.settle()
        for _ in range(DRAIN_ROUNDS_MAX):
            live = [id for id in world.ids() if (task := world.task(id)) is not None and task["state"] not in ENDS]
            if not live:
                return
            world.pass_time(400)
            self.broker.look()
            self.settle()
            self._claim(max_n=8)
            self.settle()
            for id in list(world.held):
                self._report(id, Outcome.COMPLETE)
            self.settle()
        raise AssertionError(f"{len(live)} tasks never end: {world.task(live[0])}")

    # ---- what may happen -------------------------------------------------------------------------------

    def _submit(self) -> None:
        world, random = self.world, self.random
        if world.specs and random.below(4) == 0:
            specs = [world.specs[random.below(len(world.specs))]]  # as a client does that heard no answer
        else:
            specs = [encode(self._spec()) for _ in range(1 + random.below(3))]
            world.specs += specs
        rows = []
        for raw in specs:
            spec = parse(raw)
            more = {"delay_ms": spec.delay_ms, "expires": bool(spec.expires_in_ms), "deadline": bool(spec.deadline_ms)}
            rows.append([spec.id.hex(), raw.hex(), spec.type, spec.queue, spec.priority, any(more.values()), more])
        key = world.call("client", "submit", tasks=rows)

        def on_reply(reply: m.Message) -> None:
            if isinstance(reply, m.SubmitReply):
                numbers = [item if isinstance(item, int) else item[0] for item in reply.items]
                names = [SubmitOutcome(number).name.lower() for number in numbers]
                world.answered(key, index=reply.index, answers=names)
            else:
                self._refused(key, reply)

        self.peer.ask(lambda rid: m.SubmitTask(rid, specs, len(specs) > 1 and random.below(2) == 0), on_reply)

    def _spec(self) -> Spec:
        random = self.random
        spec = Spec(
            random.bytes(16), "work", random.bytes(random.below(self.world.payload_bytes_max)), QUEUES[random.below(2)],
            PRIORITIES[random.below(3)], retry=Retry(3, 200, 2_000, 1_000, 200),
        )  # fmt: skip
        option = random.below(12)
        if option == 0:
            return spec._replace(delay_ms=1 + random.below(2_000))
        if option == 1:
            return spec._replace(expires_in_ms=500)
        if option == 2:
            return spec._replace(deadline_ms=3_000)
        if option == 3:
            return spec._replace(timeout_ms=300)
        return spec

    def _claim(self, max_n: int = 0) -> None:
        world = self.world
        if world.session is None:
            self._register()
            return
        session, by = world.session, f"worker-{world.sessions}"
        seq = world.claim_seq
        key = world.call(by, "claim")

        def on_reply(reply: m.Message) -> None:
            if not isinstance(reply, m.ClaimReply):
                self._refused(key, reply)
                return
            world.claim_seq = max(world.claim_seq, seq + 1)  # until it is answered, the same number is asked again
            rows = []
            for raw, attempt, crashes, fence, *_ in reply.grants:
                id = parse(raw).id
                rows.append([id.hex(), fence, attempt, crashes])
                world.held[id] = fence
            world.answered(key, **({"index": reply.index} if reply.index else {}), grants=rows)

        wait_ms = 500 if self.random.below(3) == 0 else 0
        self.peer.ask(
            lambda rid: m.ClaimTask(rid, session, seq, [], max_n or 1 + self.random.below(3), wait_ms), on_reply
        )

    def _register(self) -> None:
        world = self.world
        session = self.random.bytes(16)

        def on_reply(reply: m.Message) -> None:
            if isinstance(reply, m.RegisterReply):
                world.sessions += 1
                world.session, world.claim_seq = session, 0
                world.old += world.held.items()
                world.held.clear()

        self.peer.ask(lambda rid: m.RegisterWorker(rid, session, "w", ["work"], list(QUEUES)), on_reply)

    def _report(self, id: bytes | None = None, outcome: Outcome | None = None) -> None:
        world, random = self.world, self.random
        if world.session is None:
            return
        session = world.session
        if id is not None:
            fence = world.held[id]
        elif world.old and random.below(6) == 0:
            id, fence = world.old[random.below(len(world.old))]
        elif world.held:
            id, fence = list(world.held.items())[random.below(len(world.held))]
        else:
            return
        if outcome is None:
            outcome = (Outcome.COMPLETE,) * 5 + (Outcome.FAIL,) * 3 + (Outcome.RELEASE, Outcome.SNOOZE)
            outcome = outcome[random.below(len(outcome))]
        body = f"{id.hex()}:{fence}"
        content = {
            Outcome.COMPLETE: ["text/plain", body.encode()], Outcome.FAIL: [["E", "failed", ""], False, None],
            Outcome.RELEASE: None, Outcome.SNOOZE: 300,
        }[outcome]  # fmt: skip
        name = outcome.name.lower()
        key = world.call("reporter", "report", items=[[id.hex(), fence, name, body]])

        def on_reply(reply: m.Message) -> None:
            if not isinstance(reply, m.ResultReply):
                self._refused(key, reply)
                return
            item = reply.items[0]
            said = ReportOutcome(item if isinstance(item, int) else item[0]).name.lower()
            world.answered(key, index=reply.index, answers=[said])
            if world.held.get(id) == fence:
                del world.held[id]
            world.old.append((id, fence))

        self.peer.ask(lambda rid: m.TaskResult(rid, session, [[id, fence, int(outcome), content]]), on_reply)

    def _cancel(self) -> None:
        world = self.world
        if not world.specs:
            return
        id = parse(world.specs[self.random.below(len(world.specs))]).id
        key = world.call("client", "cancel", ids=[id.hex()])

        def on_reply(reply: m.Message) -> None:
            if not isinstance(reply, m.CancelReply):
                self._refused(key, reply)
                return
            state, error = reply.items[0]
            if error is not None:  # the submission was lost with the power
                world.answered(key, index=reply.index, error=error[0])
            else:
                world.answered(key, index=reply.index, states=[State(state).name.lower()])

        self.peer.ask(lambda rid: m.CancelTask(rid, [id], 300), on_reply)

    def _read(self) -> None:
        """What was told once is seen ever after: the reader asks for the highest index it knows."""
        world = self.world
        if not world.specs:
            return
        id = parse(world.specs[self.random.below(len(world.specs))]).id
        key = world.call("client", "read", id=id.hex(), min_index=world.seen_index)
        heard: list[m.Message] = []

        def on_reply(reply: m.Message) -> None:
            heard.append(reply)
            if isinstance(reply, m.GetReply):
                world.answered(key, index=reply.index, state=reply.task["state"], fence=reply.task["fence"])
            else:
                self._refused(key, reply)

        self.peer.ask(lambda rid: m.GetTask(rid, id, 0, world.seen_index), on_reply)
        assert heard, f"index {world.seen_index} was told, and this node has applied {self.broker.applied_index}"

    def _heartbeat(self) -> None:
        world = self.world
        if world.session is None:
            return
        session, leases = world.session, [[id, fence] for id, fence in world.held.items()]

        def on_reply(reply: m.Message) -> None:
            if isinstance(reply, m.ErrorReply):
                self._session_lost(reply)
            elif isinstance(reply, m.HeartbeatReply):
                for id, fence in reply.lost:
                    if world.held.get(id) == fence:
                        del world.held[id]
                        world.old.append((id, fence))

        self.peer.ask(lambda rid: m.Heartbeat(rid, session, leases), on_reply)

    def _wait(self) -> None:
        """Time passes: leases, timers and checkpoints come due."""
        self.world.pass_time(30 + self.random.below(700))
        self.broker.look()

    def _refused(self, key: dict[str, Any], reply: m.Message) -> None:
        assert isinstance(reply, m.ErrorReply)
        self.world.answered(key, error=reply.error[0])
        self._session_lost(reply)

    def _session_lost(self, reply: m.ErrorReply) -> None:
        if reply.error[0] == SessionLost.code:
            self.world.session = None

    # ---- what the shell calls --------------------------------------------------------------------------

    def _on_committed(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._applied += 1
            assert entry.index == self._applied, "an entry is lost or came twice"
            self.world.committed(entry)
        self.broker.on_committed(entries)

    def _on_role(self, leads: bool) -> None:
        if leads:
            assert self._applied >= max(self.world.entries, default=0), "a leader does not know all that was committed"
            self.world.leads(self.node.term)
        self.broker.on_role(leads)
