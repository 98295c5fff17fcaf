from __future__ import annotations

import threading

import pytest

from tq import limits
from tq.errors import InternalError
from tq.raft.sync import AutoSync, Durations, InlineSync, SyncDone, ThreadSync, new_sync
from tq.sim.clock import VirtualClock


def fail() -> None:
    raise OSError(5, "no")


def until_done(sync: ThreadSync | AutoSync, rung: threading.Event) -> SyncDone:
    assert rung.wait(timeout=30)
    rung.clear()
    done = sync.take()
    assert done is not None
    return done


def test_inline_runs_at_once_and_measures():
    clock = VirtualClock()
    sync = InlineSync(clock)
    sync.start(lambda: clock.advance_ms(7))
    assert sync.in_flight
    with pytest.raises(InternalError):
        sync.start(lambda: None)
    assert sync.take() == SyncDone(None, pytest.approx(7))
    assert sync.take() is None
    assert not sync.in_flight
    assert sync.statistics().last_ms == pytest.approx(7)


def test_inline_hands_over_the_disks_error_and_no_other():
    sync = InlineSync(VirtualClock())
    sync.start(fail)
    done = sync.take()
    assert done is not None
    assert done.error is not None
    with pytest.raises(ZeroDivisionError):
        sync.start(lambda: print(1 // 0))


def test_the_thread_works_beside_the_loop_and_rings():
    rung, may_end, ran_on = threading.Event(), threading.Event(), []
    sync = ThreadSync(VirtualClock())
    sync.wake = rung.set

    def job() -> None:
        ran_on.append(threading.get_ident())
        assert may_end.wait(timeout=30)

    sync.start(job)
    assert sync.in_flight
    assert sync.take() is None
    with pytest.raises(InternalError):
        sync.start(job)
    may_end.set()
    assert until_done(sync, rung).error is None
    assert ran_on != [threading.get_ident()]
    sync.start(fail)
    assert until_done(sync, rung).error is not None
    sync.close()
    sync.close()


def test_close_waits_for_the_job():
    ended = []
    sync = ThreadSync(VirtualClock())
    sync.start(lambda: ended.append(1))
    sync.close()
    assert ended == [1]


def test_percentiles_are_of_the_last_samples():
    durations = Durations()
    assert durations.percentile(99) == 0
    for took_ms in [500.0] * 10 + [float(n * 100 // limits.SYNC_SAMPLES) for n in range(limits.SYNC_SAMPLES)]:
        durations.add(took_ms)
    assert durations.count == limits.SYNC_SAMPLES + 10
    assert 45 <= durations.percentile(50) <= 50
    assert 96 <= durations.percentile(99) <= 99


def test_auto_takes_the_thread_on_a_slow_disk_and_comes_back():
    clock, rung = VirtualClock(), threading.Event()
    sync = AutoSync(clock)
    sync.wake = rung.set
    modes = []
    for took_ms in [0] * 40 + [30] * 40 + [0] * (limits.SYNC_SAMPLES + 64):
        sync.start(lambda took_ms=took_ms: clock.advance_ms(took_ms))
        mode = sync.statistics().mode
        modes.append(mode)
        done = sync.take() if mode == "auto: inline" else until_done(sync, rung)
        assert done is not None
    sync.close()
    assert modes[0] == modes[40] == modes[-1] == "auto: inline"
    assert modes[79] == modes[200] == "auto: thread"


@pytest.mark.parametrize(
    ("took_ms", "mode"),
    [
        ([0] * 98 + [15] * 2, "auto: inline"),  # a stall now and then is no slow disk
        ([0] * 96 + [30] * 4, "auto: thread"),  # but nobody may wait that long for a sign of life
        ([2] * 100, "auto: thread"),
    ],
)
def test_auto_goes_by_the_rule_and_by_the_long_exception(took_ms: list[int], mode: str) -> None:
    clock, rung = VirtualClock(), threading.Event()
    sync = AutoSync(clock)
    sync.wake = rung.set
    for took in [*took_ms * 3, 0]:
        sync.start(lambda took=took: clock.advance_ms(took))
        found = sync.statistics().mode
        done = sync.take() if found == "auto: inline" else until_done(sync, rung)
        assert done is not None
    sync.close()
    assert found == mode


def test_modes_by_name():
    clock = VirtualClock()
    assert [type(new_sync(mode, clock)) for mode in ("inline", "thread", "auto")] == [InlineSync, ThreadSync, AutoSync]
