"""A task's past: bounded in rows and in bytes, and the older part folded into a count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.driver import Driver
from tq import limits
from tq.machine import commands as c
from tq.machine import history
from tq.machine.commands import Outcome
from tq.machine.history import cut_error
from tq.store.tables import Table


def test_older_rows_are_folded_into_a_count() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    for _ in range(limits.HISTORY_ROWS_MAX + 5):
        last = d.claim()[0]
        d.report(*last, Outcome.RELEASE)
    shown = d.show(1)
    assert len(shown["history"]) == d.txn.count(Table.HISTORY) == limits.HISTORY_ROWS_MAX
    assert shown["history_dropped"] == 5
    assert shown["history"][-1]["fence"] == last[1]
    assert d.report(*last, Outcome.RELEASE) == 1
    d.fail(*d.claim()[0], permanent=True)
    d.do(c.Purge(d.operation(), [shown["id"]]))
    assert d.txn.count(Table.HISTORY) == 0


def test_a_row_tells_who_when_and_why() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    began, d.now_ms = d.now_ms, d.now_ms + 40
    d.fail(id, fence, error=["ValueError", "no", "Traceback ..."])
    assert d.show(1)["history"] == [
        {
            "outcome": "failed",
            "fence": fence,
            "attempt": 1,
            "started_ms": began,
            "ended_ms": d.now_ms,
            "worker": "worker",
            "error": ["ValueError", "no", "Traceback ..."],
            "times": 1,
        }
    ]


def test_a_first_attempt_that_completes_writes_no_row() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    d.now_ms += 5
    d.complete(id, fence)
    assert d.txn.count(Table.HISTORY) == 0
    (row,) = d.show(1)["history"]
    assert (row["outcome"], row["fence"], row["worker"]) == (history.COMPLETED, fence, "worker")
    assert row["ended_ms"] - row["started_ms"] == 5


texts = st.text(alphabet=st.sampled_from("a\u00e9\U0001f600"), max_size=10) | st.builds(
    lambda n, letter: letter * n, st.integers(0, 80_000), st.sampled_from("a\u00e9\U0001f600")
)


@given(st.lists(texts, min_size=3, max_size=3))
def test_an_error_fits_its_bound_and_says_where_it_was_cut(error: list[str]) -> None:
    cut = cut_error(error)
    assert sum(len(text.encode()) for text in cut) <= limits.ERROR_TEXT_BYTES_MAX
    if sum(len(text.encode()) for text in error) * 4 <= limits.ERROR_TEXT_BYTES_MAX:
        assert cut == error
    for before, after in zip(error, cut, strict=True):
        assert after == before or history.CUT_MARK in after
    assert cut[0] == error[0] or error[0].startswith(cut[0].removesuffix(history.CUT_MARK))
    assert cut[2] == error[2] or error[2].endswith(cut[2].removeprefix(history.CUT_MARK))


def test_the_frames_that_matter_stay() -> None:
    traceback = "x" * limits.ERROR_TEXT_BYTES_MAX + "\nZeroDivisionError: division by zero"
    assert cut_error(["ZeroDivisionError", "division by zero", traceback])[2].endswith("division by zero")


def test_a_large_error_is_cut_where_it_is_stored() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    d.fail(*d.claim()[0], error=["E", "m", "t" * 200_000])
    assert sum(map(len, d.show(1)["error"])) <= limits.ERROR_TEXT_BYTES_MAX


@pytest.mark.parametrize("what", ["failed", "released"])
def test_the_history_outlives_a_completion(what: str) -> None:
    d = Driver()
    d.open()
    d.submit(1)
    if what == "failed":
        d.report(*d.claim()[0], Outcome.FAIL, [["E", "m", "t"], False, 0])
        d.advance(c.Timer.DUE)
    else:
        d.report(*d.claim()[0], Outcome.RELEASE)
    d.complete(*d.claim()[0])
    assert [row["outcome"] for row in d.show(1)["history"]] == [what, "completed"]
