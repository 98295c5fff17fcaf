"""tq explain: each state, with what to do next."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.fake import FACTS, ID, NOW, FakeClient, run
from tq.cli.explain import what_next
from tq.client.models import STATES, Attempt, Explanation
from tq.errors import NotLeader

FAILED = Attempt(
    "failed", 1, 2048, NOW - 50, NOW - 40, "w1", ("ValueError", "bad\nnews", "Traceback (most recent call last)")
)


def explained(why: str, **facts: Any) -> Explanation:
    return Explanation(why, {**FACTS, **facts})


def lines_of(found: Explanation, *args: str, terminal: bool = False) -> list[str]:
    return run(FakeClient(explain=found), "explain", ID, *args, terminal=terminal).stdout.splitlines()


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_next_step(state: str) -> None:
    steps = what_next({**FACTS, "state": state})
    assert steps
    assert all(step[-1] not in ".," for step in steps)


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({"state": "pending", "has_worker": False, "queue": "mail"}, "tq worker MODULE --queues mail"),
        ({"state": "pending", "paused": {"by": "x"}, "queue": "mail"}, "tq queues resume mail"),
        ({"state": "pending", "ahead": 7}, "tq queue-depth --watch"),
        ({"state": "pending", "ahead": 0}, "tq workers"),
        ({"state": "scheduled", "history": [FAILED]}, f"tq status {ID} -v shows the traceback"),
        ({"state": "scheduled"}, f"tq cancel {ID}"),
        ({"state": "running"}, f"tq status {ID} --watch"),
        ({"state": "running", "cancelling": True}, "when the grace is over"),
        ({"state": "completed"}, f"tq status {ID} shows its result"),
        ({"state": "dead", "reason": "poison"}, 'executor="process"'),
        ({"state": "dead", "reason": "attempts", "history": [FAILED]}, "-v shows the traceback"),
        ({"state": "dead", "reason": "deadline"}, "deadline"),
        ({"state": "dead", "reason": "permanent"}, f"tq retry {ID}"),
        ({"state": "cancelled"}, f"tq retry {ID}"),
        ({"state": "expired"}, f"tq retry {ID}"),
    ],
)  # fmt: skip
def test_what_to_do_next(facts: dict[str, Any], step: str) -> None:
    found = lines_of(explained("so it is", **facts))
    assert any(line.startswith("next: ") and step in line for line in found), found


def test_what_workers_take_instead_is_said_where_none_takes_the_task() -> None:
    """The played worker runs echo from queue default."""
    found = lines_of(explained("so it is", has_worker=False, queue="defualt"))
    assert "next: workers that run echo take it from queue default" in found
    gone = FakeClient(explain=explained("so it is", has_worker=False), workers=NotLeader("no leader"))
    assert run(gone, "explain", ID).exit_code == 0
    client = FakeClient(explain=explained("so it is", has_worker=True))
    run(client, "explain", ID)
    assert [name for name, _args, _fields in client.asked] == ["explain"]


def test_a_task_that_waits_for_its_backoff() -> None:
    found = explained(
        "scheduled: attempt 1 of 5 failed and the next one waits; due in 4.0 s", state="scheduled", history=[FAILED]
    )
    assert lines_of(found, terminal=True) == [
        "scheduled: attempt 1 of 5 failed and the next one waits; due in 4.0 s",
        "  1970-01-12 13:45:40      1m  submitted",
        "  1970-01-12 13:46:00     40s  attempt 1 failed on w1 after 10s: ValueError: bad news",
        "",
        f"next: tq status {ID} -v shows the traceback",
        f"next: it runs by itself when it is due; tq cancel {ID} gives it up",
    ]


def test_a_pipe_has_whole_times() -> None:
    assert lines_of(explained("pending: first in line"))[1] == "  1970-01-12T13:45:40.000Z  submitted"


def test_the_whole_life_is_told() -> None:
    history = [
        Attempt("crashed", 1, 1024, NOW - 50, NOW - 45, "w1"),
        Attempt("snoozed", 1, 2048, NOW - 40, NOW - 39, "w2"),
        Attempt("timed_out", 1, 4096, NOW - 30, NOW - 20, "w2", ("TimeoutError", "10 s are over", "")),
        Attempt("stale", 1, 1024, None, NOW - 19, "w1", times=3),
    ]
    found = explained(
        "dead: its deadline passed",
        state="dead",
        reason="deadline",
        ended_at=NOW - 1,
        history=history,
        history_dropped=4,
    )
    assert [line.split("Z  ")[1] for line in lines_of(found) if line.startswith("  ")] == [
        "submitted",
        "… 4 older attempts are not kept",
        "attempt 1 crashed on w1 after 5s",
        "attempt 1 snoozed on w2 after 1s",
        "attempt 1 timed out on w2 after 10s: TimeoutError: 10 s are over",
        "an outcome of an older attempt was refused on w1 (3 times)",
        "dead (deadline)",
    ]


def test_running_is_told_with_where() -> None:
    found = explained("running on w1", state="running", started_at=NOW - 3, attempt=2, worker="w1")
    assert "attempt 2 began on w1" in lines_of(found)[2]


def test_verbose_shows_the_facts() -> None:
    assert "ahead\t3" in lines_of(explained("pending: in line", ahead=3), "-v")


def test_programs_get_all_of_it() -> None:
    found = explained("pending: first in line", ahead=0, has_worker=True)
    shown = json.loads(run(FakeClient(explain=found), "explain", ID, "-o", "json").stdout)
    assert shown["why"] == "pending: first in line"
    assert shown["facts"]["ahead"] == 0
    assert shown["next"] == ["a worker that is free takes it at once: tq workers shows whether all are busy"]
