"""Words of messages."""

from __future__ import annotations

from tests.unit.app.shapes import Item
from tq.app.words import a, json_kind, name_of, place_of, shown


def test_places() -> None:
    assert [place_of(key) for key in ("x", "a b", "", 3)] == [".x", "['a b']", "['']", "[3]"]


def test_values() -> None:
    assert [a(kind) for kind in (int, set, object, Item)] == ["an int", "a set", "an object", "an Item"]
    assert [json_kind(value) for value in ("", 1, 1.5, True, None, [], {}, {1})] == [
        "a text", "a number", "a number", "true or false", "null", "a list", "an object", "a set",
    ]  # fmt: skip
    assert shown("x" * 100) == "'" + "x" * 76 + "..."
    assert shown(5) == "5"


def test_types() -> None:
    assert [name_of(hint) for hint in (Item, list[int], int | None)] == ["Item", "list[int]", "int | None"]
