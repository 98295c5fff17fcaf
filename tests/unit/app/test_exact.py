"""What comes back other than it was is found with its place."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict
from typing import Any

import attrs
import pytest

from tq.app.exact import difference


@attrs.frozen
class Point:
    x: int
    y: Any = 0


@dataclasses.dataclass(eq=False)
class Bag:
    """Without equality: its fields are compared."""

    items: list[Any]


class Sub(Bag):
    pass


class Text(str):
    __slots__ = ()


class Kind(enum.IntEnum):
    A = 1


@pytest.mark.parametrize(
    ("sent", "back"),
    [
        (1, 1), ("a", "a"), (None, None), ([1, 2], (1, 2)), ((1,), [1]), ({"a": 1}, OrderedDict(a=1)), (Text("a"), "a"),
        (Point(1, [2]), Point(1, [2])), (Bag([Point(1)]), Bag([Point(1)])), ([], []), (2, 2.0),
    ],
)  # fmt: skip
def test_alike(sent: Any, back: Any) -> None:
    assert difference(sent, back) is None


@pytest.mark.parametrize(
    ("sent", "back", "place", "why"),
    [
        (1, 2, "", "1 would arrive as 2"),
        ("1", 1, "", "a str would arrive as an int"),
        ({1}, [1], "", "a set would arrive as a list"),
        ("ab", ["a", "b"], "", "a str would arrive as a list"),
        (Kind.A, 1, "", "a Kind would arrive as an int"),
        ([1, Point(1)], [1, Point(2)], "[1].x", "1 would arrive as 2"),
        ({"a": {"b c": 1}}, {"a": {"b c": 2}}, ".a['b c']", "1 would arrive as 2"),
        (Sub([1]), Bag([1]), "", "a Sub would arrive as a Bag"),
        (Bag([1]), Bag([1, 2]), ".items", "1 items would arrive as 2"),
        ({1: 2}, {"1": 2}, "", "the key 1 would not arrive"),
        ({"a": 1}, {}, "", "1 entries would arrive as 0"),
        (Point(1), {"x": 1, "y": 0}, "", "a Point would arrive as a dict"),
    ],
)
def test_not_alike(sent: Any, back: Any, place: str, why: str) -> None:
    fault = difference(sent, back)
    assert fault is not None
    assert fault.place == place
    assert why in fault.why
