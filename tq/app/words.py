"""How messages call values, types and places."""

from __future__ import annotations

from typing import Any, Final, get_args

WORDS: Final = {
    str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null", list: "a list", dict: "an object",
}  # fmt: skip
"""Of the kinds of JSON."""


def place_of(key: object) -> str:
    """``.name``, or ``['a key']`` of what is no name."""
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def shown(value: object) -> str:
    """Its repr, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def a(kind: type) -> str:
    """``a set``, ``an Order``."""
    name = kind.__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def json_kind(value: Any) -> str:
    """``a text``, ``an object``."""
    return WORDS.get(value.__class__) or a(value.__class__)


def name_of(hint: Any) -> str:
    """As it is written: ``Order``, ``list[Order]``."""
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "")
