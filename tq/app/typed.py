"""Values as their type hints declare them, to what JSON carries and back.

Theory. Three kinds of hints. Scalars (``str``, ``int | None``) pass as they are and only their class is looked at.
Nothing declared (``Any``) passes what JSON carries exactly, see ``plain``. All else goes through cattrs: dataclasses, attrs
classes, enums, UUID, datetime, Decimal, tuples, unions, TypedDict ... A hint is looked at once, when a value of it is
first carried.

cattrs makes things fit: a subclass loses its fields, a text becomes a list of characters, a set a list in some order.
So what is to be sent is read back at once, by what the other side will do, and compared with what was given. What would
not arrive as it was is refused here, at the submit, with its place. That costs less than a second codec that is exact,
and holds for what nobody thought of. And what arrives is not made to fit either: containers and scalars must have their
JSON kind, a class must have no fields that it does not know.

Rejected: to look at values by their class alone (both sides would have to name classes on the wire); checks of our own
for each kind of hint (the list has no end).
"""

from __future__ import annotations

import collections.abc as abc
import enum
import math
import typing
from typing import Any, Final, get_args, get_origin

import attrs
import cattrs

from tq.app.converters import Wrong, converters, taken
from tq.app.exact import difference
from tq.app.plain import SCALARS, Fault, fault_of
from tq.app.unions import FAILURES, is_union, members
from tq.app.words import a, json_kind, name_of, shown

NONE: Final = type(None)


