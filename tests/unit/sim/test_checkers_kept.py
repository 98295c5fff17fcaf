"""The rule ``kept``: what a grant may bring of earlier attempts, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sim.test_checkers_history import Line, change, claim, f, rules, submit


def keep(op: int, start: int, fence: int, number: int, data: str | None, answer: str | None = "applied") -> list[Line]:
    """answer None: not answered."""
    lines: list[Line] = [
        {"op": op, "by": "w", "t": start, "call": "keep", "id": "a", "fence": fence, "number": number, "data": data}
    ]
    return lines if answer is None else [*lines, {"op": op, "by": "w", "t": start + 1, "index": 11, "answer": answer}]


def granted(op: int, start: int, fence: int, kept: str | None) -> list[Line]:
    lines = claim(op, start, start + 1, fence)
    lines[1]["grants"][0].append(kept)
    return lines


BEGUN = [*submit(1, 0, 5, index=5), *granted(1, 10, f(10), None)]
ONE, TWO = keep(2, 20, f(10), 1, "one"), keep(3, 22, f(10), 2, "two")


def found(*parts: list[Line]) -> list[str]:
    return [rule for rule in rules(BEGUN, *parts, drained=False) if rule == "kept"]


@pytest.mark.parametrize(
    ("parts", "brought"),
    [
        ([], None),
        ([ONE], "one"),
        ([ONE, TWO], "two"),
        ([ONE, keep(3, 22, f(10), 2, "two", None)], "two"),  # not answered: it may be there
        ([ONE, keep(3, 22, f(10), 2, "two", None)], "one"),  # or not
        ([ONE, TWO, keep(4, 24, f(10), 1, "one", "already")], "two"),
        ([ONE, keep(3, 22, f(10), 2, None)], None),
        (
            [keep(2, 20, f(10), 1, "one", None), keep(3, 25, f(10), 1, "one", "stale")],
            "one",
        ),  # the first one was in time
        ([ONE, change("retry", 5, 26, index=12, states=["pending"])], None),
    ],
)
def test_what_may_be_brought(parts: list[list[Line]], brought: str | None) -> None:
    assert found(*parts, granted(9, 30, f(20), brought)) == []


@pytest.mark.parametrize(
    ("parts", "brought"),
    [
        ([ONE], None),  # lost
        ([ONE, TWO], "one"),  # overtaken
        ([ONE, TWO, keep(4, 24, f(10), 1, "one", None)], "one"),  # sent again, and it counted
        ([ONE], "three"),  # invented
        ([keep(2, 20, f(10), 1, "one", "stale")], "one"),  # refused
        ([ONE, keep(3, 40, f(10), 2, "late", None)], "late"),  # sent when the grant was answered
        ([ONE, keep(3, 22, f(30), 1, "of a later attempt", None)], "of a later attempt"),
        ([keep(2, 20, f(10), 1, None), TWO], None),
    ],
)
def test_what_may_not(parts: list[list[Line]], brought: Any) -> None:
    assert found(*parts, granted(9, 30, f(20), brought)) == ["kept"]


def test_it_says_nothing_of_grants_that_were_not_recorded_so() -> None:
    assert found(ONE, claim(9, 30, 31, f(20))) == []
