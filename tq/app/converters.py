"""cattrs, set to JSON and to strictness: each hint has a hook to plain values and one back.

cattrs knows classes, generics and their fields; what is set here is what it makes fit and we refuse (see ``typed``): containers
and scalars must have their JSON kind, a class must have no other fields. All that is carried as text is written here.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc as abc
import datetime
import decimal
import enum
import typing
import uuid
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Final, get_args, get_origin

import cattrs
from cattrs import cols
from cattrs.errors import IterableValidationNote
from cattrs.gen import typeddicts

from tq.app.unions import FAILURES, is_union, union_hooks
from tq.app.words import WORDS, a, json_kind, name_of, shown

Hook = Callable[[Any, Any], Any]


class Wrong(ValueError):
    """Of a hook: what is wrong with one value, in words."""


@cache
def converters() -> tuple[cattrs.Converter, cattrs.Converter]:
    """One that is quick, and one that tells where something is wrong."""
    return _converter(detailed=False), _converter(detailed=True)


def _converter(*, detailed: bool) -> cattrs.Converter:
    converter = cattrs.Converter(
        detailed_validation=detailed, forbid_extra_keys=True, unstruct_collection_overrides={tuple: list}
    )
    for kind in (str, int, float, bool):
        converter.register_structure_hook(kind, _strict(kind))
    for kind, to_plain, from_plain in _LEAVES:
        converter.register_unstructure_hook(kind, to_plain)
        converter.register_structure_hook(kind, from_plain)
    converter.register_unstructure_hook_func(lambda hint: hint in (Any, object), lambda value: value)
    converter.register_structure_hook_func(lambda hint: hint in (Any, object), lambda value, _hint: value)
    for predicate, unstructure, structure in _KINDS_OF_HINTS:
        if unstructure is not None:
            converter.register_unstructure_hook_factory(predicate, _with(unstructure, converter))
        converter.register_structure_hook_factory(predicate, _with(structure, converter))
    return converter


def _with(factory: Callable[[Any, Any], Any], converter: cattrs.Converter) -> Callable[[Any], Any]:
    return lambda hint: factory(hint, converter)


def taken(declared: Collection[type]) -> tuple[type, ...]:
    """Classes of values that may stand for these scalars: a float may be given as an int, an int as a bool."""
    found = set(declared)
    if float in found:
        found.add(int)
    if int in found:
        found.add(bool)
    return tuple(found)


def _strict(kind: type) -> Hook:
    classes = taken({kind})

    def structure(value: Any, hint: Any) -> Any:
        """Also of subclasses, such as an enumeration of numbers."""
        if not isinstance(value, classes):
            raise Wrong(f"must be {kind.__name__}, not {json_kind(value)} ({shown(value)})")
        return value if hint is kind else hint(value)

    return structure


def _kind_of(hint: Any) -> Any:
    return get_origin(hint) or hint


def _from(kind: type, factory: Callable[[Any, Any], Hook]) -> Callable[[Any, Any], Hook]:
    """The hook of ``factory``, for what has this JSON kind and nothing else."""

    def make(hint: Any, converter: cattrs.Converter) -> Hook:
        hook = factory(hint, converter)

        def structure(value: Any, declared: Any) -> Any:
            if value.__class__ is not kind:
                raise Wrong(f"must be {WORDS[kind]}, for {name_of(hint)}, not {json_kind(value)} ({shown(value)})")
            return hook(value, declared)

        return structure

    return make


def _to(
    factory: Callable[[Any, Any], Callable[[Any], Any]], *kinds: type
) -> Callable[[Any, Any], Callable[[Any], Any]]:
    """The hook of ``factory``, for instances of what is declared, or of these."""

    def make(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
        hook = factory(hint, converter)
        taken = kinds or (_kind_of(hint),)

        def unstructure(value: Any) -> Any:
            if not isinstance(value, taken):
                raise Wrong(f"must be {name_of(hint)}, not {a(value.__class__)} ({shown(value)})")
            return hook(value)

        return unstructure

    return make


def _is_sequence(hint: Any) -> bool:
    return _kind_of(hint) in (list, abc.MutableSequence, abc.Sequence, abc.Collection, abc.Iterable)


def _is_class(hint: Any) -> bool:
    kind = _kind_of(hint)
    return hasattr(kind, "__attrs_attrs__") or hasattr(kind, "__dataclass_fields__")


def _items(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    if not get_args(hint):
        return list  # nothing is declared of the items: ``fault_of`` looks at them
    return cols.iterable_unstructure_factory(hint, converter, unstructure_to=list)


def _is_open(hint: Any) -> bool:
    """A tuple of any length."""
    return hint is tuple or get_args(hint)[-1:] == (Ellipsis,)


def _tuple_to(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    if _is_open(hint):
        return _items(hint, converter)
    hooks = [converter.get_unstructure_hook(part) for part in get_args(hint)]
    return lambda value: [hook(item) for hook, item in zip(hooks, value, strict=True)]


def _tuple_from(hint: Any, converter: cattrs.Converter) -> Hook:
    parts = get_args(hint)
    if _is_open(hint):
        items = list[parts[0]] if parts else list  # type: ignore[valid-type]
        as_list = cols.list_structure_factory(items, converter)
        return lambda value, _hint: tuple(as_list(value, items))
    rows = [(part, converter.get_structure_hook(part)) for part in parts]

    def structure(value: Any, _hint: Any) -> Any:
        if len(value) != len(rows):
            raise Wrong(f"must have {len(rows)} items, for {name_of(hint)}, not {len(value)}")
        found = []
        for number, (item, (part, hook)) in enumerate(zip(value, rows, strict=True)):
            try:
                found.append(hook(item, part))
            except FAILURES as error:
                if not converter.detailed_validation:
                    raise
                error.__notes__ = [*getattr(error, "__notes__", []), IterableValidationNote("", number, part)]
                raise cattrs.IterableValidationError(name_of(hint), [error], hint) from error
        return tuple(found)

    return structure


def _fields_of(hint: Any) -> Any:
    """Of a NamedTuple, as a tuple's type; its annotations may be texts."""
    return tuple[tuple(typing.get_type_hints(hint).values())]  # type: ignore[misc]


