"""Whether what comes back is what was sent, and if not, where it differs."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import attrs

from tq.app.plain import Fault
from tq.app.words import a, place_of, shown


def difference(sent: Any, back: Any) -> Fault | None:
    """The first place where they differ in class or value, or None.

    A list and a tuple are alike here, as are mappings of any class: both sides have what the hint declares.
    """
    if sent is back:
        return None
    kind = sent.__class__
    if isinstance(sent, (list, tuple)) and isinstance(back, (list, tuple)):
        return _of_items(sent, back)
    if isinstance(sent, Mapping) and isinstance(back, Mapping):
        return _of_entries(sent, back)
    if back.__class__ is not kind:
        is_scalar = isinstance(sent, (str, int, float)) and not isinstance(sent, enum.Enum)
        if is_scalar and isinstance(back, (str, int, float)) and sent == back:
            return None
        return Fault("", f"{a(kind)} would arrive as {a(back.__class__)}; declare the type that it has")
    names = _fields(kind)
    if names is None:
        return None if sent == back else Fault("", f"{shown(sent)} would arrive as {shown(back)}")
    for name in names:
        fault = difference(getattr(sent, name), getattr(back, name))
        if fault is not None:
            return Fault(f".{name}{fault.place}", fault.why)
    return None


def _of_items(sent: list[Any] | tuple[Any, ...], back: list[Any] | tuple[Any, ...]) -> Fault | None:
    if len(sent) != len(back):
        return Fault("", f"{len(sent)} items would arrive as {len(back)}")
    for number, (item, other) in enumerate(zip(sent, back, strict=True)):
        fault = difference(item, other)
        if fault is not None:
            return Fault(f"[{number}]{fault.place}", fault.why)
    return None


def _of_entries(sent: Mapping[Any, Any], back: Mapping[Any, Any]) -> Fault | None:
    if len(sent) != len(back):
        return Fault("", f"{len(sent)} entries would arrive as {len(back)}")
    for key, item in sent.items():
        if key not in back:
            return Fault("", f"the key {shown(key)} would not arrive as it is")
        fault = difference(item, back[key])
        if fault is not None:
            return Fault(f"{place_of(key)}{fault.place}", fault.why)
    return None


def _fields(kind: type) -> list[str] | None:
    """Of a dataclass or an attrs class."""
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return None
