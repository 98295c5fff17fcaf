"""Start a node from what a disk held, tell it to end all work, and judge whether all that was told before is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tests.powerloss.recorded import RealWorld
from tests.sim.one_node import Life, judge
from tq.spec import parse


def restart(root: Path, diary: Iterable[str], seed: int) -> None:
    """Raises AssertionError where a promise is broken, DataDamaged where the node does not start.

    diary: the lines that had been written when the power went.
    """
    world = RealWorld(str(root), seed, None)
    try:
        _remember(world, diary)
        Life(world).drain()
        judge(world)
    finally:
        world.close()


def _remember(world: RealWorld, diary: Iterable[str]) -> None:
    wall_ms = world.clock.wall_ms()
    for line in diary:
        note = json.loads(line)
        if "entry" in note:
            index, term, data = note["entry"]
            world.entries[index] = (term, bytes.fromhex(data))
        elif "term" in note:
            world.led.append(note["term"])
        elif "wall_ms" in note:
            wall_ms = note["wall_ms"]
        else:
            world.resume(note["history"])
    world.clock.advance_ms(wall_ms - world.clock.wall_ms())
    submitted = {raw for line in world.lines for raw in _specs(json.loads(line))}
    world.specs = sorted(map(bytes.fromhex, submitted), key=lambda raw: parse(raw).id)


def _specs(record: dict[str, object]) -> list[str]:
    tasks = record["tasks"] if record.get("call") == "submit" else []
    assert isinstance(tasks, list)
    return [row[1] for row in tasks]
