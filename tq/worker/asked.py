"""How a handler asks for a resource: by the default of a parameter. ``resources`` says what becomes of it.

def send(to: str, db: Pool = resource("db")) -> int: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tq.errors import NotInHandler


class Asked:
    """The default of a parameter that the worker fills. Whoever uses it as the resource is told what is wrong."""

    def __init__(self, name: str | None) -> None:
        self.tq_name = name

    def __repr__(self) -> str:
        return f"<resource {self.tq_name or 'of this name'!r}, filled by the worker>"

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise NotInHandler(f"{self!r} has no .{attribute}: where you call the function yourself, pass the resource too")


def resource(name: str | None = None) -> Any:
    """As the default of a parameter: fill it with the resource ``name``, by default the parameter's own name."""
    return Asked(name)


def asked(function: Callable[..., Any]) -> dict[str, str]:
    """Parameter -> resource, of those that ask for one."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a callable without one, such as some of C
        return {}
    return {
        name: parameter.default.tq_name or name
        for name, parameter in parameters.items()
        if isinstance(parameter.default, Asked)
    }
