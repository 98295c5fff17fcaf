"""Handlers by task type: what a module offers to ``tq worker MODULE``.

    from tq.worker.handlers import Handlers

    HANDLERS = Handlers()

    @HANDLERS.handler("thumbnail", executor="process")
    def thumbnail(payload, ctx): ...

A handler gets the payload and a Context, and returns bytes or None. ``def`` runs in a thread of the worker's pool,
or in a process of its own; ``async def`` runs on the worker's event loop (trio) and must not block it, or with
``executor="asyncio"`` on an asyncio loop, which has a thread to itself.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

import attrs

from tq import limits
from tq.errors import ConfigError
from tq.worker.asked import asked

Executor = Literal["thread", "process", "async", "asyncio"]
Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

EXECUTORS: tuple[str, ...] = get_args(Executor)
EXECUTORS_ASYNC = ("async", "asyncio")
NAMES_LOOKED_FOR = ("app", "HANDLERS")


@attrs.frozen
class Handler:
    """function: called with payload, context and, by name, with the resources it asks for.
    content_type: of what it returns. gives_up: whether what it raised is permanent, so that no other attempt is made.
    asks: parameter -> resource.
    """

    type: str
    function: Function
    executor: Executor
    content_type: str
    gives_up: Callable[[BaseException], bool] | None = None
    asks: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def is_async(self) -> bool:
        return self.executor in EXECUTORS_ASYNC


class Handlers:
    """A table of handlers. The worker claims the types that are in it, so all others stay queued."""

    def __init__(
        self, *, middleware: Sequence[Any] = (), resources: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        """middleware: round each handler, the outermost first (see ``middleware``).
        resources: name -> what makes it, for the handlers that ask for it (see ``resources``)."""
        self.worker_middleware = list(middleware)
        self.resources = dict(resources or {})
        self._by_type: dict[str, Handler] = {}

    def register(
        self,
        type: str,
        function: Function,
        *,
        executor: Executor | None = None,
        content_type: str = "application/octet-stream",
        gives_up: Callable[[BaseException], bool] | None = None,
        asks: Mapping[str, str] | None = None,
    ) -> None:
        """Add one.

        executor: by default "async" for ``async def``, else "thread". gives_up: called with what the handler raised;
        True means that another attempt cannot succeed. asks: parameter -> resource; by default what the signature says.

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
        if executor not in EXECUTORS:
            one_of = _either(EXECUTORS)
            raise ConfigError(f"the handler of {type!r} has executor={executor!r}: use {one_of}")
        if is_async != (executor in EXECUTORS_ASYNC):
            fits = _either(name for name in EXECUTORS if (name in EXECUTORS_ASYNC) == is_async)
            kind = "async def" if is_async else "def"
            raise ConfigError(f"the handler of {type!r} is {kind}: its executor is {fits}, not {executor!r}")
        asks = asked(function) if asks is None else dict(asks)
        self.add(Handler(type, function, executor, content_type, gives_up, asks))

    def add(self, handler: Handler) -> None:
        """One that was judged already."""
        self._by_type[handler.type] = handler

    def handler(
        self,
        type: str,
        *,
        executor: Executor | None = None,
        content_type: str = "application/octet-stream",
        gives_up: Callable[[BaseException], bool] | None = None,
    ) -> Callable[[F], F]:
        """``register`` as a decorator; the function stays as it is."""

        def add(function: F) -> F:
            self.register(type, function, executor=executor, content_type=content_type, gives_up=gives_up)
            return function

        return add

    def resource(self, name: str) -> Callable[[F], F]:
        """As a decorator of what makes a resource. Raises ConfigError if the name is taken."""
        return adding(self.resources, name)

    @property
    def types(self) -> list[str]:
        return sorted(self._by_type)

    def get(self, type: str) -> Handler | None:
        return self._by_type.get(type)

    def __len__(self) -> int:
        return len(self._by_type)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._by_type.values())


@attrs.frozen
class Loaded:
    """What a worker finds in a module. app: an object round the handlers, which is told where the worker's brokers are."""

    handlers: Handlers
    middleware: Sequence[Any] = ()
    resources: Mapping[str, Callable[..., Any]] = attrs.field(factory=dict)
    app: Any = None


def load(target: str) -> Loaded:
    """Import ``MODULE`` or ``MODULE:NAME`` and take its handlers. The present directory is searched first.

    The name stands for a ``Handlers``, or for an object that has one as ``.handlers`` (an ``App``). Its attributes
    ``worker_middleware`` and ``resources`` are taken along.

    Raises:
        ConfigError: no such module or name, or it holds no handlers. What the module itself raises passes through.
    """
    name, _, attribute = target.partition(":")
    if name.endswith(".py") or "/" in name or name.startswith("."):
        meant = name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{name!r} is no name of a module: write it as in an import, {meant!r}")
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
        handlers = found if isinstance(found, Handlers) else getattr(found, "handlers", None)
        if isinstance(handlers, Handlers):
            if not len(handlers):
                raise ConfigError(f"{name}.{candidate} has no handlers")
            app = found if hasattr(found, "brokers") else None
            return Loaded(handlers, getattr(found, "worker_middleware", ()), getattr(found, "resources", {}), app)
    others = [other for other, value in vars(module).items() if _may_have_handlers(value)]
    hint = f"; did you mean {' or '.join(f'{name}:{other}' for other in others)}?" if others else ""
    raise ConfigError(
        f"module {name!r} has no {' or '.join(wanted)} that is a tq.App or a tq.worker.handlers.Handlers{hint}"
    )


def _may_have_handlers(value: object) -> bool:
    """Without asking the value itself: it may be anything."""
    return isinstance(value, Handlers) or isinstance(getattr(type(value), "handlers", None), (Handlers, property))


def adding(resources: dict[str, Callable[..., Any]], name: str) -> Callable[[F], F]:
    """A decorator that puts a factory there."""
    if name in resources:
        raise ConfigError(f"resource {name!r} is made by two functions; a resource has one")

    def add(factory: F) -> F:
        resources[name] = factory
        return factory

    return add


def _either(names: Iterable[str]) -> str:
    """'"a", "b" or "c"'"""
    *first, last = (f'"{name}"' for name in names)
    return f"{', '.join(first)} or {last}" if first else last
