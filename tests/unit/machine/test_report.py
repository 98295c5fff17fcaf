"""REPORT: the fence decides; the bulk path leaves what the general path leaves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.driver import SESSION, Driver, id_of
from tq import limits
from tq.errors import InvalidRequest, PayloadTooLarge
from tq.machine import commands as c
from tq.machine import report as report_module
from tq.machine.answers import EventKind, ReportOutcome
from tq.machine.commands import Outcome
from tq.machine.history import STALE_ROWS_MAX
from tq.machine.settings import Settings
from tq.store.tables import Table

STALE = int(ReportOutcome.STALE)
fields = st.sampled_from(
    [{}, {}, {"timeout_ms": 50}, {"deadline_ms": 50}, {"unique": ("u", 1)}, {"result_ttl_ms": 5}, {"tags": ("t",)}]
)


@settings(max_examples=50)
@given(st.lists(fields, min_size=1, max_size=8), st.lists(st.integers(-2, 9), min_size=1, max_size=10))
def test_bulk_and_general_paths_agree(tasks: list[dict[str, Any]], named: list[int]) -> None:
    """Also with foreign ids, wrong fences and the same item twice."""
    bulk, general = Driver(), Driver()
    answers = []
    for d in (bulk, general):
        d.open()
        for n, extra in enumerate(tasks):
            d.submit(n, **(extra if "unique" not in extra else {"unique": (f"u{n}", 1)}))
        fences = dict(d.claim(10))
        items = [
            [id_of(abs(n)), fences.get(id_of(abs(n)), 3) + (n < 0), int(Outcome.COMPLETE), ["t", b"r%d" % n]]
            for n in named
        ]
        with pytest.MonkeyPatch.context() as patch:
            if d is general:
                patch.setattr(report_module.t, "SPECIAL", 0xFFFF)
                patch.setattr(report_module, "RECORD_VERSION", -1)
            answers.append(d.apply(c.Report(SESSION, items, 5)))
    assert answers[0] == answers[1]
    assert bulk.digest() == general.digest()


def test_the_second_report_of_the_same_outcome_is_already_and_of_another_one_stale() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    assert d.complete(id, fence) == ReportOutcome.APPLIED
    assert d.complete(id, fence, b"other bytes") == ReportOutcome.ALREADY
    assert d.show(1)["result"] == b"r"
    assert d.fail(id, fence) == [STALE, 4]


@pytest.mark.parametrize(
    ("outcome", "body"),
    [
        (Outcome.FAIL, [["E", "m", "t"], False, 0]),
        (Outcome.RELEASE, None),
        (Outcome.SNOOZE, 0),
        (Outcome.CANCELLED, None),
    ],
)
def test_a_past_attempt_is_known_by_its_fence(outcome: Outcome, body: Any) -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    assert d.report(id, fence, outcome, body) == ReportOutcome.APPLIED
    d.advance(c.Timer.DUE)
    again = d.claim()
    assert d.report(id, fence, outcome, body) == ReportOutcome.ALREADY
    assert d.complete(id, fence) == [STALE, 3]
    assert d.complete(*again[0]) == ReportOutcome.APPLIED


def test_a_lease_that_ran_out_and_was_not_taken_back_still_counts() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    d.now_ms += 10 * limits.LEASE_MS_DEFAULT
    assert d.complete(id, fence) == ReportOutcome.APPLIED


def test_a_stale_outcome_is_counted_and_shown_and_repeats_do_not_push_the_history_out() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    d.do(c.LeasesExpire([[id, fence]]))
    for _ in range(100):
        applied = d.apply(c.Report(SESSION, [[id, fence, 0, ["t", b""]]], 1))
        assert [kind for kind, *_ in applied.events] == [EventKind.STALE_REFUSED]
    shown = d.show(1)
    assert shown["stale"] == 100
    assert [(row["outcome"], row["times"]) for row in shown["history"]] == [("crashed", 1), ("stale", 100)]
    assert shown["history"][1]["worker"] == "worker"


def test_refused_outcomes_cannot_push_the_attempts_out() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    d.fail(id, fence)
    for n in range(3 * limits.HISTORY_ROWS_MAX):
        d.complete(id, fence)
        d.complete(id, n if n != fence else 0)
    shown = d.show(1)
    assert [row["outcome"] for row in shown["history"]] == ["failed"] + ["stale"] * STALE_ROWS_MAX
    assert shown["history"][1]["times"] == 3 * limits.HISTORY_ROWS_MAX
    assert (shown["stale"], shown["history_dropped"]) == (6 * limits.HISTORY_ROWS_MAX, 0)


def test_an_answered_cancel_is_no_release() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    grant = d.claim()[0]
    d.do(c.Cancel([id_of(1)], 5))
    events = d.apply(c.Report(SESSION, [[*grant, int(Outcome.CANCELLED), None]], 1)).events
    assert [kind for kind, *_ in events] == [EventKind.CANCELLED]


def test_an_unknown_id_is_stale_and_leaves_nothing() -> None:
    d = Driver()
    before = d.digest()
    assert d.complete(id_of(1), 7) == [STALE, None]
    assert d.digest() == before


def test_one_malformed_item_refuses_the_batch() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    good = [id, fence, 0, ["t", b""]]
    before = d.digest()
    bad: list[Any] = [
        [id[:5], fence, 0, ["t", b""]],
        [id, "1", 0, ["t", b""]],
        [id, fence, 9, None],
        [id, fence, True, ["t", b""]],
        [id, fence, 0, None],
        [id, fence, 0, ["t", "text"]],
        [id, fence, 1, [["E", "m"], False, None]],
        [id, fence, 1, [["E", "m", "t"], 0, None]],
        [id, fence, 1, [["E", "m", "t"], False, -1]],
        [id, fence, 2, 0],
        [id, fence, 3, -1],
        [id, fence, 3, limits.DURATION_MS_MAX + 1],
    ]
    for item in bad:
        assert isinstance(d.do(c.Report(SESSION, [good, item], 1)), InvalidRequest), item
    large = [id, fence, 0, ["t", bytes(limits.RESULT_BYTES_MAX + 1)]]
    assert isinstance(d.do(c.Report(SESSION, [good, large], 1)), PayloadTooLarge)
    assert d.digest() == before


def test_the_snooze_after_the_last_one_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNOOZES_MAX", 2)
    d = Driver()
    d.open()
    d.submit(1)
    for n in range(3):
        d.report(*d.claim()[0], Outcome.SNOOZE, 0)
        d.now_ms += 20_000
        assert d.advance(c.Timer.DUE) == 1
        assert (d.show(1)["attempt"], d.show(1)["snoozes"]) == ((0, n + 1) if n < 2 else (1, 2))
    assert [row["outcome"] for row in d.show(1)["history"]] == ["snoozed", "snoozed", "failed"]


@pytest.mark.parametrize("ttl_ms", [5, limits.RESULT_TTL_MS_DEFAULT])
def test_a_result_goes_when_its_time_is_over(ttl_ms: int) -> None:
    d = Driver(Settings(finished_keep_ms=2 * limits.RESULT_TTL_MS_DEFAULT))
    d.open()
    d.submit(1, result_ttl_ms=ttl_ms)
    d.complete(*d.claim()[0])
    d.now_ms += ttl_ms - 1
    assert d.advance(c.Timer.RESULT_TTL) == 0
    assert d.show(1)["result"] == b"r"
    d.now_ms += 1
    assert d.advance(c.Timer.RESULT_TTL) == 1
    assert (d.show(1)["result"], d.state(1)) == (None, "completed")
    assert d.advance(c.Timer.RESULT_TTL) == 0


def test_a_result_that_lives_as_long_as_its_task_has_no_timer() -> None:
    d = Driver()
    d.open()
    d.submit(1, result_ttl_ms=30 * limits.DAY_MS)
    d.submit(2)
    for grant in d.claim(2):
        d.complete(*grant)
    assert d.txn.count(Table.TIMERS) == 0
    d.now_ms += limits.FINISHED_KEEP_MS_DEFAULT
    assert d.advance(c.Timer.RETENTION) == 2
    assert d.txn.count(Table.RESULTS) == 0
