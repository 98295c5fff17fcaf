"""Handlers by task type: what a module offers to ``tq worker MODULE``.

    from tq.worker.handlers import Handlers

    HANDLERS = Handlers()

    @HANDLERS.handler("thumbnail", executor="process")
    def thumbnail(payload, ctx): ...

A handler gets the payload and a Context, and returns bytes or None. ``def`` runs in a thread of the worker's pool,
or in a process of its own; ``async def`` runs on the worker's event loop (trio) and must not block it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import attrs

from tq import limits
from tq.errors import ConfigError
from tq.worker.context import Context

Executor = Literal["thread", "process", "async"]
Function = Callable[[bytes, Context], Any]
F = TypeVar("F", bound=Function)

NAMES_LOOKED_FOR = ("HANDLERS", "app")


@attrs.frozen
class Handler:
    """content_type: of what the function returns."""

    type: str
    function: Function
    executor: Executor
    content_type: str


class Handlers:
    """A table of handlers. The worker claims the types that are in it, so all others stay queued."""

    def __init__(self) -> None:
        self._by_type: dict[str, Handler] = {}

    def register(
        self,
        type: str,
        function: Function,
        *,
        executor: Executor | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Add one. executor: by default "async" for ``async def``, else "thread".

        Raises:
            ConfigError: the type is taken or no name, or the executor does not fit the function.
        """
        if not 0 < len(type) <= limits.NAME_CHARS_MAX:
            raise ConfigError(f"task type {type!r}: must have 1 to {limits.NAME_CHARS_MAX} characters")
        if type in self._by_type:
            raise ConfigError(f"task type {type!r} has two handlers; a type has one")
        if not callable(function):
            raise ConfigError(f"the handler of {type!r} is {function!r}, which cannot be called")
        is_async = inspect.iscoroutinefunction(function)
        if executor is None:
            executor = "async" if is_async else "thread"
        if executor not in ("thread", "process", "async"):
            raise ConfigError(f'the handler of {type!r} has executor={executor!r}: use "thread", "process" or "async"')
        if is_async != (executor == "async"):
            fits = '"async"' if is_async else '"thread" or "process"'
            kind = "async def" if is_async else "def"
            raise ConfigError(f"the handler of {type!r} is {kind}: its executor is {fits}, not {executor!r}")
        self._by_type[type] = Handler(type, function, executor, content_type)

    def handler(
        self, type: str, *, executor: Executor | None = None, content_type: str = "application/octet-stream"
    ) -> Callable[[F], F]:
        """``register`` as a decorator; the function stays as it is."""

        def add(function: F) -> F:
            self.register(type, function, executor=executor, content_type=content_type)
            return function

        return add

    @property
    def types(self) -> list[str]:
        return sorted(self._by_type)

    def get(self, type: str) -> Handler | None:
        return self._by_type.get(type)

    def __len__(self) -> int:
        return len(self._by_type)

    def __iter__(self) -> Any:
        return iter(self._by_type.values())


def load(target: str) -> Handlers:
    """Import ``MODULE`` or ``MODULE:NAME`` and take its handlers. The present directory is searched first.

    Raises:
        ConfigError: no such module or name, or it holds no handlers. What the module itself raises passes through.
    """
    name, _, attribute = target.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # the module is there; something it imports is not
        raise ConfigError(f"there is no module {name!r} (looked in {here} and where Python looks)") from error
    wanted = (attribute,) if attribute else NAMES_LOOKED_FOR
    for candidate in wanted:
        found = getattr(module, candidate, None)
        if isinstance(found, Handlers):
            if not len(found):
                raise ConfigError(f"{name}.{candidate} has no handlers")
            return found
    raise ConfigError(f"module {name!r} has no {' or '.join(wanted)} that is a tq.worker.handlers.Handlers")
