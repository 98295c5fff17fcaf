"""A task in the worker's hands."""

from __future__ import annotations

from tests.unit.worker.jobs import a_job
from tests.unit.worker.rig import some_handlers
from tq.worker.job import Why


def test_it_begins_with_nothing_against_it() -> None:
    job = a_job(some_handlers(), "t", number=3)
    assert (job.why, job.is_ended, job.is_given_up, job.handle) == (None, False, False, None)
    assert repr(job) == "<Job t 00000000-0000-0000-0000-000000000003>"


def test_each_reason_to_stop_reads_as_one() -> None:
    assert {why.name for why in Why} == {"CANCEL", "TIMEOUT", "DEADLINE", "LOST", "QUIT"}
    assert all(why.value for why in Why)
