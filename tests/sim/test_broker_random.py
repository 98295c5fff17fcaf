"""The whole broker at random: clients and workers at full speed, while everything happens to it that may.

The power goes at any write or sync, the process is killed, stopped or paused, the wall clock jumps, the disk fails and
fills, the store's map is full, connections vanish or stop reading. Then all work is done, and the checker of
histories judges what clients and workers asked and heard. In between, whenever the broker is at rest, its memory must
agree with its store, and no claim may sleep while a task that it could take is ready.

The seed is the run: a failure prints it, and ``make sim KIND=broker`` plays it again, or new ones. TQ_LONG=1 plants
rarer bugs, too.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import Any

import pytest

from tests.unit.broker.rig import Peer, World
from tq.broker import broker as broker_module
from tq.broker.applier import Applier
from tq.broker.broker import Broker
from tq.broker.claims import Claims, Waiting
from tq.broker.connection import Connection
from tq.broker.events import Events
from tq.errors import NotFound, StorageFailed, from_wire
from tq.machine import checkpoint, queries, queue_set, queue_settings, submit
from tq.machine.answers import Applied
from tq.machine.event_runs import EventRuns
from tq.machine.queue_settings import QueueRules, QueueSettings
from tq.protocol import messages as m
from tq.sim.checkers.history import Breach, check
from tq.sim.checkers.queues import QueuePromises
from tq.sim.checkers.records import parse
from tq.sim.crowd.actor import Actor
from tq.sim.crowd.listener import Listener
from tq.sim.crowd.operator import Operator
from tq.sim.crowd.stage import LIVE, Stage
from tq.sim.crowd.submitter import Submitter
from tq.sim.crowd.worker import Worker
from tq.sim.disk import FREE_BYTES, PowerLoss, SimDisk
from tq.sim.random import SeededRandom

STEPS = 500
DRAIN_STEPS_MAX = 3_000
LONG = os.environ.get("TQ_LONG") == "1"
SEEDS = range(3)
ENDED = ("completed", "cancelled", "expired", "skipped", "dead")


pytestmark = pytest.mark.usefixtures("quiet")


class OneBroker:
    """Where the broker of a world is."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def now_ms(self) -> int:
        return self._world.clock.monotonic_ms()

    def open(self, random: SeededRandom) -> Peer:
        return Peer(self._world)


