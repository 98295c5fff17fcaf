"""The whole broker at random: clients and workers at full speed, while everything happens to it that may.

The power goes at any write or sync, the process is killed, stopped or paused, the wall clock jumps, the disk fails and
fills, the store's map is full, connections vanish or stop reading. Then all work is done, and the checker of
histories judges what clients and workers asked and heard. In between, whenever the broker is at rest, its memory must
agree with its store, and no claim may sleep while a task that it could take is ready.

The seed is the run: a failure prints it, ``TQ_SIM_SEED=n`` runs it again. ``TQ_SIM_MINUTES=m`` runs new seeds for m
minutes (``make sim``).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.sim.crowd import LIVE, Actor, Listener, Stage, Submitter, Worker
from tests.unit.broker.rig import World
from tq.errors import NotFound, StorageFailed, from_wire
from tq.machine import queries
from tq.protocol import messages as m
from tq.sim.checkers.history import Breach, check
from tq.sim.checkers.records import parse
from tq.sim.disk import FREE_BYTES, PowerLoss
from tq.sim.random import SeededRandom

STEPS = 500
DRAIN_STEPS_MAX = 3_000
MINUTES = float(os.environ.get("TQ_SIM_MINUTES", "0"))
SEED = os.environ.get("TQ_SIM_SEED")
SEEDS = [int(SEED)] if SEED else list(range(6))
ENDED = ("completed", "cancelled", "expired", "skipped", "dead")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


class Run:
    """One seed, from the first connection to the verdict."""

    def __init__(self, seed: int, steps: int = STEPS) -> None:
        self.seed = seed
        self.steps = steps
        self.random = SeededRandom(seed)
        self.faults: Counter[str] = Counter()
        self.world = World(seed, late=self.random.below(2) == 0)
        self.stage = Stage(self.world, self.random.fork())
        self.listener = Listener(self.stage, "l1")
        workers = [Worker(self.stage, f"w{number}", 1 + 3 * number) for number in range(4)]
        self.actors: list[Actor] = [
            *[Submitter(self.stage, f"c{number}") for number in range(3)],
            *workers,
            self.listener,
        ]

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
        for _ in range(5):
            world.finish_sync()
            world.settle()
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
        error.add_note(f"seed {seed}, {steps} steps: TQ_SIM_SEED={seed} runs it again")
        raise
    return run


@pytest.mark.parametrize("seed", SEEDS)
def test_random_runs(seed):
    run = run_seed(seed)
    assert len(run.stage.ids) > 100, "little was submitted"
    assert run.listener.events > 100, "little was heard"


@pytest.mark.skipif(not MINUTES, reason="TQ_SIM_MINUTES is not set")
def test_random_runs_for_minutes():
    end = time.monotonic() + MINUTES * 60
    seed = time.time_ns() % 1_000_000_000 if SEED is None else int(SEED)
    faults: Counter[str] = Counter()
    runs = tasks = 0
    while time.monotonic() < end:
        run = run_seed(seed + runs, STEPS * 2)
        runs += 1
        tasks += len(run.stage.ids)
        faults += run.faults
    print(f"{runs} runs from seed {seed}, {tasks} tasks; {dict(faults)}")


def test_a_seed_is_the_run():
    first, second = Run(4, 150), Run(4, 150)
    first.play()
    second.play()
    assert first.stage.recorder.lines == second.stage.recorder.lines