def _named_tuple_to(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    return converter.get_unstructure_hook(_fields_of(hint))


def _named_tuple_from(hint: Any, converter: cattrs.Converter) -> Hook:
    fields = _fields_of(hint)
    hook = converter.get_structure_hook(fields)
    return lambda value, _hint: hint(*hook(value, fields))


def _mapping_to(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    if not get_args(hint):
        return dict
    return cols.mapping_unstructure_factory(hint, converter, unstructure_to=dict)


def _mapping_from(hint: Any, converter: cattrs.Converter) -> Hook:
    kind = _kind_of(hint)
    to = kind if isinstance(kind, type) and issubclass(kind, dict) else dict
    if not get_args(hint):
        return lambda value, _hint: to(value)
    return cols.mapping_structure_factory(hint, converter, to, detailed_validation=converter.detailed_validation)


def _typed_dict_to(hint: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    return typeddicts.make_dict_unstructure_fn(_resolved(hint), converter)


def _typed_dict_from(hint: Any, converter: cattrs.Converter) -> Hook:
    hook: Any = typeddicts.make_dict_structure_fn(
        _resolved(hint),
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=converter.detailed_validation,
    )
    return lambda value, _hint: hook(value, hint)


@cache
def _resolved(hint: Any) -> Any:
    """The same TypedDict, which knows what it requires: Python does not see that where annotations are texts."""
    if get_args(hint):
        return hint
    annotations = {}
    for name, annotation in typing.get_type_hints(hint, include_extras=True).items():
        if get_origin(annotation) not in (typing.Required, typing.NotRequired):
            annotation = (typing.Required if name in hint.__required_keys__ else typing.NotRequired)[annotation]
        annotations[name] = annotation
    return typing.TypedDict(hint.__name__, annotations)  # type: ignore[operator]


def _literal(hint: Any, _converter: cattrs.Converter) -> Hook:
    by_plain: dict[type, dict[Any, Any]] = {}  # by class first: 1 is equal to True
    for part in get_args(hint):
        plain = part.value if isinstance(part, enum.Enum) else part
        by_plain.setdefault(plain.__class__, {})[plain] = part

    def structure(value: Any, _hint: Any) -> Any:
        found = by_plain.get(value.__class__, {})
        if not found or value not in found:
            raise Wrong(f"must be one of {', '.join(map(repr, get_args(hint)))}, not {shown(value)}")
        return found[value]

    return structure


_KINDS_OF_HINTS: Final[tuple[tuple[Callable[[Any], bool], Any, Any], ...]] = (
    (cols.is_mapping, _to(_mapping_to, abc.Mapping), _from(dict, _mapping_from)),
    (_is_sequence, _to(_items, list, tuple), _from(list, cols.list_structure_factory)),
    (lambda hint: _kind_of(hint) is tuple, _to(_tuple_to, list, tuple), _from(list, _tuple_from)),
    (
        _is_class,
        _to(lambda hint, converter: converter.gen_unstructure_attrs_fromdict(hint)),
        _from(dict, lambda hint, converter: converter.gen_structure_attrs_fromdict(hint)),
    ),
    (cols.is_namedtuple, _to(_named_tuple_to), _from(list, _named_tuple_from)),
    (lambda hint: typing.is_typeddict(_kind_of(hint)), _to(_typed_dict_to, dict), _from(dict, _typed_dict_from)),
    (lambda hint: get_origin(hint) is typing.Literal, None, _literal),
    (
        is_union,
        lambda hint, converter: union_hooks(hint, converter)[0],
        lambda hint, converter: union_hooks(hint, converter)[1],
    ),
)
"""(which hints, to plain, from plain); a later one goes before an earlier one."""


# ---- leaves ----------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if value.__class__ is not str:
        raise Wrong(f"must be a text, not {json_kind(value)} ({shown(value)})")
    return str(value)


def _moment_to(value: datetime.datetime) -> str:
    if value.tzinfo is None:
        raise Wrong(f"{value!r} has no time zone; use an aware one, for example datetime.now(UTC)")
    return value.isoformat()


def _moment_from(text: Any, _hint: Any) -> datetime.datetime:
    value = datetime.datetime.fromisoformat(_text(text))
    if value.tzinfo is None:
        raise Wrong(f"{text!r} has no time zone")
    return value


def _seconds_from(value: Any, _hint: Any) -> datetime.timedelta:
    if value.__class__ not in (int, float):
        raise Wrong(f"must be a number of seconds, not {json_kind(value)} ({shown(value)})")
    return datetime.timedelta(seconds=value)


def _bytes_from(text: Any, _hint: Any) -> bytes:
    try:
        return base64.b64decode(_text(text), validate=True)
    except binascii.Error as error:
        raise Wrong(f"must be bytes in base64: {error}") from error


def _decimal_from(text: Any, _hint: Any) -> decimal.Decimal:
    try:
        return decimal.Decimal(_text(text))
    except decimal.InvalidOperation as error:
        raise Wrong(f"{text!r} is no decimal number") from error


def _none_from(value: Any, _hint: Any) -> None:
    if value is not None:
        raise Wrong(f"must be None, not {json_kind(value)} ({shown(value)})")


_LEAVES: Final[tuple[tuple[Any, Callable[[Any], Any], Hook], ...]] = (
    (type(None), lambda value: value, _none_from),
    (bytes, lambda value: base64.b64encode(value).decode(), _bytes_from),
    (uuid.UUID, str, lambda text, _: uuid.UUID(_text(text))),
    (datetime.date, lambda value: value.isoformat(), lambda text, _: datetime.date.fromisoformat(_text(text))),
    (datetime.datetime, _moment_to, _moment_from),
    (datetime.time, lambda value: value.isoformat(), lambda text, _: datetime.time.fromisoformat(_text(text))),
    (datetime.timedelta, lambda value: value.total_seconds(), _seconds_from),
    (decimal.Decimal, str, _decimal_from),
)