class Unfit(Exception):
    """A value is not what is declared, or cannot be carried."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.place}: {fault.why}")
        self.fault = fault


@attrs.frozen
class Unresolved:
    """Stands for a hint that names what cannot be found."""

    text: str
    why: str


class Carrier:
    """Of one hint. classes: a value of these needs no look, in neither direction."""

    classes: frozenset[type] = frozenset()

    def to_plain(self, value: Any) -> Any:
        """What JSON carries. Raises Unfit."""
        raise NotImplementedError

    def from_plain(self, plain: Any) -> Any:
        """The value that ``to_plain`` was given. Raises Unfit."""
        raise NotImplementedError


class Undeclared(Carrier):
    """What JSON carries exactly, and nothing else."""

    classes = SCALARS

    def to_plain(self, value: Any) -> Any:
        fault = fault_of(value)
        if fault is not None:
            raise Unfit(fault)
        return value

    def from_plain(self, plain: Any) -> Any:
        return plain


class Scalar(Carrier):
    """One of str, int, float, bool, None, or a choice of them. A float may be given as an int, an int as a bool."""

    def __init__(self, declared: set[type]) -> None:
        self._taken = taken(declared)
        self._name = " or ".join("None" if kind is NONE else kind.__name__ for kind in _SCALARS if kind in declared)
        self.has_floats = float in self._taken
        self.classes = frozenset(kind for kind in self._taken if kind is not float)

    def to_plain(self, value: Any) -> Any:
        if isinstance(value, self._taken):
            if isinstance(value, float) and not math.isfinite(value):
                raise Unfit(Fault("", f"JSON has no number for {value!r}; use None, or a text"))
            return value
        raise Unfit(Fault("", f"must be {self._name}, not {a(value.__class__)} ({shown(value)})"))

    def from_plain(self, plain: Any) -> Any:
        if isinstance(plain, self._taken):
            return plain
        raise Unfit(Fault("", f"must be {self._name}, not {json_kind(plain)} ({shown(plain)})"))


class Flat(Carrier):
    """A list of scalars, or a dict of them by text: if that is what it is, it is carried as it is. All else is for ``typed``."""

    def __init__(self, kind: type, scalar: Scalar, typed: Typed) -> None:
        self._kind = kind
        self._classes = scalar.classes
        self._has_floats = scalar.has_floats
        self._typed = typed

    def _is_flat(self, value: Any) -> bool:
        if value.__class__ is not self._kind:
            return False
        items: Any = value
        if self._kind is dict:
            if not set(map(type, items)) <= _TEXT:
                return False
            items = items.values()
        kinds = set(map(type, items))
        if float in kinds and self._has_floats:
            kinds.remove(float)
            return kinds <= self._classes and all(map(math.isfinite, items))
        return kinds <= self._classes

    def to_plain(self, value: Any) -> Any:
        return value if self._is_flat(value) else self._typed.to_plain(value)

    def from_plain(self, plain: Any) -> Any:
        return plain if self._is_flat(plain) else self._typed.from_plain(plain)


class Typed(Carrier):
    """What cattrs knows."""

    def __init__(self, hint: Any) -> None:
        quick, detailed = converters()
        try:
            self._unstructure = quick.get_unstructure_hook(hint)
            self._structure = quick.get_structure_hook(hint)
        except Unfit:
            raise
        except (*FAILURES, NameError, RecursionError) as error:
            raise Unfit(
                Fault("", f"its type {name_of(hint)} cannot be carried as JSON ({error}); {_ADVICE}")
            ) from error
        self._detailed = detailed
        self._hint = hint

    def to_plain(self, value: Any) -> Any:
        try:
            plain = self._unstructure(value)
        except Wrong as error:
            raise Unfit(Fault("", str(error))) from error
        except FAILURES as error:
            why = f"{a(value.__class__)} is no {name_of(self._hint)} ({type(error).__name__}: {error})"
            raise Unfit(Fault("", why)) from error
        fault = fault_of(plain)
        if fault is None:
            fault = difference(value, self.from_plain(plain))
        if fault is not None:
            raise Unfit(fault)
        return plain

    def from_plain(self, plain: Any) -> Any:
        try:
            return self._structure(plain, self._hint)
        except FAILURES as error:
            raise Unfit(self._explained(plain, error)) from error

    def _explained(self, plain: Any, error: Exception) -> Fault:
        """The first of what is wrong, with its place: by the converter that keeps account of it."""
        try:
            self._detailed.get_structure_hook(self._hint)(plain, self._hint)
        except FAILURES as told:
            found = cattrs.transform_error(told, "", _in_words)
            if found:
                why, _, place = found[0].rpartition(" @ ")
                return Fault(place, why)
        return Fault("", _in_words(error, None))


def carrier_of(hint: Any) -> Carrier:
    """Raises Unfit for a hint whose values cannot be carried."""
    hint = bare(hint)
    if isinstance(hint, Unresolved):
        why = f"its type {hint.text} cannot be found ({hint.why}); import it for more than type checkers, and define it in a module"
        raise Unfit(Fault("", why))
    if hint is Any or hint is object or isinstance(hint, typing.TypeVar):
        return Undeclared()
    declared = {bare(member) for member in members(hint)} if is_union(hint) else {NONE if hint is None else hint}
    if declared <= _SCALARS_SET:
        return Scalar(declared)
    typed = Typed(hint)
    parts = [bare(part) for part in get_args(hint)]
    if parts and parts[-1] in _SCALARS_SET and parts[:-1] in ([], [str]):
        kind = _FLAT.get((get_origin(hint), len(parts)))
        if kind is not None:
            return Flat(kind, Scalar(set(parts[-1:])), typed)
    return typed


def bare(hint: Any) -> Any:
    """Without what says nothing of the value: Annotated, Final, Required ..."""
    while True:
        origin = get_origin(hint)
        if origin is typing.Annotated or origin in (typing.Final, typing.Required, typing.NotRequired, typing.ClassVar):
            hint = get_args(hint)[0]
        elif type(hint).__name__ == "TypeAliasType":  # ``type X = ...``, since Python 3.12
            hint = hint.__value__
        elif hint is typing.NoReturn or hint is typing.Never:
            return None
        else:
            return hint


_SCALARS: Final = (str, int, float, bool, NONE)
_SCALARS_SET: Final = frozenset(_SCALARS)
_TEXT: Final = frozenset({str})
_FLAT: Final[dict[tuple[Any, int], type]] = {
    (list, 1): list, (abc.Sequence, 1): list, (abc.Iterable, 1): list, (abc.Collection, 1): list,
    (dict, 2): dict, (abc.Mapping, 2): dict,
}  # fmt: skip
"""(what is declared, number of its arguments) -> what is carried as it is."""
_ADVICE: Final = "use a dataclass, an attrs class or another type that stands in the guide, or a codec of your own"


def _in_words(error: BaseException, hint: Any) -> str:
    if isinstance(error, Wrong):
        return str(error)
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        names = ", ".join(sorted(error.extra_fields))
        return f"{name_of(error.cl)} has no field {names}: was it submitted by another version of the code?"
    if isinstance(error, ValueError) and isinstance(hint, type) and issubclass(hint, enum.Enum):
        return str(error)
    told = cattrs.v.format_exception(error, hint)
    return f"{told} ({error})" if str(error) and str(error) not in told else told
