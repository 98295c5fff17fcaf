"""What is declared arrives as it was sent, or is refused at the submit, with its place; and what comes is not made to fit."""

from __future__ import annotations

import datetime
import decimal
import json
import logging
import sys
import typing
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.app import shapes
from tests.unit.app.shapes import ROUND_TRIPS, Cat, Colour, Dog, Item, Kitten, Level, Order, Page, Point, Where
from tq.app.plain import SCALARS
from tq.app.typed import Unfit, Unresolved, bare, carrier_of


def travel(hint: Any, value: Any) -> Any:
    carrier = carrier_of(hint)
    text = json.dumps(carrier.to_plain(value), allow_nan=False)
    return carrier_of(hint).from_plain(json.loads(text))


@pytest.mark.parametrize(("hint", "value"), ROUND_TRIPS, ids=lambda part: str(part)[:60])
def test_round_trip(hint: Any, value: Any) -> None:
    back = travel(hint, value)
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, datetime.datetime):
        assert back.utcoffset() == value.utcoffset()


@pytest.mark.parametrize(("hint", "value"), ROUND_TRIPS, ids=lambda part: str(part)[:60])
def test_what_needs_no_look_is_carried_as_it_is(hint: Any, value: Any) -> None:
    carrier = carrier_of(hint)
    if value.__class__ in carrier.classes:
        assert carrier.to_plain(value) is value
        assert carrier.from_plain(value) is value
        assert value.__class__ in SCALARS


def test_wider_declarations_take_what_type_checkers_take() -> None:
    assert travel(Sequence[int], (1, 2)) == [1, 2]
    assert travel(Iterable[int], [1, 2]) == [1, 2]
    assert travel(Mapping[str, int], OrderedDict(a=1)) == {"a": 1}
    assert travel(list[int], (1, 2)) == [1, 2]
    assert travel(tuple[int, ...], [1, 2]) == (1, 2)
    assert travel(typing.Final[int], 1) == 1
    assert travel(shapes.T, 1) == 1
    assert travel(typing.NoReturn, None) is None


NOW = datetime.datetime(2026, 1, 2)  # without a zone

