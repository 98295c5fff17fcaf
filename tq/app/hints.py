"""What a function declares, found when it is first asked for: by then all modules are there.

Each hint is found for itself, so that one which only type checkers can see spoils no other.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Collection
from typing import Any

from tq.app.codecs import Hints
from tq.app.typed import Unresolved


def hints_of(function: Callable[..., Any], filled: Collection[str] = ()) -> tuple[Hints, Any]:
    """(types by parameter, type of the result). filled: parameters to leave out."""
    inner = inspect.unwrap(function)
    scope = _scope(inner)
    signature = inspect.signature(function)
    hints = Hints()
    for name, parameter in signature.parameters.items():
        if name in filled:
            continue
        hint = _resolve(parameter.annotation, scope)
        if parameter.kind is parameter.VAR_POSITIONAL:
            hint = list[hint] if not isinstance(hint, Unresolved) else hint  # type: ignore[valid-type]
        elif parameter.kind is parameter.VAR_KEYWORD:
            hint = dict[str, hint] if not isinstance(hint, Unresolved) else hint  # type: ignore[valid-type]
        elif parameter.default is None and hint is not Any and not isinstance(hint, Unresolved):
            hint = typing.Optional[hint]  # noqa: UP045 - of any object
        hints[name] = hint
    return hints, _resolve(signature.return_annotation, scope)


def _scope(function: Callable[..., Any]) -> dict[str, Any]:
    """The names that its annotations may use: those of its module, and what it holds of the functions around it."""
    names = dict(vars(sys.modules[function.__module__])) if function.__module__ in sys.modules else {}
    names |= getattr(function, "__globals__", {})
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is not None and cells is not None:
        for name, cell in zip(code.co_freevars, cells, strict=True):
            try:
                names[name] = cell.cell_contents
            except ValueError:
                continue  # not bound yet
    return names


def _resolve(annotation: Any, scope: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = type("Holder", (), {"__annotations__": {"hint": annotation}})
    try:
        return typing.get_type_hints(holder, scope, scope, include_extras=True)["hint"]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        text = annotation if isinstance(annotation, str) else str(annotation)
        return Unresolved(text, str(error))
