"""A real node whose files may not grow any more: it stops before it tells anything that the disk does not hold.

The kernel's bound on the size of a file stands for the full disk: the write fails in the middle of a run, in the log or in
a checkpoint of the store, wherever the bound falls.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from tests.powerloss import run
from tests.powerloss.restart import restart

RUN = """
import resource, sys
import attrs
import structlog
from tests.sim import one_node
from tests.powerloss.recorded import RealWorld
from tests.sim.one_node import Life
from tq.config import StorageSection
from tq.errors import StorageFailed

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
root, seed, file_bytes_max, free_steps, checkpoint_ms = sys.argv[1], *map(int, sys.argv[2:])
one_node.CONFIG = attrs.evolve(one_node.CONFIG, storage=StorageSection(checkpoint_ms=checkpoint_ms))
world = RealWorld(root, seed, 1)
life = Life(world)
try:
    for step in range(1_000):
        if step == free_steps:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, resource.RLIM_INFINITY))
        life.step()
except StorageFailed as error:
    told = len(world.lines)
    for use in (life.step, life.node.turn, life.broker.checkpoint):
        try:
            use()
        except StorageFailed:
            pass
    assert not any('"index"' in line for line in world.lines[told:]), "something was told after the disk was full"
    print(error, file=sys.stderr)
    sys.exit(7)
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(
    ("file_bytes_max", "free_steps", "checkpoint_ms", "what"),
    [
        (60_000, 0, 100, "checkpoint at index"),
        (140_000, 0, 100, "checkpoint at index"),
        (1_000, 30, 10_000, "raft/"),
        (3_000, 31, 10_000, "raft/"),
        (5_500, 60, 10_000, "raft/"),
        (100, 1, 10_000, "raft/"),
    ],
)
def test_a_full_disk_stops_the_node_before_it_tells(
    file_bytes_max: int, free_steps: int, checkpoint_ms: int, what: str
) -> None:
    with run.scratch() as folder:
        root = folder / "data"
        argv = [sys.executable, "-c", RUN, str(root), "5", str(file_bytes_max), str(free_steps), str(checkpoint_ms)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 7, done.stderr
        assert what in done.stderr
        diary = done.stdout.splitlines()
        restart(root, diary, 5)
