from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing

from tq import limits
from tq.errors import InternalError, StorageFailed
from tq.raft import driver
from tq.raft.node import Entry, Node
from tq.raft.reads import ReadEnd
from tq.raft.sync import ThreadSync
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk

from .rig import depose, node_on


class Broker:
    """One entry in flight, as the proposer has it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.waiting: list[bytes] = []
        self.in_flight = False
        self.log: list[object] = []
        self.turns = 0
        self.on_entry: Callable[[Entry], None] = lambda entry: None

    def submit(self, data: bytes) -> None:
        self.waiting.append(data)
        self.ring_for_more()

    def ring_for_more(self) -> None:
        if self.waiting and self.node.wake is not None:
            self.node.wake()

    def before_turn(self) -> None:
        self.turns += 1
        if self.node.is_leader and self.waiting and not self.in_flight:
            self.node.propose(self.waiting.pop(0))
            self.in_flight = True

    def on_committed(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.on_entry(entry)
            self.log.append(entry.data)
            if entry.data:
                self.in_flight = False
                self.ring_for_more()

    def on_role(self, leads: bool) -> None:
        self.log.append(leads)
        self.ring_for_more()

    def on_reads(self, ends: list[ReadEnd]) -> None:
        self.log.extend(ends)


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def broker() -> Broker:
    return Broker(node_on(SimDisk()))


def start(nursery: trio.Nursery, broker: Broker) -> None:
    nursery.start_soon(
        driver.run, broker.node, broker.before_turn, broker.on_committed, broker.on_role, broker.on_reads
    )


async def test_entries_come_before_the_role_and_proposals_one_by_one(broker, autojump_clock, nursery):
    broker.waiting = [b"a", b"b", b"c"]
    start(nursery, broker)
    await settle()
    assert broker.log == [b"", b"", True, b"a", b"b", b"c"]
    broker.submit(b"d")
    await settle()
    assert broker.log[-1] == b"d"


async def test_idle_it_wakes_twice_a_second(broker, autojump_clock, nursery):
    start(nursery, broker)
    await settle()
    turns = broker.turns
    await trio.sleep(60)
    assert 100 <= broker.turns - turns <= 60_000 / limits.RAFT_ALONE_WAKE_MS + 1


async def test_a_wake_is_taken_at_once(broker, autojump_clock, nursery):
    start(nursery, broker)
    await trio.sleep(10.1)
    began = trio.current_time()
    broker.submit(b"x")
    await settle()
    assert broker.log[-1] == b"x"
    assert trio.current_time() == began


async def test_a_pass_can_run_now(broker, autojump_clock, nursery):
    """For who has given it what others said: no other task runs before the entry is handed out."""
    start(nursery, broker)
    await settle()
    broker.waiting = [b"x"]
    assert broker.node.run_now is not None
    broker.node.run_now()
    assert broker.log[-1] == b"x"
    turns = broker.turns
    await trio.sleep(10)
    assert 10 <= broker.turns - turns <= 10_000 / limits.RAFT_ALONE_WAKE_MS + 2


async def test_a_pass_that_fails_now_ends_it_whoever_swallows_that(broker, autojump_clock):
    def apply(entry: Entry) -> None:
        if entry.data == b"poison":
            raise OSError("a bug")

    broker.on_entry = apply
    with pytest.RaisesGroup(pytest.RaisesExc(InternalError, match="a pass of Raft failed")):
        async with trio.open_nursery() as nursery:
            start(nursery, broker)
            await settle()
            broker.waiting = [b"poison", b"later"]
            assert broker.node.run_now is not None
            with pytest.raises(OSError, match="a bug"):
                broker.node.run_now()
    assert broker.log == [b"", b"", True]


async def test_a_read_ends_behind_what_was_committed_before_it(broker, autojump_clock, nursery):
    start(nursery, broker)
    await settle()
    broker.submit(b"x")
    ticket = broker.node.read_index()
    assert broker.node.wake is not None
    broker.node.wake()
    await settle()
    assert broker.log[-2:] == [b"x", ReadEnd(ticket, 2)] or broker.log[-2:] == [ReadEnd(ticket, 2), b"x"]


async def test_others_run_between_passes(broker, autojump_clock, nursery):
    """A queue that is always full does not starve the loop."""
    broker.waiting = [b"%d" % number for number in range(200)]
    start(nursery, broker)
    seen = []
    while len(broker.log) < 203:
        seen.append(len(broker.log))
        await trio.lowlevel.checkpoint()
    assert len(seen) > 100


async def test_lost_leadership_is_told_before_it_is_won_again(broker, autojump_clock, nursery):
    start(nursery, broker)
    await settle()
    depose(broker.node._guard, term=5)
    assert broker.node.wake is not None
    broker.node.wake()
    await settle()
    assert broker.log == [b"", b"", True, b"", False, True]
    assert broker.node.term == 6


async def test_a_failing_disk_ends_it(autojump_clock):
    disk = SimDisk()
    broker = Broker(node_on(disk))
    disk.fail_sync()
    with pytest.raises(StorageFailed):
        await driver.run(broker.node, broker.before_turn, broker.on_committed, broker.on_role, broker.on_reads)
    assert broker.log == []
    assert broker.node.wake is None


async def test_an_exception_of_apply_ends_it_and_is_not_repeated(broker):
    """H8: not caught, not tried again."""
    seen = []

    def apply(entry: Entry) -> None:
        seen.append(entry.index)
        if entry.data == b"poison":
            raise AssertionError("a bug")

    broker.on_entry = apply
    broker.waiting = [b"poison", b"later"]
    with pytest.raises(AssertionError, match="a bug"):
        await driver.run(broker.node, broker.before_turn, broker.on_committed, broker.on_role, broker.on_reads)
    assert seen == [1, 2, 3]


async def test_the_sync_thread_wakes_it():
    clock = VirtualClock()
    broker = Broker(node_on(SimDisk(), sync=ThreadSync(clock), clock=clock))
    broker.waiting = [b"a", b"b"]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            start(nursery, broker)
            while broker.log != [b"", b"", True, b"a", b"b"]:
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    broker.node.close()


async def test_a_bell_can_be_rung_from_any_thread_and_keeps_one_ring():
    bell = driver.Bell()
    bell.ring()
    bell.ring()
    with trio.fail_after(30):
        await bell.wait(1000)
        threading.Thread(target=bell.ring).start()
        await bell.wait(1000)
    bell.close()


async def test_a_wait_ends_at_its_time_and_not_at_that_of_an_earlier_one(autojump_clock):
    bell = driver.Bell()
    began = trio.current_time()
    bell.ring()
    await bell.wait(1)
    for timeout, passed in [(5, 5), (0.5, 5.5), (2, 7.5), (100, 107.5)]:
        await bell.wait(timeout)
        assert trio.current_time() - began == pytest.approx(passed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait, 50)
        await settle()
        bell.ring()
    assert trio.current_time() - began == pytest.approx(107.5)
    await bell.wait(60)  # the alarm of the wait that was rung does not end this one
    assert trio.current_time() - began == pytest.approx(167.5)
    with trio.move_on_after(3):
        await bell.wait(10)
    assert trio.current_time() - began == pytest.approx(170.5)
    bell.ring()
    await bell.wait(1)
    assert trio.current_time() - began == pytest.approx(170.5)
    bell.close()


def test_a_ring_after_the_loop_has_ended_is_no_error():
    async def make() -> driver.Bell:
        return driver.Bell()

    bell = trio.run(make)
    thread = threading.Thread(target=bell.ring)
    thread.start()
    thread.join()
