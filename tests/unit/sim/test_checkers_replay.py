"""The replay of a log: it agrees with what nodes show, and condemns what they do not have."""

from __future__ import annotations

import pytest

from tests.unit.broker.rig import World, complete, task, task_id
from tq.raft.node import Entry
from tq.sim.checkers.records import Read
from tq.sim.checkers.replay import check_replay
from tq.store.dump import state_digest


@pytest.fixture
def world() -> World:
    """One task, completed; another one pending."""
    world = World()
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    (grant,) = peer.claim(session, 1)
    peer.report(session, complete(grant))
    peer.submit(task(2))
    return world


def entries(world: World) -> list[Entry]:
    return [Entry(entry.index, entry.term, entry.data) for entry in world.node.read(2, world.node.commit_index + 1)]


def read(world: World, number: int, state: str | None, fence: int, index: int | None = None) -> Read:
    at = world.broker.applied_index if index is None else index
    return Read("c1", 1, 2, 0, at, task_id(number).hex(), state, fence)


def judge(world: World, *reads: Read, digests: dict[int, bytes] | None = None) -> list[str]:
    settings = world.broker.applier.machine.settings
    return [str(breach) for breach in check_replay(entries(world), settings, reads, digests or {})]


def test_what_the_node_shows_is_what_the_log_makes(world):
    shown = world.connect().get(task_id(1))
    digest = {world.broker.applied_index: state_digest(world.broker.txn)}
    right = read(world, 1, "completed", shown["fence"]), read(world, 2, "pending", 0), read(world, 3, None, 0)
    assert judge(world, *right, digests=digest) == []


@pytest.mark.parametrize(
    ("number", "state", "fence", "back"),
    [
        (1, "completed", 5, 0),
        (2, "running", 0, 0),
        (1, "completed", 0, 2),
        (3, "pending", 0, 0),
        (1, "completed", 0, -1),
    ],
)
def test_a_read_of_what_never_was_is_condemned(world, number, state, fence, back):
    assert len(judge(world, read(world, number, state, fence, world.broker.applied_index - back))) == 1


def test_another_state_is_condemned(world):
    (breach,) = judge(world, digests={world.broker.applied_index: b"another"})
    assert "another state" in breach