class Run:
    """One seed, from the first connection to the verdict."""

    def __init__(self, seed: int, steps: int = STEPS) -> None:
        self.seed = seed
        self.steps = steps
        self.random = SeededRandom(seed)
        self.faults: Counter[str] = Counter()
        self.world = World(seed, late=self.random.below(2) == 0)
        self.stage = Stage(OneBroker(self.world), self.random.fork())
        self.queues = QueuePromises()
        self.world.on_broker = self._watch
        self._watch(self.world.broker)
        self.listener = Listener(self.stage, "l1")
        workers = [Worker(self.stage, f"w{number}", 1 + 3 * number) for number in range(4)]
        self.actors: list[Actor] = [
            *[Submitter(self.stage, f"c{number}") for number in range(3)],
            *workers,
            self.listener,
            Operator(self.stage, "o1"),
        ]

    def _watch(self, broker: Broker) -> None:
        self.stage.truth.watch(broker)
        self.queues.watch(broker)

    def play(self) -> None:
        for _ in range(self.steps):
            self._step()
        self._drain()

    def judge(self) -> list[Breach]:
        return check(parse([self.stage.recorder.lines]), drained=True)

    # ---- one step ----------------------------------------------------------------------------------

    def _step(self) -> None:
        random, world = self.random, self.world
        try:
            if random.below(40) == 0:
                self.stage.is_calm = not self.stage.is_calm
            for actor in self.actors:
                actor.step()
            for _ in range(1 + random.below(4)):
                world._pass()
            if random.below(3):
                world.finish_sync()
            world.clock.advance_ms(random.below(60))
            world.broker.look()
            if random.below(4) == 0:
                world.settle()
                self._check_rest()
            if random.below(15) == 0:
                self._fault()
        except PowerLoss:
            self._power_lost()
        except StorageFailed:
            self.faults["stopped by the disk"] += 1
            self._power_lost()

    def _fault(self) -> None:
        random, world = self.random, self.world
        names = (
            "network", "network", "network", "power", "power", "kill", "stop", "pause", "wall clock", "full map",
            "failed sync", "full disk",
        )  # fmt: skip
        name = names[random.below(len(names))]
        self.faults[name] += 1
        match name:
            case "network":
                self.actors[random.below(len(self.actors))].break_off()
            case "power":
                world.disk.stop_at(world.disk.steps + 1 + random.below(25))
            case "kill":
                self._deliver()
                world.crash()
                self._start()
            case "stop":
                self._stop()
            case "pause":
                world.clock.advance_ms(random.below(10_000))
            case "wall clock":
                world.clock.jump_wall_ms(random.below(120_000) - 60_000)
            case "full map":
                world.store.full_after(random.below(40))
            case "failed sync":
                world.disk.fail_sync(random.below(3))
            case "full disk":
                world.disk.fill_after(random.below(3_000))

    # ---- lives -------------------------------------------------------------------------------------

    def _power_lost(self) -> None:
        self._deliver()
        self.world.lose_power()
        self._start()

    def _deliver(self) -> None:
        """What had left the broker arrives, or does not."""
        for peer in self.world.peers:
            if self.random.below(2):
                peer.take()

    def _start(self) -> None:
        """The power may go again while it starts."""
        world, random = self.world, self.random
        world.disk.fill_after(FREE_BYTES)
        if random.below(4) == 0:
            world.disk.stop_at(world.disk.steps + 1 + random.below(10))
        while True:
            try:
                world.start()
                break
            except PowerLoss:
                self.faults["power at start"] += 1
                world.lose_power()
        world.clock.advance_ms(random.below(2_000))

    def _stop(self) -> None:
        """SIGTERM: what is in flight is answered; then the process ends with a checkpoint."""
        world = self.world
        asked = {actor.by: set(actor._waiting) for actor in self.actors if actor.peer and actor.peer.reads}
        world.settle()
        world.broker.stop()
        for _ in range(200):
            world.finish_sync()
            world.settle()
            if world.broker.is_idle:
                break
        for actor in self.actors:
            if actor.by in asked and actor.peer is not None and not actor.peer.is_closed and actor.peer.reads:
                unanswered = asked[actor.by] - set(actor.peer.answers)
                assert not unanswered, f"{actor.by}: stopped without answers to {unanswered}"
                actor.hear()
        world.broker.checkpoint()
        world.crash()
        self._start()

    # ---- what must hold at rest --------------------------------------------------------------------

    def _check_rest(self) -> None:
        broker = self.world.broker
        if not broker.proposer.is_idle:
            return  # a late sync is awaited
        txn = broker.txn
        held = {fence for _session, _id, fence, _grace in queries.held(txn)}
        assert set(broker.leases._leases) == held, "leases in memory and in the store differ"
        assert set(broker.leases.sessions) == {row[0] for row in queries.sessions(txn)}, "sessions differ"
        machine = broker.applier.machine
        for waiting in broker.claims._parked.values():
            assert not waiting.connection.is_closed, "a claim outlives its connection"
            if machine.has_ready(waiting.queues, waiting.types):
                raise AssertionError(f"a claim sleeps, and tasks are ready in {waiting.queues} for {waiting.types}")
        for peer in self.world.peers:
            if peer.reads and not peer.is_closed and not peer.socket.to_broker:
                known = peer.connection.protocol.in_flight
                assert known == peer.protocol.in_flight, "an answer is on no way"

    # ---- the end -----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """No more faults: everything ends."""
        world, stage = self.world, self.stage
        world.disk.stop_at(None)
        self._power_lost()
        world.disk.stop_at(None)
        stage.is_draining = True
        for step in range(DRAIN_STEPS_MAX):
            for actor in self.actors:
                actor.step()
            world.settle()
            world.finish_sync()
            world.advance_ms(50)
            world.finish_sync()
            if step % 20 == 0:
                self._check_rest()
                if step > 100 and not self._live():
                    break
        else:
            raise AssertionError(f"{self._live()} tasks do not end")
        self._read_ends()

    def _live(self) -> int:
        counts = queries.counts(self.world.broker.txn)
        unsure = sum(len(getattr(actor, "_unsure", ())) + len(getattr(actor, "_sent", ())) for actor in self.actors)
        return sum(counts[state] for state in LIVE) + unsure

    def _read_ends(self) -> None:
        peer = self.world.connect()
        for id in self.stage.ids:
            rid = peer.ask(m.GetTask, id)
            self.world.settle()
            reply: Any = peer.answers.pop(rid)
            if isinstance(reply, m.ErrorReply):
                assert isinstance(from_wire(reply.error), NotFound)
            else:
                assert reply.task["state"] in ENDED
                self.stage.recorder.final(id, reply.task)


