from __future__ import annotations

import pytest

from tests.sim.three_brokers import STEP_MS, Brokers
from tq.broker.disk_watch import LOOK_MS, DiskWatch
from tq.errors import DiskFull
from tq.protocol import messages as m
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk

from .rig import World, complete, task, task_id, with_limits


def look(watch, clock, disk, free):
    disk.fill_after(free)
    clock.advance_ms(LOOK_MS)
    watch.run_once()
    return watch.is_low


def test_the_watermark_and_its_way_back():
    clock, disk = VirtualClock(), SimDisk()
    watch = DiskWatch(disk, clock, 1_000)
    assert not watch.is_low
    assert not look(watch, clock, disk, 1_000)
    assert look(watch, clock, disk, 999)
    assert watch.free_bytes == 999
    assert look(watch, clock, disk, 1_049), "it does not flutter at the mark"
    assert not look(watch, clock, disk, 1_050)
    assert not look(watch, clock, disk, 1_000)


def test_a_node_that_starts_full_knows_it_at_once():
    disk = SimDisk()
    disk.fill_after(10)
    assert DiskWatch(disk, VirtualClock(), 1_000).is_low


def test_it_looks_once_a_second():
    clock, disk = VirtualClock(), SimDisk()
    watch = DiskWatch(disk, clock, 1_000)
    disk.fill_after(0)
    clock.advance_ms(LOOK_MS - 1)
    watch.run_once()
    assert not watch.is_low
    clock.advance_ms(1)
    watch.run_once()
    assert watch.is_low


def test_zero_is_no_watermark():
    clock, disk = VirtualClock(), SimDisk()
    watch = DiskWatch(disk, clock, 0)
    assert not look(watch, clock, disk, 0)


def test_what_the_store_does_not_use_counts_as_free():
    clock, disk = VirtualClock(), SimDisk()
    reusable = 300
    watch = DiskWatch(disk, clock, 1_000, lambda: reusable)
    assert not look(watch, clock, disk, 700)
    assert look(watch, clock, disk, 699)
    assert watch.free_bytes == 699
    assert not look(watch, clock, disk, 750)


def test_the_log_needs_real_disk():
    clock, disk = VirtualClock(), SimDisk()
    watch = DiskWatch(disk, clock, 1_000, lambda: 1 << 30)
    assert not look(watch, clock, disk, 500)
    assert look(watch, clock, disk, 499)
    assert look(watch, clock, disk, 524)
    assert not look(watch, clock, disk, 525)


@pytest.mark.parametrize(
    ("low", "away", "refuses"),
    [
        ("", "", False), ("b", "", False), ("bc", "", True), ("b", "c", True), ("", "b", False), ("", "bc", False),
        ("b", "b", False),
    ],
)  # fmt: skip
def test_too_few_followers_with_room(low, away, refuses):
    watch = DiskWatch(SimDisk(), VirtualClock(), 1_000)
    for peer in "bc":
        watch.heard(peer, True)
        watch.heard(peer, peer in low)
    assert watch.are_followers_low("bc", set("bc") - set(away)) == refuses


def test_a_leader_of_five_may_have_two_without_room():
    watch = DiskWatch(SimDisk(), VirtualClock(), 1_000)
    for peer in "bc":
        watch.heard(peer, True)
    assert not watch.are_followers_low("bcde", "bcde")
    watch.heard("d", True)
    assert watch.are_followers_low("bcde", "bcde")
    watch.heard("d", False)
    watch.heard("a node that left", True)
    assert not watch.are_followers_low("bcde", "bcde")


# ---- on a whole broker --------------------------------------------------------------------------------


def test_below_the_mark_submissions_are_refused_and_work_goes_on():
    world = World(settings=with_limits(disk_free_min_bytes=1_000_000))
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1), task(2))
    (first,) = peer.claim(session, 1)
    world.disk.fill_after(900_000)
    world.advance_ms(1_100)
    with pytest.raises(DiskFull) as refused:
        peer.submit(task(3))
    assert refused.value.retryable
    assert refused.value.retry_after
    assert peer.report(session, complete(first)) == [0]
    (second,) = peer.claim(session, 2)
    assert peer.report(session, complete(second)) == [0]
    assert peer.state(task_id(1)) == "completed"
    assert peer.call(m.PurgeTasks, b"o" * 16, [task_id(1)]).items == [[4, None]]
    assert peer.call(m.CancelTask, [task_id(2)], 0).items[0][0] == 4
    world.disk.fill_after(2_000_000)
    world.advance_ms(1_100)
    assert peer.submit(task(3)).items == [0]


# ---- on a leader and its followers --------------------------------------------------------------------


def test_a_leader_refuses_when_too_few_followers_have_room():
    """Two full disks of three: the next entries would stop both nodes."""
    brokers = Brokers(1)
    for name in brokers.members:
        brokers.start(name)
    leader = brokers.elect()
    followers = [member for name, member in brokers.members.items() if name != leader]
    replies: list[m.Message] = []

    def submit() -> m.Message:
        had = len(replies)
        brokers.peer(leader).ask(lambda rid: m.SubmitTask(rid, [task(had)], False), replies.append)
        brokers.run_until(lambda: len(replies) > had, "an answer")
        return replies[-1]

    assert isinstance(submit(), m.SubmitReply)
    for member in followers:
        member.disk.fill_after(100 << 20)
    pass_time(brokers, 7_000)
    refused = submit()
    assert isinstance(refused, m.ErrorReply)
    assert refused.error[0] == DiskFull.code
    followers[0].disk.fill_after(1 << 30)
    pass_time(brokers, 7_000)
    assert isinstance(submit(), m.SubmitReply), "with one of them it is a majority"


def pass_time(brokers: Brokers, ms: int) -> None:
    for _ in range(ms // STEP_MS):
        brokers.step()
