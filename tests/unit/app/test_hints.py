"""Hints are found late, each for itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.app import shapes
from tests.unit.app.shapes import Item
from tq.app.hints import hints_of
from tq.app.typed import Unresolved


def plain(a: int, b: Item, c, d: str = None, *e: int, f: Later = 5, **g: str) -> list[Item]:  # type: ignore[no-untyped-def, assignment]  # noqa: RUF013
    """Of every kind; c declares nothing."""


class Later:
    """Defined behind the function that names it."""


def test_of_every_kind() -> None:
    hints, result = hints_of(plain)
    assert hints == {
        "a": int, "b": Item, "c": Any, "d": str | None, "e": list[int], "f": Later, "g": dict[str, str],
    }  # fmt: skip
    assert result == list[Item]
    assert hints_of(plain, {"b", "g"})[0].keys() == {"a", "c", "d", "e", "f"}


def test_what_cannot_be_found_spoils_no_other() -> None:
    hints, result = hints_of(shapes.hidden)
    assert hints["a"] is int
    assert hints["b"] == Unresolved("Hidden", "name 'Hidden' is not defined")
    assert isinstance(result, Unresolved)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return outer


def test_behind_decorators() -> None:
    hints, result = hints_of(wrapped(plain))
    assert hints["b"] is Item
    assert result == list[Item]


def test_classes_of_functions_around() -> None:
    class Local:
        pass

    class Unused:
        pass

    def task(a: Local, b: Unused) -> None:
        assert Local

    hints, result = hints_of(task)
    assert hints["a"] is Local
    assert isinstance(hints["b"], Unresolved)
    assert result is type(None)


@pytest.mark.parametrize("function", [len, functools.partial(plain, 1)])
def test_what_is_no_plain_function(function: Callable[..., Any]) -> None:
    assert set(hints_of(function)[0].values()) >= {Any} or function is not len