def run_seed(seed: int, steps: int = STEPS) -> Run:
    """Play and judge. What is wrong is raised with the seed."""
    run = Run(seed, steps)
    try:
        run.play()
        breaches = run.judge()
        assert not breaches, "\n".join(map(str, breaches[:20]))
    except BaseException as error:
        error.add_note(f"seed {seed}, {steps} steps: make sim KIND=broker SEED={seed} RUNS=1 plays it again")
        raise
    return run


@pytest.mark.parametrize("seed", SEEDS)
def test_random_runs(seed):
    run = run_seed(seed)
    assert len(run.stage.ids) > 100, "little was submitted"
    assert run.listener.events > 100, "little was heard"
    assert run.queues.seen["pauses"] > 3, "hardly a queue was paused"
    assert run.queues.seen["created under a bound"] > 10, "hardly a queue was bounded"


def test_a_seed_is_the_run():
    first, second = Run(4, 80), Run(4, 80)
    first.play()
    second.play()
    assert first.stage.recorder.lines == second.stage.recorder.lines


# ---- bugs planted on purpose: a run that finds nothing proves nothing ---------------------------------


def _sync_lies(patch: pytest.MonkeyPatch) -> None:
    """Acknowledged before it is on the disk."""
    patch.setattr(SimDisk, "sync_lies", lambda self: True)


def _answers_get_lost(patch: pytest.MonkeyPatch) -> None:
    send, count = Connection.send, itertools.count()
    patch.setattr(Connection, "send", lambda self, message: next(count) % 40 == 39 or send(self, message))


def _granted_twice(patch: pytest.MonkeyPatch) -> None:
    """Who is to get nothing gets what another got."""
    send_grants = Connection.send_grants
    last: list[list[Any]] = []

    def twice(self: Connection, rid: int, index: int, session: bytes, grants: list[Any]) -> None:
        if grants:
            last[:] = grants[:1]
        send_grants(self, rid, index, session, grants or list(last))

    patch.setattr(Connection, "send_grants", twice)


def _effects_come_again(patch: pytest.MonkeyPatch) -> None:
    """A replay after a full map is not muted."""
    replay = Applier._replay

    def loud(self: Applier) -> None:
        first = self.store.checkpointed_index + 1
        replay(self)
        for entry in self._read_log(first, self.applied_index + 1):
            if entry.data:
                time_ms = self.machine.time_ms
                again = EventRuns()
                again.add(0, b"again".ljust(16), 0, 0, 0)
                self._on_applied(entry, Applied(entry.index, time_ms, [], again, {}, [], [], [], [], []))

    patch.setattr(Applier, "_replay", loud)


def _sleepers_are_not_woken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "became_ready", lambda self, ready: None)


def _what_is_left_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "feed_rest", lambda self: None)


def _leases_are_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker_module.queries, "held", lambda txn: iter(()))


def _claims_outlive_their_connection(patch: pytest.MonkeyPatch) -> None:
    park = Claims._park

    def forgetful(self: Claims, waiting: Waiting, left_ms: int) -> None:
        park(self, waiting, left_ms)
        waiting.connection.on_close.pop(waiting, None)

    patch.setattr(Claims, "_park", forgetful)


