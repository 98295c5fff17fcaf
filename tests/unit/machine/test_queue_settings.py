"""Settings of a queue: what may be said, how it is kept, and what the hot paths see of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.driver import Driver
from tq import limits
from tq.errors import InvalidRequest, Unsupported
from tq.machine import queue_settings as q
from tq.machine.queue_settings import DEFAULT, Pause, QueueRules, QueueSettings, changed
from tq.machine.states import State
from tq.spec import Retry

ALL: list[list[Any]] = [
    ["paused", True], ["reason", "why"], ["max_length", 5], ["timeout_ms", 1], ["expires_in_ms", 2], ["result_ttl_ms", 0],
    ["retry", [3, 1, 2_000, 5, 0]], ["finished_keep_ms", 0], ["dead_keep_ms", 7],
]  # fmt: skip


def change(*changes: list[Any], before: QueueSettings = DEFAULT, by: str = "ana", now_ms: int = 9) -> QueueSettings:
    return changed(before, list(changes), by, now_ms)


def test_all_of_them_at_once() -> None:
    settings = change(*ALL)
    assert settings == QueueSettings(Pause("ana", 9, "why"), 5, 1, 2, 0, Retry(3, 1, 2_000, 5, 0), 0, 7)
    shown = settings.shown()
    assert shown["paused"] == {"by": "ana", "since_ms": 9, "reason": "why"}
    assert {name: shown[name] for name, _ in ALL[2:]} == dict(ALL[2:])
    assert set(shown) == {name for name, _ in ALL} - {"reason"}


@pytest.mark.parametrize("name", [name for name, _ in ALL if name != "reason"])
def test_each_by_itself_and_back(name: str) -> None:
    others = change(*[pair for pair in ALL if pair[0] != name and (name != "paused" or pair[0] != "reason")])
    assert change([name, None], before=change(*ALL)) == others
    assert change(*[[n, None] for n, _ in ALL], before=change(*ALL)) == DEFAULT


def test_a_pause_is_the_last_one_s_unless_it_says_the_same() -> None:
    first = change(["paused", True], ["reason", "why"])
    assert change(["paused", True], ["reason", "why"], before=first, now_ms=50) == first
    assert change(["paused", True], before=first, now_ms=50).pause == Pause("ana", 50, None)
    assert change(["paused", True], ["reason", "why"], before=first, by="ben", now_ms=50).pause == Pause(
        "ben", 50, "why"
    )
    assert change(["max_length", 1], before=first, by="ben").pause == first.pause
    assert change(["paused", False], before=first) == DEFAULT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("paused", 1), ("max_length", -1), ("max_length", True), ("max_length", limits.QUEUE_LENGTH_MAX + 1), ("max_length", "5"),
        ("timeout_ms", 0), ("expires_in_ms", 0), ("result_ttl_ms", -1), ("finished_keep_ms", limits.DURATION_MS_MAX + 1),
        ("dead_keep_ms", 1.5), ("retry", [1]), ("retry", [0, 1, 2_000, 5, 0]), ("retry", 5),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        change([name, value])
    assert error.value.detail["field"].split(".")[0] == name


@pytest.mark.parametrize("reason", ["", " x", "a\nb", "\x1b[31m", "x" * 501, 5])
def test_a_reason_can_be_shown(reason: Any) -> None:
    with pytest.raises(InvalidRequest, match="reason"):
        change(["paused", True], ["reason", reason])


def test_a_reason_goes_with_a_pause() -> None:
    for paused in ([], [["paused", False]], [["paused", None]]):
        with pytest.raises(InvalidRequest, match="paused = true"):
            change(*paused, ["reason", "why"])
    assert change(["paused", False], ["reason", None]) == DEFAULT


@pytest.mark.parametrize("name", ["rate", "concurrency"])
def test_what_comes_later_is_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match="not supported yet") as error:
        change(["max_length", 5], [name, None])
    assert error.value.detail == {"field": name}


def test_what_is_unknown_or_said_twice() -> None:
    with pytest.raises(Unsupported, match="'colour'"):
        change(["colour", "red"])
    with pytest.raises(InvalidRequest, match="once"):
        change(["max_length", 5], ["max_length", 6])


settings = st.builds(
    QueueSettings,
    st.none() | st.builds(Pause, st.text(min_size=1, max_size=3), st.integers(0, 1 << 48), st.none() | st.text(max_size=3)),
    *[st.none() | st.integers(0, 1 << 40)] * 4,
    st.none() | st.builds(Retry, *[st.integers(0, 1 << 30)] * 5),
    *[st.none() | st.integers(0, 1 << 40)] * 2,
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 3), settings), max_size=6))
def test_what_is_put_is_there_after_a_restart(steps: list[tuple[int, QueueSettings]]) -> None:
    d = Driver()
    digest = d.digest()
    rules = QueueRules(d.txn)
    for number, each in steps:
        rules.put(d.txn, number, each)
        assert rules.of(number) == q.of_queue(d.txn, number) == each
    assert vars(QueueRules(d.txn)) == vars(rules)
    for number in range(4):
        rules.put(d.txn, number, DEFAULT)
    assert d.digest() == digest
    assert vars(rules) == {"paused": {}, "lengths": {}, "given": {}, "kept": {}, "_all": {}}


def test_rules_are_where_the_hot_paths_look() -> None:
    d = Driver()
    rules = QueueRules(d.txn)
    rules.put(d.txn, 1, change(["paused", True]))
    rules.put(d.txn, 2, change(["max_length", 5]))
    rules.put(d.txn, 3, change(["retry", [1, 0, 1_000, 0, 0]]))
    rules.put(d.txn, 4, change(["dead_keep_ms", 5]))
    assert (list(rules.paused), list(rules.lengths), list(rules.given), list(rules.kept)) == ([1], [2], [3], [4])
    assert len(rules.lengths[2][1]) == 9, "three states of three bands"
    assert rules.of(4).keep_ms(State.DEAD) == 5
    assert rules.of(4).keep_ms(State.COMPLETED) is None
    assert rules.claimable({(1, 0): 5, (2, 0): 6}) == {(2, 0): 6}