REFUSED: list[tuple[Any, Any, str, str]] = [
    # Scalars
    (str, 5, "", "must be str, not an int (5)"),
    (int, "5", "", "must be int, not a str ('5')"),
    (int, 1.0, "", "must be int, not a float"),
    (bool, 1, "", "must be bool, not an int"),
    (int | None, "5", "", "must be int or None, not a str"),
    (float, float("nan"), "", "JSON has no number for nan"),
    (None, 1, "", "must be None, not an int"),
    (str, Colour.RED, "", "must be str, not a Colour"),
    # What JSON does not have
    (Any, {1}, "", "a set cannot be carried as JSON; use a list"),
    (list[Any], [1, {2}], "[1]", "a set cannot"),
    (list[Any], [(1,)], "[0]", "a tuple"),
    (dict[str, Any], {"a": {"b": {1}}}, ".a.b", "a set cannot"),
    (set[int], {1}, "", "a set cannot be carried as JSON; use a list"),
    (dict[int, str], {1: "a"}, "", "its key 1 is no text"),
    (list[float], [float("inf")], "[0]", "no number for inf"),
    (dict, {"a": object()}, ".a", "an object cannot"),
    # Other than declared
    (list[int], ["a"], "[0]", "must be int, not a text ('a')"),
    (list[int], "12", "", "must be list[int], not a str ('12')"),
    (list[str], "ab", "", "must be list[str], not a str"),
    (list[int], {1: 2}, "", "must be list[int], not a dict"),
    (dict[str, int], {"a": "b"}, "['a']", "must be int, not a text"),
    (tuple[int, str], (1,), "", "argument 2"),
    (tuple[int, str], (1, 2), "[1]", "must be str, not a number (2)"),
    (Item, {"name": "a", "price": "1"}, "", "must be Item, not a dict"),
    (Item, Item("a", 5), ".price", ""),  # type: ignore[arg-type]
    (Item, Item("a", decimal.Decimal(1), ["x", 5]), ".tags[1]", "must be str, not a number (5)"),  # type: ignore[list-item]
    (Order, Order(uuid.UUID(int=1), [Item("a", decimal.Decimal("nan"))], shapes.MOMENT), ".items[0].price", "NaN"),
    (list[Order], [1], "", "must be Order, not an int (1)"),
    (Cat, Kitten(1, 2), "", "a Kitten would arrive as a Cat"),
    (Cat | Dog, Kitten(1), "", "a Kitten would arrive as a Cat"),
    (Cat | Dog, 5, "", "5 is none of"),
    (Colour, "red", "", ""),
    (Level, 7, "", ""),
    (Where, {"city": "a", "street": "b"}, "", "Where has no field street"),
    (Where, {}, ".city", "'city'"),
    (typing.Literal["a"], "b", "", ""),
    (Page[int], Page(rows=["a"]), ".rows[0]", "must be int"),  # type: ignore[list-item]
    (datetime.datetime, NOW, "", "has no time zone; use an aware one"),
    (datetime.datetime, datetime.date(2026, 1, 2), "", ""),
    (datetime.date, NOW, "", ""),
    (bytes, bytearray(b"a"), "", "a bytearray would arrive as a bytes"),
    (uuid.UUID, "00000000-0000-0000-0000-000000000001", "", "a str would arrive as a UUID"),
    # Types that are not carried
    (str | uuid.UUID, "a", "", "str and <class 'uuid.UUID'> are both carried as text"),
    (str | Colour, "a", "", "both carried as text"),
    (logging.Logger, logging.getLogger(), "", "its type Logger cannot be carried as JSON"),
    (Unresolved("Hidden", "name 'Hidden' is not defined"), 1, "", "its type Hidden cannot be found (name 'Hidden' is not defined)"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value", "place", "why"), REFUSED, ids=lambda part: str(part)[:50])
def test_refused_where_it_is_sent(hint: Any, value: Any, place: str, why: str) -> None:
    with pytest.raises(Unfit) as caught:
        travel(hint, value)
    assert caught.value.fault.place == place
    assert why in caught.value.fault.why
    assert caught.value.fault.why.strip()


ARRIVED: list[tuple[Any, Any, str, str]] = [
    (int, "5", "", "must be int, not a text ('5')"),
    (str, None, "", "must be str, not null"),
    (list[str], "ab", "", "must be a list, for list[str], not a text"),
    (list, {}, "", "must be a list"),
    (dict[str, int], [1], "", "must be an object"),
    (tuple[int, int], [1, 2, 3], "", "must have 2 items, for tuple[int, int], not 3"),
    (tuple[int, int], "ab", "", "must be a list"),
    (Item, {"name": "a"}, ".price", "'price' is missing"),
    (Item, {"name": "a", "price": "1", "weight": 3}, "", "Item has no field weight: was it submitted by another version"),
    (Item, [], "", "must be an object, for Item, not a list"),
    (list[Item], [{"name": "a", "price": "1"}, {"name": 5, "price": "1"}], "[1].name", "must be str, not a number (5)"),
    (Item, {"name": "a", "price": "x"}, ".price", "'x' is no decimal number"),
    (Colour, "blue", "", "'blue' is not a valid Colour"),
    (datetime.datetime, "2026-01-02T03:04:05", "", "has no time zone"),
    (datetime.datetime, "soon", "", "soon"),
    (bytes, "***", "", "must be bytes in base64"),
    (uuid.UUID, 5, "", "must be a text"),
    (datetime.timedelta, "1", "", "must be a number of seconds"),
    (Point, {"x": 1}, "", "must be a list"),
    (Cat | Dog, {"fins": 2}, "", "fits none of"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "plain", "place", "why"), ARRIVED, ids=lambda part: str(part)[:50])
def test_refused_where_it_arrives(hint: Any, plain: Any, place: str, why: str) -> None:
    """From another language, another version of the code, or a shell."""
    with pytest.raises(Unfit) as caught:
        carrier_of(hint).from_plain(plain)
    assert caught.value.fault.place == place
    assert why in caught.value.fault.why
    assert caught.value.fault.why.strip()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sets(st.integers(), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=6,
)


@given(
    value=JSON,
    hint=st.sampled_from(
        [
            Any,
            list,
            dict,
            list[Any],
            dict[str, Any],
            tuple[Any, ...],
            list[int],
            str | list[str],
            float | None,
            list[float],
            dict[str, int],
        ]
    ),
)
def test_exact_or_refused(value: Any, hint: Any) -> None:
    """Whatever is given: either it arrives equal, or it is refused. Lists for tuples, by declaration, are equal."""
    try:
        back = travel(hint, value)
    except Unfit:
        return
    if isinstance(value, tuple):
        value = list(value)
    assert (list(back) if isinstance(back, tuple) else back) == value


@pytest.mark.parametrize(
    ("hint", "value", "is_flat"),
    [
        (list[int], [1, True, 2**70], True), (list[str], ["a"] * 1000, True), (list[float], [1.5, 2, -0.0], True), (Sequence[str], ["a"], True),
        (dict[str, int], {"a": 1}, True), (Mapping[str, float], {"a": 1.5}, True),
        (list[float], [1.5, float("nan")], False), (list[int], [1.5], False), (list[int], (1,), False), (dict[str, int], {1: 1}, False),
        (dict[str, int], {"a": "b"}, False), (list[int], ["1"], False), (list[float], ["1"], False),
    ],
)  # fmt: skip
def test_flat_lists_and_dicts_are_carried_as_they_are(hint: Any, value: Any, is_flat: bool) -> None:
    carrier = carrier_of(hint)
    if is_flat:
        assert carrier.to_plain(value) is value
        assert carrier.from_plain(value) is value
        return
    try:
        plain = carrier.to_plain(value)
    except Unfit:
        return
    assert plain is not value


def test_what_says_nothing_of_the_value() -> None:
    assert bare(typing.Annotated[int, 1]) is int


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is new in 3.12")
def test_names_of_types() -> None:
    names: dict[str, Any] = {"Item": Item}
    exec("type Cart = list[Item]\ntype Text = str\ntype Pair[T] = tuple[T, T]", names)
    assert travel(names["Cart"], [Item("a", decimal.Decimal(1))]) == [Item("a", decimal.Decimal(1))]
    assert travel(names["Text"], "a") == "a"
    assert travel(names["Text"] | None, None) is None
    cart = names["Cart"]
    assert travel(dict[str, cart], {"a": []}) == {"a": []}
    with pytest.raises(Unfit, match="must be str"):
        travel(names["Text"], 5)