def _stale_outcomes_are_said_to_count(patch: pytest.MonkeyPatch) -> None:
    send = Connection.send

    def polite(self: Connection, message: m.Message) -> bool:
        if isinstance(message, m.ResultReply):
            message = m.ResultReply(message.rid, message.index, [0] * len(message.items))
        return send(self, message)

    patch.setattr(Connection, "send", polite)


def _replies_at_an_old_index(patch: pytest.MonkeyPatch) -> None:
    send = Connection.send

    def old(self: Connection, message: m.Message) -> bool:
        return send(
            self, m.SubmitReply(message.rid, 1, message.items) if isinstance(message, m.SubmitReply) else message
        )

    patch.setattr(Connection, "send", old)


def _stop_answers_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "stop", lambda self: None)


def _a_replay_is_said_to_be_whole(patch: pytest.MonkeyPatch) -> None:
    subscribe = Events.subscribe
    patch.setattr(Events, "subscribe", lambda self, *fields: subscribe(self, *fields) or True)


def _paused_queues_are_served(patch: pytest.MonkeyPatch) -> None:
    lay_out = QueueRules._lay_out

    def forgetful(self: QueueRules, number: int, settings: QueueSettings) -> None:
        lay_out(self, number, settings)
        self.paused.clear()

    patch.setattr(QueueRules, "_lay_out", forgetful)


def _full_queues_take_one_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(submit, "_length", lambda entry, counted: max(0, sum(map(entry.counts.value, counted)) - 1))


def _resuming_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue_set, "_wake", lambda entry, number: None)


def _settings_of_queues_are_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue_settings, "stored", lambda txn: {})


def _overtaken_checkpoints_count(patch: pytest.MonkeyPatch) -> None:
    head = checkpoint._HEAD

    class Forgetful:
        size, pack = head.size, head.pack

        @staticmethod
        def unpack_from(raw: bytes) -> tuple[int, int, bool]:
            return 0, 0, head.unpack_from(raw)[2]

    patch.setattr(checkpoint, "_HEAD", Forgetful)


def _checkpoints_are_not_handed_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "kept", lambda txn, task: None)


def _pages_skip_a_task(patch: pytest.MonkeyPatch) -> None:
    list_tasks = queries.list_tasks

    def skipping(*fields: Any, **more: Any) -> Any:
        tasks, cursor = list_tasks(*fields, **more)
        return tasks[: 1 if len(tasks) == 2 else None], cursor

    patch.setattr(queries, "list_tasks", skipping)


PLANTS = (
    _overtaken_checkpoints_count,
    _checkpoints_are_not_handed_on,
    _pages_skip_a_task,
    _sync_lies,
    _a_replay_is_said_to_be_whole,
    _answers_get_lost,
    _granted_twice,
    _sleepers_are_not_woken,
    _leases_are_forgotten_at_a_restart,
    _stale_outcomes_are_said_to_count,
    _stop_answers_nobody,
    _paused_queues_are_served,
    _full_queues_take_one_more,
    _resuming_wakes_nobody,
    _settings_of_queues_are_forgotten_at_a_restart,
)
RARE_PLANTS = (
    _effects_come_again,
    _what_is_left_wakes_nobody,
    _claims_outlive_their_connection,
    _replies_at_an_old_index,
)


def _is_found(seeds: int) -> bool:
    for seed in range(seeds):
        try:
            run_seed(seed, 300)
        except Exception:  # noqa: BLE001 - whatever it is that the run says, it has found it
            return True
    return False


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__.strip("_"))
def test_a_planted_bug_is_found(plant, monkeypatch):
    plant(monkeypatch)
    assert _is_found(10), "ten runs have not noticed"


@pytest.mark.skipif(not LONG, reason="TQ_LONG is not set")
@pytest.mark.parametrize("plant", RARE_PLANTS, ids=lambda plant: plant.__name__.strip("_"))
def test_a_planted_bug_that_shows_rarely_is_found(plant, monkeypatch):
    plant(monkeypatch)
    assert _is_found(80), "eighty runs have not noticed"
