from __future__ import annotations

import pytest

from tq.errors import InternalError
from tq.sim.late_sync import LateSync


def test_a_job_waits_until_it_is_run() -> None:
    sync = LateSync()
    done: list[str] = []
    sync.wake = lambda: done.append("rung")
    sync.run()
    assert (done, sync.in_flight, sync.take()) == ([], False, None)
    sync.start(lambda: done.append("synced"))
    assert (done, sync.in_flight, sync.take()) == ([], True, None)
    with pytest.raises(InternalError, match="in flight"):
        sync.start(lambda: None)
    sync.run()
    assert done == ["synced", "rung"]
    assert sync.in_flight
    result = sync.take()
    assert result is not None
    assert result.error is None
    assert not sync.in_flight
    assert sync.statistics().syncs == 1


def test_an_error_comes_back_with_the_result() -> None:
    sync = LateSync()

    def fail() -> None:
        raise OSError("no")

    sync.start(fail)
    sync.run()
    result = sync.take()
    assert result is not None
    assert str(result.error) == "no"


def test_closing_runs_what_waits() -> None:
    sync = LateSync()
    done: list[str] = []
    sync.start(lambda: done.append("synced"))
    sync.close()
    assert done == ["synced"]
