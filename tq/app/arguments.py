"""The arguments of a call by the names of their parameters, and back.

A payload has a member for each argument that was given, whether by place or by name, so functions may change the order of
their parameters and gain new ones with defaults while tasks wait. Arguments that were left out stay out: who runs the
task has the defaults. ``*args`` is one member with a list, ``**kwargs`` one with an object.

``inspect`` could bind too, at ten times the cost; its rules are kept, and its words mostly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from tq.errors import InvalidRequest

NOTHING: Final = inspect.Parameter.empty


class Parameters:
    """Of one function. name: as messages call it. filled: parameters that the worker fills, which are no arguments."""

    def __init__(self, function: Callable[..., Any], name: str, filled: Collection[str] = ()) -> None:
        self.name = name
        self._filled = filled
        self.var_args: str | None = None
        self.var_named: str | None = None
        self.places: list[str] = []  # by place, or by place and name
        self.only_place: set[str] = set()
        self.named: set[str] = set()  # by name
        self.required: list[str] = []
        self.defaults: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in filled:
                self._add(parameter)
        self.names = [*self.places, *sorted(self.named - set(self.places)), *self._vars()]
        self._known = frozenset(self.names)
        self._is_simple = not self.only_place and self.var_args is None and self.var_named is None

    def _add(self, parameter: inspect.Parameter) -> None:
        name, kind = parameter.name, parameter.kind
        if kind is parameter.VAR_POSITIONAL:
            self.var_args = name
            return
        if kind is parameter.VAR_KEYWORD:
            self.var_named = name
            return
        if kind is not parameter.KEYWORD_ONLY:
            self.places.append(name)
        if kind is parameter.POSITIONAL_ONLY:
            self.only_place.add(name)
        else:
            self.named.add(name)
        if parameter.default is NOTHING:
            self.required.append(name)
        else:
            self.defaults[name] = parameter.default

    def _vars(self) -> list[str]:
        return [name for name in (self.var_args, self.var_named) if name is not None]

    # ---- at the submit -----------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, by name. Raises InvalidRequest, naming the argument, for what a call would refuse."""
        bound = dict(zip(self.places, args, strict=False))
        if len(args) > len(self.places):
            if self.var_args is None:
                raise self._refused(None, f"takes {_count(len(self.places))} by place, {len(args)} were given")
            bound[self.var_args] = list(args[len(self.places) :])
        if kwargs:
            more: dict[str, Any] = {}
            for name, value in kwargs.items():
                if name not in self.named:
                    more[name] = value
                elif name in bound:
                    raise self._refused(name, f"got two values for argument {name!r}")
                else:
                    bound[name] = value
            if more:
                self._take_more(bound, more)
        for name in self.required:
            if name not in bound:
                raise self._refused(name, f"is missing argument {name!r}")
        return bound

    def _take_more(self, bound: dict[str, Any], more: dict[str, Any]) -> None:
        if self.var_named is not None:
            bound[self.var_named] = more
            return
        name = next(iter(more))
        if name in self._filled:
            raise self._refused(name, f"has its {name!r} filled by the worker; it cannot be submitted")
        if name in self.only_place:
            raise self._refused(name, f"takes argument {name!r} by place only")
        raise self._refused(name, f"has no argument {name!r}; it has {self._list()}")

    # ---- at the worker -----------------------------------------------------------------------------

    def unbind(self, bound: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """(args, kwargs) of the call. Raises InvalidRequest for what this function cannot be called with."""
        if not bound.keys() <= self._known:
            names = ", ".join(repr(name) for name in bound if name not in self._known)
            raise self._refused(names, f"has no argument {names}; it has {self._list()}: {_OTHER_VERSION}")
        for name in self.required:
            if name not in bound:
                raise self._refused(name, f"is missing argument {name!r}: {_OTHER_VERSION}")
        if self._is_simple:
            return [], bound
        return self._unbind_all(bound)

    def _unbind_all(self, bound: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        kwargs = {name: value for name, value in bound.items() if name in self.named}
        more = [] if self.var_args is None else bound.get(self.var_args, [])
        args: list[Any] = []
        for number, name in enumerate(self.places):
            if name in self.named and not more:
                break
            if name not in bound and not more and not any(later in bound for later in self.places[number:]):
                break
            args.append(bound[name] if name in bound else self.defaults[name])
            if name in self.named:
                kwargs.pop(name, None)
        if self.var_named is not None:
            kwargs.update(bound.get(self.var_named, {}))
        return [*args, *more], kwargs

    # ---- words -------------------------------------------------------------------------------------

    def _list(self) -> str:
        return ", ".join(self.names) or "none"

    def _refused(self, argument: str | None, why: str) -> InvalidRequest:
        return InvalidRequest(f"{self.name}() {why}", detail={"field": argument or "arguments"})


_OTHER_VERSION: Final = "the task was submitted by another version of the code, or by hand"


def _count(number: int) -> str:
    return "1 argument" if number == 1 else f"{number or 'no'} arguments"
