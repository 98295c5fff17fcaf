"""Unions of more than scalars: the first member, in the order of the declaration, that a value fits.

What is sent is compared with what comes back (see ``typed``), so a value that another member would take is refused at
the submit. One pair is refused always, because whether it goes well would hang on each value: ``str`` beside a type
that is carried as text (UUID, datetime, an enum of texts ...).
"""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any, Final, get_args, get_origin

import cattrs

from tq.app.words import shown

FAILURES: Final = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    cattrs.BaseValidationError, cattrs.ForbiddenExtraKeysError, cattrs.StructureHandlerNotFoundError,
)  # fmt: skip
"""What hooks of cattrs, and the classes behind them, say of a value that does not fit."""

TEXTS: Final = (uuid.UUID, datetime.date, datetime.time, decimal.Decimal, bytes, pathlib.PurePath)
"""Carried as text; datetime is a date."""


def is_union(hint: Any) -> bool:
    return get_origin(hint) in (typing.Union, types.UnionType)


def members(union: Any) -> tuple[Any, ...]:
    return get_args(union)


def union_hooks(union: Any, converter: cattrs.Converter) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """(unstructure, structure). Raises TypeError for a union that cannot be told apart."""
    parts = members(union)
    if str in parts:
        for part in parts:
            if _is_text(part):
                raise TypeError(f"str and {part} are both carried as text")
    rows = [
        (part, _class_of(part), converter.get_unstructure_hook(part), converter.get_structure_hook(part))
        for part in parts
    ]

    def unstructure(value: Any) -> Any:
        for part, kind, hook, _ in rows:
            if value in get_args(part) if kind is None else _fits(value, kind):
                return hook(value)
        raise ValueError(f"{shown(value)} is none of {union}")

    def structure(value: Any, _hint: Any) -> Any:
        whys = []
        for part, _, _, hook in rows:
            try:
                return hook(value, part)
            except FAILURES as error:
                whys.append(str(error))
        raise ValueError(f"{shown(value)} fits none of {union}: {'; '.join(whys)}")

    return unstructure, structure


def _is_text(part: Any) -> bool:
    if not isinstance(part, type) or part is str:
        return False
    if issubclass(part, enum.Enum):
        return any(isinstance(member.value, str) for member in part)
    return issubclass(part, TEXTS)


def _class_of(part: Any) -> type | None:
    """What a value of this member is an instance of. None: a Literal, whose values are listed."""
    if get_origin(part) is typing.Literal:
        return None
    while isinstance(part, typing.NewType):
        part = part.__supertype__
    kind = get_origin(part) or part
    if typing.is_typeddict(kind):
        return dict
    return kind if isinstance(kind, type) else object


def _fits(value: Any, kind: type) -> bool:
    """A float may be given as an int. A bool is an int, but not where both are members: those come first by class."""
    return value.__class__ is kind or isinstance(value, kind) or (kind is float and isinstance(value, int))
