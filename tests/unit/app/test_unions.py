"""The first member that a value fits; more in test_typed.py, by values."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import typing
import uuid
from typing import Any

import pytest

from tests.unit.app.shapes import Cat, Colour, Dog, Level, UserId
from tq.app.converters import converters
from tq.app.typed import Unfit, carrier_of
from tq.app.unions import is_union, members, union_hooks


@pytest.mark.parametrize(
    "part", [uuid.UUID, datetime.date, datetime.datetime, datetime.time, decimal.Decimal, bytes, pathlib.Path, Colour]
)
def test_a_text_beside_what_is_carried_as_text_is_refused(part: Any) -> None:
    with pytest.raises(TypeError, match="both carried as text"):
        union_hooks(str | part, converters()[0])
    with pytest.raises(Unfit, match="both carried as text"):
        carrier_of(str | part)


def test_the_first_member_that_fits() -> None:
    unstructure, structure = union_hooks(typing.Optional[Cat | Dog | Level], converters()[0])  # noqa: UP045
    union = Cat | Dog | Level | None
    assert [unstructure(value) for value in (None, Cat(1), Dog("w"), Level.HIGH)] == [
        None, {"lives": 1}, {"bark": "w", "lives": 1}, 2,
    ]  # fmt: skip
    assert [structure(plain, union) for plain in (None, {"lives": 1}, {"bark": "w", "lives": 1}, 2)] == [
        None, Cat(1), Dog("w"), Level.HIGH,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'x' fits none of"):
        structure("x", union)
    with pytest.raises(ValueError, match="'x' is none of"):
        unstructure("x")


def test_what_a_member_may_be() -> None:
    carrier = carrier_of(UserId | list[int] | typing.Literal["all"])
    for value in (5, [5], "all"):
        assert carrier.from_plain(carrier.to_plain(value)) == value
    with pytest.raises(Unfit):
        carrier.to_plain("none")


def test_which_hints_are_unions() -> None:
    assert [is_union(hint) for hint in (int | str, typing.Optional[int], typing.Union[int, str], int, list[int])] == [  # noqa: UP007, UP045
        True, True, True, False, False,
    ]  # fmt: skip
    assert members(int | None) == (int, type(None))
