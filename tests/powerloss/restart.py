"""Start a node from what a disk held, tell it to end all work, and judge whether all that was told before is kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.powerloss.recorded import RealWorld
from tests.sim.one_node import Life, judge


def restart(root: Path, diary: Iterable[str], seed: int) -> None:
    """Raises AssertionError where a promise is broken, DataDamaged where the node does not start.

    diary: the lines that had been written when the power went.
    """
    world = RealWorld(str(root), seed, None)
    try:
        world.remember(diary)
        Life(world).drain()
        judge(world)
    finally:
        world.close()
