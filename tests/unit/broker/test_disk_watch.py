from __future__ import annotations

import pytest

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
