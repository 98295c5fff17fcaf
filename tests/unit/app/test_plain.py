"""What JSON carries exactly passes, all else is found with its place."""

from __future__ import annotations

import enum
import json
import math
from decimal import Decimal
from typing import Any

import pytest

from tq.app.plain import DEPTH_MAX, fault_of


class Colour(enum.StrEnum):
    RED = "red"


class Name(str):
    __slots__ = ()


CARRIED: list[Any] = [
    None, True, 0, -(2**70), 1.5, 1e308, "", "ünïcode \U0001f600", [], {}, [1, "a", None], {"a": {"b": [1.5, [], {}]}},
    {"": 1, "a b": 2}, [[[]]], Name("x"), [Name("x")],
]  # fmt: skip


@pytest.mark.parametrize("value", CARRIED, ids=repr)
def test_what_comes_back_as_it_was_passes(value: Any) -> None:
    assert fault_of(value) is None
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "place", "why"),
    [
        ({1, 2}, "", "a set cannot be carried as JSON; use a list, or a codec of your own"),
        ([0, 1, 2, {"x": {1}}], "[3].x", "a set cannot be carried as JSON"),
        (frozenset(), "", "a frozenset cannot"),
        ((1, 2), "", "a tuple cannot be carried as JSON; declare the type as tuple"),
        ({"a": [(1,)]}, ".a[0]", "a tuple"),
        (b"x", "", "a bytes cannot be carried as JSON; declare the type as bytes"),
        (math.nan, "", "JSON has no number for nan"),
        ([1.0, -math.inf], "[1]", "JSON has no number for -inf"),
        ({"a b": {"c": math.inf}}, "['a b'].c", "no number for inf"),
        ({1: "a"}, "", "its key 1 is no text"),
        ({"a": {None: 1}}, ".a", "its key None is no text"),
        ({"a": {Name("x"): 1}}, ".a", "is no text"),
        (Colour.RED, "", "a Colour cannot be carried as JSON; declare its type"),
        ([Colour.RED], "[0]", "a Colour"),
        (Decimal(1), "", "a Decimal"),
        (object(), "", "an object cannot"),
        ([len], "[0]", "a builtin_function_or_method"),
    ],
)
def test_what_does_not_is_found_with_its_place(value: Any, place: str, why: str) -> None:
    fault = fault_of(value)
    assert fault is not None
    assert fault.place == place
    assert why in fault.why


def test_a_value_that_holds_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    fault = fault_of(loop)
    assert fault is not None
    assert "holds itself" in fault.why
    deep: Any = 1
    for _ in range(DEPTH_MAX):
        deep = [deep]
    assert fault_of(deep) is None
    assert fault_of([[deep]]) is not None
