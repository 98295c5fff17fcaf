"""What JSON carries exactly, and what of a value it cannot carry, with its place.

JSON writers take more than comes back: a tuple comes back as a list, a key that is a number as text, an enumeration
as its value, NaN not at all. Here only that passes which comes back as it was. Containers of nothing but scalars are
looked at by their set of classes, which is quick; places are put together on the way back from what was found.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tq.app.words import a, place_of, shown

DEPTH_MAX: Final = 100
SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
"""Carried without a look at the value; a float may be NaN."""


class Fault(NamedTuple):
    """What cannot be carried. place: behind the value's own name, ``[3].x``."""

    place: str
    why: str


def fault_of(value: Any, depth: int = 0) -> Fault | None:
    """The first part of ``value`` that JSON does not carry as it is, or None."""
    kind = value.__class__
    if kind in SCALARS:
        return None
    if kind is float:
        return None if math.isfinite(value) else Fault("", f"JSON has no number for {value!r}; use None, or a text")
    if depth > DEPTH_MAX:
        return Fault("", f"it is nested deeper than {DEPTH_MAX} levels, or holds itself")
    if kind is list:
        return _of_items(value, depth)
    if kind is dict:
        return _of_entries(value, depth)
    if isinstance(value, (str, int)) and not isinstance(value, enum.Enum):
        return None  # comes back equal, as its base class
    if isinstance(value, float):
        return fault_of(float(value))
    return Fault("", f"{a(kind)} cannot be carried as JSON; {_advice(value)}")


def _of_items(items: list[Any], depth: int) -> Fault | None:
    if set(map(type, items)) <= SCALARS:
        return None
    for number, item in enumerate(items):
        fault = fault_of(item, depth + 1)
        if fault is not None:
            return Fault(f"[{number}]{fault.place}", fault.why)
    return None


def _of_entries(entries: dict[Any, Any], depth: int) -> Fault | None:
    for key in entries:
        if key.__class__ is not str:
            return Fault("", f"its key {shown(key)} is no text; JSON has no other keys")
    if set(map(type, entries.values())) <= SCALARS:
        return None
    for key, item in entries.items():
        fault = fault_of(item, depth + 1)
        if fault is not None:
            return Fault(f"{place_of(key)}{fault.place}", fault.why)
    return None


def _advice(value: object) -> str:
    match value:
        case set() | frozenset():
            return "use a list, or a codec of your own"
        case tuple():
            return "declare the type as tuple, use a list, or a codec of your own"
        case bytes() | bytearray() | memoryview():
            return "declare the type as bytes, or use a codec of your own"
        case Mapping():
            return "use a dict, or a codec of your own"
        case _:
            return "declare its type if that is a dataclass, an attrs class, an enum or the like, or use a codec of your own"
