"""The power goes at every write, sync and checkpoint of a run of a whole node.

The run (``one_node.py``) submits, claims, reports, cancels, reads and lets time pass; the process is killed and stopped in
between, and the store's map fills up. After the power loss, and a second one while the node recovers or soon after,
everything is brought to its end, and then:

- the checker of histories finds no breach: nothing that was told is lost or undone, no fence is given twice;
- what was handed out as committed is handed out again, the same, and nothing is missing between;
- the store is equal to the one of a machine that applied the same entries and never stopped;
- no term is led twice.

TQ_LONG=1 tries many more runs; ``make sim KIND=node`` new seeds.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator

import pytest
import structlog

from tests.sim.one_node import Life, World, judge
from tq.errors import DataDamaged
from tq.sim.disk import PowerLoss
from tq.sim.random import SeededRandom

LONG = os.environ.get("TQ_LONG") == "1"
SEEDS = range(12 if LONG else 1)
LOSSES = 8 if LONG else 2
LIVES = 3
STEPS_OF_A_LIFE = 22


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    yield
    structlog.configure(**before)


def play(world: World) -> None:
    for _ in range(LIVES):
        life = Life(world)
        for _ in range(STEPS_OF_A_LIFE):
            life.step()
        if world.random.below(2):
            life.stop()
        world.replays += life.broker.applier.statistics().replays
        world.stop_dead()


def recover(world: World, seed: int) -> None:
    """Start after a power loss, lose power again within the next steps, start again, and bring all to its end."""
    chance = SeededRandom(seed)
    world.lose_power(chance)
    world.disk.stop_at(world.disk.steps + 1 + chance.below(40))
    try:
        life = Life(world)
        for _ in range(6):
            life.step()
        world.stop_dead()
    except PowerLoss:
        world.lose_power(chance)
    world.disk.stop_at(None)
    life = Life(world)
    life.drain()
    judge(world)


def whole_run(seed: int, *, late: bool) -> World:
    world = World(seed, late=late)
    play(world)
    return world


@pytest.mark.parametrize("late", [False, True], ids=["inline", "thread"])
@pytest.mark.parametrize("seed", SEEDS)
def test_power_loss_at_every_step(seed: int, late: bool) -> None:
    at_every_step(seed, late=late)


def at_every_step(seed: int, *, late: bool) -> int:
    """How often the power went first."""
    steps = whole_run(seed, late=late).disk.steps
    assert steps > 100
    for step in range(1, steps + 1):
        world = World(seed, late=late)
        world.disk.stop_at(step)
        with pytest.raises(PowerLoss):
            play(world)
        for loss in range(LOSSES):
            try:
                recover(copy.deepcopy(world), 1_000 * step + loss)
            except BaseException as error:
                error.add_note(f"seed {seed}, late {late}, power lost at step {step}, loss {loss}")
                raise
    return steps * LOSSES


def test_a_map_that_is_full_at_the_checkpoint_itself() -> None:
    world = World(3, late=False)
    life = Life(world)
    for _ in range(20):
        life.step()
    world.store.full_after(0)
    world.clock.advance_ms(1_000)
    life.broker.look()
    assert life.broker.applier.statistics().replays > 0
    assert world.store.checkpointed_index == life.broker.applied_index
    world.stop_dead()
    Life(world).drain()
    judge(world)


def test_the_checks_see_what_a_lying_disk_loses() -> None:
    """The tests above can fail: on a disk whose syncs do nothing most power losses break a promise."""
    found = 0
    for step in range(20, 60):
        world = World(0, late=False)
        world.disk.lie(lambda: True)
        world.disk.stop_at(step)
        with pytest.raises(PowerLoss):
            play(world)
        world.disk.lie(None)
        try:
            recover(world, step)
        except (AssertionError, DataDamaged):
            found += 1
    assert found > 20
