"""Hooks by kind of hint; more in test_typed.py, by values."""

from __future__ import annotations

import datetime
from typing import Any, Literal, TypedDict

import cattrs
import pytest

from tests.unit.app.shapes import Colour, Item, Where
from tq.app.converters import Wrong, converters, taken


class Plain(TypedDict, total=False):
    a: int


@pytest.mark.parametrize("number", [0, 1], ids=["quick", "detailed"])
def test_both_converters_do_the_same(number: int) -> None:
    converter = converters()[number]
    assert converters()[number] is converter
    assert converter.unstructure(Item("a", 1), Item) == {"name": "a", "price": "1", "tags": []}  # type: ignore[arg-type]
    assert converter.unstructure(datetime.timedelta(minutes=1), datetime.timedelta) == 60.0
    assert converter.structure({"a": 1}, Plain) == {"a": 1}
    assert converter.structure({}, Plain) == {}
    assert converter.structure({"city": "a"}, Where) == {"city": "a"}
    with pytest.raises((cattrs.ForbiddenExtraKeysError, cattrs.ClassValidationError)):
        converter.structure({"b": 1}, Plain)


def test_literals_by_class_and_value() -> None:
    hook = converters()[0].get_structure_hook(Literal[1, "a", Colour.RED])
    assert [hook(plain, None) for plain in (1, "a", "red")] == [1, "a", Colour.RED]
    for plain in (True, "b", [1], None):
        with pytest.raises(Wrong, match=r"must be one of 1, 'a', <Colour.RED"):
            hook(plain, None)


@pytest.mark.parametrize(
    ("declared", "classes"), [({str}, {str}), ({int}, {int, bool}), ({float}, {float, int, bool}), ({bool}, {bool})]
)
def test_what_may_stand_for_a_scalar(declared: set[Any], classes: set[Any]) -> None:
    assert set(taken(declared)) == classes
