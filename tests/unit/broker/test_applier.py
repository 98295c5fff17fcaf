from __future__ import annotations

from typing import Any

import attrs
import pytest

from tq import limits
from tq.broker.applier import Applier
from tq.errors import StorageFailed
from tq.machine.apply import Machine, encode_entry
from tq.machine.commands import Command, SessionOpen, Submit
from tq.protocol import messages as m
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore
from tq.store.store import StoreFull

from .rig import World, complete, task, task_id


@attrs.frozen
class Entry:
    index: int
    term: int
    data: bytes


class Rig:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.log: list[Entry] = []
        self.applied: list[tuple[int, Any]] = []
        self.machines = 0
        self.applier = Applier(
            self.store, self._machine, lambda first, end: self.log[first - 1 : end - 1], lambda: 0.0, self._on_applied
        )

    def _machine(self) -> Machine:
        self.machines += 1
        return Machine(self.store.txn)

    def _on_applied(self, entry, applied) -> None:
        self.applied.append((entry.index, applied and applied.answers))

    def entry(self, *commands: Command) -> Entry:
        index = len(self.log) + 1
        data = encode_entry(1_000 + index, commands) if commands else b""
        self.log.append(Entry(index, 1, data))
        return self.log[-1]

    def submit(self, number: int) -> Entry:
        return self.entry(Submit([task(number)]))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_entries_in_order_with_their_answers(rig):
    rig.applier.apply([rig.entry(), rig.submit(1), rig.submit(1)])
    assert rig.applied == [(1, None), (2, [[0]]), (3, [[[1, 2, task_id(1), None]]])]
    assert rig.applier.applied_index == 3


def test_what_was_applied_is_skipped(rig):
    entries = [rig.submit(1), rig.submit(2)]
    rig.applier.apply(entries)
    rig.applier.apply(entries)
    assert len(rig.applied) == 2


def test_a_gap_stops_the_node(rig):
    rig.applier.apply([rig.submit(1)])
    rig.submit(2)
    with pytest.raises(AssertionError, match="entry 3 follows 1"):
        rig.applier.apply([rig.submit(3)])
    assert len(rig.applied) == 1


def test_applied_and_checkpointed_are_two(rig):
    rig.applier.apply([rig.submit(1), rig.submit(2)])
    assert (rig.applier.applied_index, rig.store.checkpointed_index) == (2, 0)
    assert rig.applier.checkpoint() is True
    assert rig.store.checkpointed_index == 2
    assert rig.applier.checkpoint() is False
    assert rig.applier.statistics().checkpoints == 1


def test_a_checkpoint_comes_sooner_when_much_is_dirty(rig, monkeypatch):
    monkeypatch.setattr(limits, "CHECKPOINT_DIRTY_BYTES_MAX", 5_000)
    rig.applier.apply([rig.entry(Submit([task(1, payload=bytes(10_000))]))])
    assert rig.store.checkpointed_index == 1
    rig.applier.apply([rig.submit(2)])
    assert rig.store.checkpointed_index == 1


def test_a_bug_in_the_machine_leaves_and_answers_nobody(rig):
    rig.log.append(Entry(1, 1, b"\xff"))
    with pytest.raises(Exception):  # noqa: B017 - whatever it is, it must come out
        rig.applier.apply(rig.log)
    assert rig.applied == []
    assert rig.applier.applied_index == 0


@pytest.mark.parametrize("puts", range(0, 40, 3))
def test_a_full_map_is_not_an_error_of_the_entry(puts):
    """Back to the checkpoint, larger, and forward again: the state is the same, and no effect comes twice."""
    plain, full = Rig(), Rig()
    for rig in (plain, full):
        rig.applier.apply([rig.entry(SessionOpen(b"s" * 16, "w", ["work"], ["default"])), rig.submit(1)])
        rig.applier.checkpoint()
    full.store.full_after(puts)
    for rig in (plain, full):
        rig.applier.apply([rig.submit(number) for number in range(2, 8)])
    assert full.applied == plain.applied
    assert state_digest(full.store.txn) == state_digest(plain.store.txn)
    statistics = full.applier.statistics()
    assert statistics.replays == (1 if full.machines == 2 else 0)
    assert statistics.applied_index == 8


def test_a_map_that_stays_full_stops_the_node(rig, monkeypatch):
    rig.applier.apply([rig.submit(1)])
    rig.store.full_after(0)
    monkeypatch.setattr(rig.store, "grow", lambda: None)
    with pytest.raises(StoreFull):
        rig.applier.apply([rig.submit(2)])
    assert len(rig.applied) == 1


# ---- on a whole broker --------------------------------------------------------------------------------


@pytest.mark.parametrize("puts", [0, 1, 2, 5, 9])
def test_a_full_map_under_a_running_broker(puts):
    world = World()
    peer = world.connect()
    session = peer.register()
    subscription = peer.ask(m.Subscribe)
    rid = peer.ask_claim(session, 1, 1, 20_000)
    world.settle()
    world.store.full_after(puts)
    for number in range(1, 6):
        assert peer.submit(task(number)).items == [0]
    (grant,) = peer.answer(rid).grants
    assert peer.report(session, complete(grant)) == [0]
    assert world.broker.applier.statistics().replays == 1
    rows = [row for push in peer.pushes if push.subscription == subscription for row in push.events]
    ids = [(row[0], row[1]) for row in rows]
    assert ids == sorted(set(ids)), "an event came twice"
    world.advance_ms(500)
    world.restart()
    assert world.connect().state(task_id(1)) == "completed"


def test_a_checkpoint_that_fails_stops_the_node():
    world = World()
    peer = world.connect()
    peer.submit(task(1))
    world.store.fail_checkpoint()
    with pytest.raises(StorageFailed):
        world.advance_ms(500)


def test_the_log_is_cut_behind_checkpoints_only():
    world = World(segment_bytes=1_000)
    peer = world.connect()
    for number in range(1, 30):
        peer.submit(task(number))
        world.advance_ms(100)
        assert world.node.statistics().base_index <= world.store.checkpointed_index
    assert world.node.statistics().base_index > 10, "it is cut"
    world.lose_power()
    world.start()
    peer = world.connect()
    assert all(peer.state(task_id(number)) == "pending" for number in range(1, 30))


def test_another_state_begins_it_anew(rig):
    other = Rig()
    for number in range(1, 6):
        other.applier.apply([other.submit(number)])
    other.applier.checkpoint()
    rig.applier.apply([rig.submit(1)])
    copy, intake = other.store.copy(1000), rig.store.intake()
    for piece in iter(copy.read, b""):
        intake.write(piece)
    intake.finish(5)
    rig.store.adopt(intake)
    rig.applier.begin_anew()
    assert (rig.applier.applied_index, rig.machines) == (5, 2)
    entry = other.submit(6)
    other.applier.apply([entry])
    rig.applier.apply([entry])
    assert state_digest(rig.store.txn) == state_digest(other.store.txn)
    rig.applier.applied_index = 7
    with pytest.raises(AssertionError, match="older than ours"):
        rig.applier.begin_anew()
