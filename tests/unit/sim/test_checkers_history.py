"""Each rule has a good history that passes and a bad one, one line away, that is caught by that rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tq.limits import FENCE_ORDINALS
from tq.sim.checkers.history import check, fence_highest
from tq.sim.checkers.records import BadHistory, parse

Line = dict[str, Any]
MORE = ("delay_ms", "expires", "deadline", "key", "unique")


def f(index: int, ordinal: int = 0) -> int:
    return index * FENCE_ORDINALS + ordinal


def submit(
    op: int,
    start: int,
    end: int | None,
    task: str = "a",
    *,
    by: str = "c",
    index: int = 0,
    answer: str = "created",
    **more: Any,
) -> list[Line]:
    fields = [
        task,
        more.get("content", task),
        "t",
        more.get("queue", "q"),
        more.get("priority", 150),
        more.get("timed", False),
        {name: more[name] for name in MORE if name in more},
    ]
    lines: list[Line] = [{"op": op, "by": by, "t": start, "call": "submit", "tasks": [fields]}]
    if end is not None:
        said = [answer, more["holder"]] if "holder" in more else answer
        lines.append({"op": op, "by": by, "t": end, "index": index, "answers": [said]})
    return lines


def claim(
    op: int,
    start: int,
    end: int,
    fence: int,
    task: str = "a",
    *,
    by: str = "w",
    index: int | None = None,
    attempt: int = 1,
    crashes: int = 0,
) -> list[Line]:
    at = fence // FENCE_ORDINALS if index is None else index
    return [
        {"op": op, "by": by, "t": start, "call": "claim"},
        {"op": op, "by": by, "t": end, "index": at, "grants": [[task, fence, attempt, crashes]]},
    ]


def report(
    op: int, start: int, end: int | None, fence: int, task: str = "a", *, by: str = "w", index: int = 100, **more: Any
) -> list[Line]:
    item = [task, fence, more.get("outcome", "complete"), more.get("body", "ok")]
    lines: list[Line] = [{"op": op, "by": by, "t": start, "call": "report", "items": [item]}]
    if end is not None:
        lines.append({"op": op, "by": by, "t": end, "index": index, "answers": [more.get("answer", "applied")]})
    return lines


def read(
    op: int, start: int, end: int, state: str | None, fence: int, *, index: int, min_index: int = 0, **more: Any
) -> list[Line]:
    by = more.get("by", "r")
    return [
        {"op": op, "by": by, "t": start, "call": "read", "id": "a", "min_index": min_index}
        | {"linear": more.get("linear", False)},
        {"op": op, "by": by, "t": end, "index": index, "state": state, "fence": fence},
    ]


def run(
    op: int, start: int, end: int | None, fence: int, task: str = "a", *, by: str = "h", body: str = "ok"
) -> list[Line]:
    lines: list[Line] = [{"op": op, "by": by, "t": start, "call": "run", "id": task, "fence": fence, "attempt": 1}]
    if end is not None:
        lines.append({"op": op, "by": by, "t": end, "outcome": "complete", "body": body})
    return lines


def change(verb: str, op: int, start: int, task: str = "a", **answer: Any) -> list[Line]:
    """answer: ``states`` and ``index``, or ``error``; none: not answered."""
    lines: list[Line] = [{"op": op, "by": "x", "t": start, "call": verb, "ids": [task]}]
    return [*lines, {"op": op, "by": "x", "t": start + 1, **answer}] if answer else lines


def final(task: str = "a", state: str = "completed", fence: int = f(10), **more: Any) -> list[Line]:
    line: Line = {
        "final": task,
        "state": state,
        "fence": fence,
        "attempt": 1,
        "crashes": 0,
        "reason": None,
        "body": "ok" if state == "completed" else None,
        "fences": [fence] if fence else [],
    }
    return [line | more]


GOOD = [
    *submit(1, 0, 10, index=5),
    *claim(1, 12, 20, f(10)),
    *report(2, 22, 30, f(10), index=12),
    *read(1, 31, 32, "completed", f(10), index=12, min_index=12),
    *final(),
]


def rules(*parts: list[Line], drained: bool = True, fence_floor: int = 0) -> list[str]:
    lines = [json.dumps(line) for part in parts for line in part]
    breaches = check(parse([lines]), drained=drained, fence_floor=fence_floor)
    return sorted({breach.rule for breach in breaches})


def test_a_good_history_has_no_breach() -> None:
    assert rules(GOOD) == []


def test_an_empty_history_has_no_breach() -> None:
    assert rules([]) == []


# ---- each rule catches its bad history -------------------------------------------------------------


def test_lost_when_the_end_does_not_know_an_accepted_task() -> None:
    assert rules(submit(1, 0, 10, index=5)) == ["lost"]
    assert rules(submit(1, 0, 10, index=5, answer="duplicate")) == ["lost"]


def test_lost_when_a_granted_task_is_gone_though_its_submission_was_never_answered() -> None:
    assert rules(submit(1, 0, None), claim(1, 12, 20, f(10))) == ["lost"]


def test_not_lost_when_the_submission_is_unknown_or_refused_or_the_task_was_purged() -> None:
    assert rules(submit(1, 0, None)) == []
    assert rules(submit(1, 0, 10, answer="queue_full")) == []
    assert rules(submit(1, 0, 10, index=5), change("purge", 2, 12)) == []
    assert rules(submit(1, 0, 10, index=5), change("purge", 2, 12, index=6, states=["cancelled"])) == []


def test_lost_though_its_purge_was_refused() -> None:
    assert rules(submit(1, 0, 10, index=5), change("purge", 2, 12, error="INVALID_STATE")) == ["lost"]


def test_invented_when_a_purged_task_is_back() -> None:
    purged = change("purge", 2, 40, index=16, states=["completed"])
    assert rules(GOOD, purged) == ["invented"]


def test_a_duplicate_of_another_task_need_not_be_there() -> None:
    assert rules(GOOD, submit(9, 40, 50, "b", index=50, answer="duplicate", holder="a")) == []
    assert rules(GOOD, submit(9, 40, 50, "b", index=50, answer="duplicate", holder="b")) == ["lost"]


def test_lost_when_a_task_still_waits_after_a_drain_and_only_then() -> None:
    waits = [*submit(1, 0, 10, index=5), *final(state="pending", fence=0, attempt=0)]
    assert rules(waits) == ["lost"]
    assert rules(waits, drained=False) == []


def test_lost_when_the_state_does_not_exist() -> None:
    assert rules(submit(1, 0, 10, index=5), final(state="limbo", fence=0)) == ["lost"]


def test_invented_when_nobody_submitted_what_the_end_knows_or_a_worker_got() -> None:
    assert "invented" in rules(final(state="pending", fence=0), drained=False)
    assert "invented" in rules(claim(1, 12, 20, f(10)))


def test_an_unknown_submission_may_have_been_done() -> None:
    assert rules(submit(1, 0, None), *[GOOD[2:]]) == []


def test_outcome_that_nobody_reported() -> None:
    assert rules(GOOD[:4], final()) == ["outcome"]


def test_outcome_with_another_body_than_reported() -> None:
    assert rules(GOOD[:6], final(body="other")) == ["outcome"]


def test_outcome_recorded_under_another_fence_than_applied() -> None:
    other = [*claim(3, 40, 41, f(9), by="v"), *report(4, 42, None, f(9), by="v")]
    assert "outcome" in rules(GOOD[:6], other, final(fence=f(9)))


def test_outcome_applied_and_then_forgotten() -> None:
    assert rules(GOOD[:6], final(state="dead", reason="attempts")) == ["outcome"]
    assert rules(GOOD[:6], final(state="pending", attempt=0), drained=False) == ["outcome"]


def test_outcome_refused_and_yet_recorded() -> None:
    assert rules(GOOD[:4], report(2, 22, 30, f(10), answer="stale"), final()) == ["outcome"]


def test_an_outcome_whose_report_was_never_answered_may_be_recorded() -> None:
    assert rules(GOOD[:4], report(2, 22, None, f(10)), final()) == []
    assert rules(GOOD[:2], run(1, 20, 25, f(10)), final()) == []


def test_an_outcome_refused_when_repeated_may_be_recorded() -> None:
    assert rules(GOOD[:4], report(2, 22, None, f(10)), report(3, 40, 50, f(10), answer="stale"), final()) == []


def test_outcome_when_two_are_applied_under_one_fence() -> None:
    twice = report(3, 40, 50, f(10), outcome="fail", body="no")
    assert rules(GOOD, twice) == ["outcome"]


def test_outcome_that_nobody_asked_for() -> None:
    assert rules(submit(1, 0, 10, index=5), final(state="cancelled", fence=0)) == ["outcome"]
    assert rules(submit(1, 0, 10, index=5), change("cancel", 1, 11), final(state="cancelled", fence=0)) == []
    assert rules(submit(1, 0, 10, index=5), final(state="expired", fence=0)) == ["outcome"]
    assert rules(submit(1, 0, 10, index=5, expires=True), final(state="expired", fence=0)) == []
    refused = change("cancel", 1, 11, error="NOT_FOUND")
    assert rules(submit(1, 0, 10, index=5), refused, final(state="cancelled", fence=0)) == ["outcome"]
    assert rules(GOOD[:4], final(state="dead", reason="deadline")) == ["outcome"]
    limited = [*submit(1, 0, 10, index=5, deadline=True), *GOOD[2:4]]
    assert rules(limited, final(state="dead", reason="deadline")) == []
    assert rules(GOOD[:4], final(state="dead", reason="attempts")) == ["outcome"]
    failed = report(2, 22, 30, f(10), outcome="fail", body="no")
    assert rules(GOOD[:4], failed, final(state="dead", reason="attempts")) == []
    assert rules(GOOD[:4], final(state="dead", reason="attempts", outcomes=["timed_out"])) == []
    assert rules(GOOD[:4], final(state="dead", reason="poison", crashes=0)) == ["outcome"]
    assert rules(GOOD[:4], final(state="dead", reason="poison", crashes=3)) == []


def test_fence_given_twice() -> None:
    second = [*submit(5, 0, 10, "b", index=5, by="d"), *claim(5, 12, 20, f(10), "b", by="v"), *final("b", "pending", 0)]
    assert "fence" in rules(GOOD, second, drained=False)
    assert "fence" in rules(GOOD, claim(5, 13, 21, f(10), by="v"))


def test_the_same_claim_again_hands_out_the_same_fence() -> None:
    assert rules(GOOD, claim(5, 21, 22, f(10))) == []


def test_fence_that_falls_between_grants_of_one_task() -> None:
    again = [*claim(6, 40, 50, f(9), by="v", index=20), *report(7, 51, None, f(9), by="v")]
    assert "fence" in rules(GOOD[:4], again, final(fence=f(9)))


def test_fence_that_falls_over_tasks() -> None:
    late = [*submit(5, 21, 22, "b", index=11, by="d"), *claim(6, 23, 24, f(8), "b", by="v", index=12)]
    assert "fence" in rules(GOOD, late, final("b", "running", f(8)), drained=False)


def test_a_claim_that_was_parked_meanwhile_may_have_a_lower_fence() -> None:
    parked = [*submit(5, 0, 5, "b", index=4, by="d", queue="other"), *claim(6, 1, 24, f(8), "b", by="v", index=12)]
    assert rules(GOOD, parked, final("b", "running", f(8)), drained=False) == []


def test_fence_run_twice() -> None:
    assert rules(GOOD[:2], run(1, 20, 25, f(10)), run(2, 26, 27, f(10)), final()) == ["fence"]


def test_fence_not_above_an_earlier_part_of_the_run() -> None:
    assert rules(GOOD, fence_floor=f(10)) == ["fence"]
    assert rules(GOOD, fence_floor=f(9)) == []


def test_fence_behind_the_reply_that_handed_it_out() -> None:
    assert "fence" in rules(GOOD[:2], claim(1, 12, 20, f(10), index=9), GOOD[4:])


def test_fence_in_a_history_that_does_not_rise() -> None:
    assert rules(GOOD[:6], final(fences=[f(10), f(9)])) == ["fence"]


def test_fence_of_the_end_below_a_granted_one() -> None:
    newer = [*claim(5, 13, 21, f(11), by="v"), *report(3, 22, None, f(10))]
    assert "fence" in rules(GOOD[:4], newer, final())


def test_stale_outcome_applied_after_a_newer_grant() -> None:
    newer = claim(5, 20, 21, f(11), by="v")
    failed = report(2, 22, 30, f(10), outcome="fail", body="no")
    last = [*report(6, 31, 32, f(11), by="v"), *final(fence=f(11), fences=[f(10), f(11)], attempt=2)]
    assert rules(GOOD[:4], newer, failed, last) == ["stale"]


def test_an_outcome_applied_before_the_newer_grant_is_fine() -> None:
    failed = report(2, 22, 30, f(10), outcome="fail", body="no")
    newer = [*claim(5, 31, 33, f(13), by="v"), *report(6, 34, 35, f(13), by="v")]
    assert rules(GOOD[:4], failed, newer, final(fence=f(13), fences=[f(10), f(13)], attempt=2)) == []


def test_stale_when_a_completed_task_is_granted_again() -> None:
    assert "stale" in rules(GOOD[:6], claim(5, 40, 41, f(20), by="v"), final(fence=f(20)))


def two(first: int, second: int, **priorities: int) -> list[Line]:
    """``a`` and ``b`` submitted one after the other; fences of their grants."""
    return [
        *submit(1, 0, 10, "a", index=5, priority=priorities.get("a", 150)),
        *submit(2, 11, 20, "b", index=6, priority=priorities.get("b", 150)),
        *claim(3, 0, 40, first, "a", by="v", index=99),
        *claim(4, 0, 40, second, "b", by="w", index=99),
        *report(5, 50, 60, first, "a", by="v", index=100),
        *report(6, 50, 60, second, "b", by="w", index=100),
        *final("a", fence=first),
        *final("b", fence=second),
    ]


def test_order_of_equal_priority_is_that_of_submission() -> None:
    assert rules(two(f(10, 0), f(10, 1))) == []
    assert rules(two(f(10, 1), f(10, 0))) == ["order"]


def test_order_goes_by_priority_first() -> None:
    assert rules(two(f(11), f(10), b=200)) == []
    assert rules(two(f(10), f(11), b=200)) == ["order"]


def test_order_says_nothing_of_a_higher_priority_that_came_later() -> None:
    assert rules(two(f(6), f(11), b=200)) == []


def test_order_says_nothing_of_submissions_that_overlap_or_tasks_that_waited() -> None:
    overlap = two(f(10, 1), f(10, 0))
    overlap[2]["t"] = 5
    assert rules(overlap) == []
    timed = two(f(10, 1), f(10, 0))
    timed[0]["tasks"][0][5] = True
    assert rules(timed) == []
    crashed = two(f(10, 1), f(10, 0))
    crashed[-2]["crashes"] = 1
    assert rules(crashed) == []


def test_read_behind_its_min_index() -> None:
    assert rules(GOOD, read(9, 33, 34, "completed", f(10), index=12, min_index=13)) == ["read"]


def test_read_that_goes_back_in_time() -> None:
    assert "read" in rules(GOOD, read(9, 33, 34, "completed", f(10), index=11))
    assert rules(GOOD, read(9, 33, 34, "completed", f(10), index=12, by="another")) == []


def test_read_that_misses_what_is_at_or_before_its_index() -> None:
    assert rules(GOOD, read(9, 33, 34, None, 0, index=12)) == ["read"]
    assert rules(GOOD, read(9, 33, 34, "running", f(10), index=12)) == ["read"]
    assert rules(GOOD, read(9, 33, 34, "pending", 0, index=11, by="another")) == ["read"]
    assert rules(GOOD, read(9, 33, 34, "pending", 0, index=9, by="another")) == []


def test_duplicate_created_twice() -> None:
    assert rules(GOOD, submit(9, 40, 50, index=50)) == ["duplicate"]


def test_duplicate_answers() -> None:
    assert rules(GOOD, submit(9, 40, 50, index=50, answer="duplicate")) == []
    assert rules(GOOD, submit(9, 40, 50, index=50, answer="duplicate", content="z")) == ["duplicate"]
    assert rules(GOOD, submit(9, 40, 50, index=50, answer="conflict", content="z")) == []
    assert rules(GOOD, submit(9, 40, 50, index=50, answer="conflict")) == ["duplicate"]


def test_duplicate_ids_under_one_idempotency_key() -> None:
    first = [*submit(1, 0, 10, index=5, key="k", content="x"), *GOOD[2:]]
    again: dict[str, Any] = {"index": 50, "key": "k", "holder": "a"}
    assert rules(first, submit(9, 40, 50, "b", answer="duplicate", content="x", **again)) == []
    assert rules(first, submit(9, 40, 50, "b", answer="conflict", content="y", **again)) == []
    assert rules(first, submit(9, 40, 50, "b", answer="conflict", content="x", **again)) == ["duplicate"]
    assert rules(first, submit(9, 40, 50, "b", answer="duplicate", content="y", **again)) == ["duplicate"]
    second = [*submit(9, 40, 50, "b", index=50, key="k", content="x"), *final("b", "cancelled", 0)]
    assert "duplicate" in rules(first, second, change("cancel", 1, 60, "b"))


def unique(*, second_at: int, granted_at: int, **more: Any) -> list[Line]:
    """``a``, then ``b`` of the same unique key, created at an index before or behind the grant of ``a``."""
    return [
        *submit(1, 0, 10, index=5, unique="u"),
        *submit(2, 11, 20, "b", index=second_at, unique="u", **more),
        *claim(1, 0, 40, f(granted_at), index=99),
        *report(2, 50, 60, f(granted_at), index=100),
        *final(fence=f(granted_at)),
        *(final("b", "cancelled", 0) if not more else []),
        *change("cancel", 1, 60, "b"),
    ]


def test_unique_when_a_second_is_created_while_the_first_lives() -> None:
    assert rules(unique(second_at=6, granted_at=10)) == ["unique"]
    assert rules(unique(second_at=12, granted_at=10)) == []
    assert rules(unique(second_at=6, granted_at=10, answer="duplicate", holder="a")) == []
    assert rules(unique(second_at=6, granted_at=10), change("retry", 7, 61)) == []


# ---- counts ----------------------------------------------------------------------------------------


def lives(*outcomes: str, attempt: int, crashes: int, **more: Any) -> list[Line]:
    """A task whose history has these outcomes, at fences 10, 11, ..., and that was granted last as said."""
    fences = [f(10 + n) for n in range(len(outcomes))]
    last = fences[-1]
    return [
        *submit(1, 0, 10, index=5),
        *claim(1, 12, 20, last, attempt=attempt, crashes=crashes),
        *report(2, 22, 30, last, index=20),
        *final(fence=last, fences=fences, outcomes=list(outcomes), **more),
    ]


def test_count_of_attempts_and_crashes() -> None:
    assert rules(lives("failed", "completed", attempt=2, crashes=0)) == []
    assert rules(lives("failed", "completed", attempt=1, crashes=0)) == ["count"]
    assert rules(lives("released", "snoozed", "completed", attempt=1, crashes=0)) == []
    assert rules(lives("released", "completed", attempt=2, crashes=0)) == ["count"]
    assert rules(lives("crashed", "completed", attempt=2, crashes=0)) == ["count"]


def test_count_of_crashes_at_the_end() -> None:
    good = lives("crashed", "completed", attempt=1, crashes=1)
    good[-1]["crashes"] = 1
    assert rules(good) == []
    good[-1]["crashes"] = 2
    assert rules(good) == ["count"]
    good[-1]["dropped"] = 1
    assert rules(good) == []


def test_count_when_an_applied_outcome_is_not_in_the_history() -> None:
    assert rules(GOOD[:6], final(outcomes=["completed"])) == []
    assert rules(GOOD[:6], final(outcomes=["failed"])) == ["count"]
    early = report(6, 21, 22, f(9), outcome="fail", body="no")
    assert "count" in rules(GOOD[:6], early, final(outcomes=["completed"]))


# ---- time ------------------------------------------------------------------------------------------


def test_early_when_a_delayed_task_is_granted_before_its_time() -> None:
    second = 1_000_000_000
    delayed = [*submit(1, 0, 10, index=5, timed=True, delay_ms=2_000), *GOOD[2:4]]
    delayed[-1]["t"] = 1 * second
    ends = [*report(2, 3 * second, 4 * second, f(10), index=12), *final()]
    assert rules(delayed, ends) == ["early"]
    delayed[-1]["t"] = 2 * second
    assert rules(delayed, ends) == []


# ---- reads of one index, ends, and linearizable reads ------------------------------------------------


def test_read_of_two_states_at_one_index() -> None:
    early = read(7, 21, 22, "running", f(10), index=11, by="another")
    assert rules(GOOD, early, read(9, 23, 24, "running", f(10), index=11, by="third")) == []
    assert rules(GOOD, early, read(9, 23, 24, "scheduled", f(10), index=11, by="third")) == ["read"]


def test_read_of_a_fence_that_falls() -> None:
    early = [*submit(1, 0, 10, index=5), *read(7, 21, 22, "running", f(10), index=11)]
    later = read(9, 23, 24, "pending", f(9), index=12)
    assert rules(early, later, final(state="dead", reason=None, fence=f(10))) == ["read"]


def test_outcome_when_an_end_that_was_shown_is_not_the_end() -> None:
    shown = [*submit(1, 0, 10, index=5), *read(7, 21, 22, "dead", f(10), index=11)]
    ended = [
        *claim(3, 12, 13, f(10)),
        *claim(8, 14, 15, f(12)),
        *report(5, 23, 30, f(12), index=14),
        *final(fence=f(12)),
    ]
    assert rules(shown, ended) == ["outcome"]
    assert rules(shown, ended, change("retry", 1, 23, index=12, states=["pending"])) == []
    assert rules(shown, ended, change("retry", 1, 23, error="INVALID_STATE")) == ["outcome"]
    cancelled = change("cancel", 1, 12, index=6, states=["cancelled"])
    assert rules(GOOD, cancelled) == ["read"]
    assert rules(GOOD[:4], cancelled, final(state="dead", reason=None)) == ["outcome"]


def test_outcome_when_a_completed_task_was_retried() -> None:
    shown = read(7, 31, 32, "completed", f(10), index=12)
    retried = change("retry", 1, 40, index=13, states=["pending"])
    assert "outcome" in rules(GOOD[:6], shown, retried, final(state="dead", reason=None))
    again = [*GOOD[:2], *run(3, 11, 12, f(10)), *run(4, 41, 42, f(14)), *final(fence=f(14))]
    assert rules(again, shown, retried) == ["outcome"]


def test_read_of_a_list() -> None:
    asked: Line = {"op": 9, "by": "r", "t": 40, "call": "list", "min_index": 12}
    answer: Line = {"op": 9, "by": "r", "t": 41, "index": 12, "rows": [["a", "completed", f(10)]]}
    assert rules(GOOD, [asked, answer]) == []
    assert rules(GOOD, [asked, answer | {"rows": [["a", "running", f(10)]]}]) == ["read"]
    assert rules(GOOD, [asked, answer | {"index": 11, "rows": []}]) == ["read"]


def test_read_that_is_linearizable_and_behind_somebody() -> None:
    behind = read(9, 33, 34, "running", f(10), index=11, by="another", linear=True)
    assert rules(GOOD, behind) == ["read"]
    assert rules(GOOD, read(9, 33, 34, "running", f(10), index=11, by="another")) == []


# ---- the form --------------------------------------------------------------------------------------


def test_a_torn_last_line_is_passed_over_and_a_torn_middle_is_not() -> None:
    lines = [json.dumps(line) for line in GOOD]
    assert check(parse([lines, ['{"op": 4, "by']]), drained=True) == []
    with pytest.raises(BadHistory):
        parse([['{"op": 4, "by', *lines]])


@pytest.mark.parametrize(
    "lines",
    [
        [{"op": 1, "by": "c", "t": 1, "index": 4}],
        [{"op": 1, "by": "c", "t": 1, "call": "claim"}] * 2,
        [{"op": 1, "by": "c", "t": 1, "call": "dance"}],
    ],
)
def test_what_is_no_history_is_refused(lines: list[Line]) -> None:
    with pytest.raises(BadHistory):
        parse([[json.dumps(line) for line in lines]])


def test_fence_highest() -> None:
    lines = [json.dumps(line) for line in GOOD]
    assert fence_highest(parse([lines])) == f(10)
    assert fence_highest(parse([])) == 0
