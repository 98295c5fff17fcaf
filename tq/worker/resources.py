"""Resources: what handlers need and a worker makes once, such as a pool of connections or a loaded model.

    @app.resource("db")                                       # or App(resources={"db": make_db}); Handlers has both too
    def make_db() -> Iterator[Pool]:
        pool = Pool("postgres://...")
        yield pool                                            # the handlers' time
        pool.close()

    @app.task
    def send(to: str, db: Pool = resource("db")) -> int: ...  # filled by the worker, no part of the payload

Theory. A parameter asks for a resource by its default, because this way a type checker lets callers leave it off,
and knows what the handler gets. What makes one is a function: it returns the thing, or yields it once and closes it
behind the ``yield`` (``def`` or ``async def``, bare or under ``contextlib``'s decorators). What it returns is never
entered as a context manager by itself: ``with`` means a transaction for one thing and its end for another.

Where one is made follows from who asks, once in each place:
- ``def`` is made on the worker's main thread, before its loop runs, for threads and coroutines alike; and in each child
  process for the handlers that run there. If only those ask for it, the worker itself does not make it.
- ``async def`` is made on the loop of the handlers that ask for it. They must all be on trio, or all on asyncio.
- What nobody asks for is made in the worker: it was registered for what it does.

They are made in their order and closed in reverse: ``def`` before ``async def``, which is closed first. All of them are there before the worker
opens a session. One that cannot be made stops the worker, which has claimed nothing.

Rejected: a marker in the annotation (callers would have to pass the argument, says the type checker); looking them up
by name in the context (no types); making them when they are first used (the failure comes after the claim, and again
with each task).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncContextDecorator,
    AsyncExitStack,
    ContextDecorator,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, Literal

import attrs
import structlog

from tq.errors import ConfigError, ResourceFailed
from tq.worker.handlers import Handler, Handlers

Factory = Callable[..., Any]
Place = Literal["process", "child", "trio", "asyncio"]

RUNTIMES: Final[dict[str, Place]] = {"async": "trio", "asyncio": "asyncio"}


# ---- where each is made --------------------------------------------------------------------------------


@attrs.frozen
class Plan:
    """Names by the place they are made in, in their order."""

    process: tuple[str, ...] = ()
    child: tuple[str, ...] = ()
    trio: tuple[str, ...] = ()
    asyncio: tuple[str, ...] = ()


def plan(handlers: Handlers, factories: Mapping[str, Factory]) -> Plan:
    """Decide where each is made.

    Raises:
        ConfigError: a handler asks for what there is not, or for what cannot be made where it runs.
    """
    by_name: dict[str, list[Handler]] = {name: [] for name in factories}
    for handler in handlers:
        for name in handler.asks.values():
            if name not in by_name:
                known = ", ".join(sorted(by_name)) or "none"
                raise ConfigError(f"the handler of {handler.type!r} asks for the resource {name!r}; there are: {known}")
            by_name[name].append(handler)
    places: dict[Place, list[str]] = {"process": [], "child": [], "trio": [], "asyncio": []}
    for name, factory in factories.items():
        if not callable(factory):
            raise ConfigError(f"resource {name!r} is {factory!r}: give the function that makes it")
        for place in _places(name, factory, by_name[name], handlers):
            places[place].append(name)
    return Plan(**{place: tuple(names) for place, names in places.items()})


def _places(name: str, factory: Factory, users: list[Handler], handlers: Handlers) -> Iterable[Place]:
    if not is_async(factory):
        are_in_child = {user.executor == "process" for user in users}
        if True in are_in_child:
            yield "child"
        if are_in_child != {True}:
            yield "process"
        return
    for user in users:
        if user.executor not in RUNTIMES:
            raise ConfigError(
                f"the handler of {user.type!r} is def, and asks for the resource {name!r}, which is made by async def: "
                "make the handler async def, or the resource def"
            )
    runtimes = (
        {user.executor for user in users} or {h.executor for h in handlers if h.executor in RUNTIMES} or {"async"}
    )
    if len(runtimes) > 1:
        raise ConfigError(
            f"resource {name!r} is made by async def, and handlers run on trio and on asyncio: it can be of one of them. "
            "Let the handlers of one alone ask for it, and make another one for the others"
        )
    yield RUNTIMES[runtimes.pop()]


def is_async(factory: Factory) -> bool:
    function = inspect.unwrap(factory)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


# ---- making and closing ----------------------------------------------------------------------------------


def make(names: Iterable[str], factories: Mapping[str, Factory], stack: ExitStack) -> dict[str, Any]:
    """Those of ``def``. What is to be closed is left on ``stack``, which raises nothing.

    Raises:
        ResourceFailed: one could not be made. Those before it are on the stack.
    """
    values = {}
    for name in names:
        factory = factories[name]
        try:
            made: Any = contextmanager(factory)() if inspect.isgeneratorfunction(factory) else factory()
            if isinstance(made, ContextDecorator) and isinstance(
                made, AbstractContextManager
            ):  # of contextlib.contextmanager
                values[name] = made.__enter__()
                stack.callback(_close, name, made.__exit__)
            else:
                values[name] = made
        except Exception as error:
            raise _failed(name, error) from error
    return values


async def make_async(names: Iterable[str], factories: Mapping[str, Factory], stack: AsyncExitStack) -> dict[str, Any]:
    """Those of ``async def``, in a task of their loop; ``stack`` must be closed in the same one. As ``make``."""
    values = {}
    for name in names:
        factory = factories[name]
        try:
            made: Any = asynccontextmanager(factory)() if inspect.isasyncgenfunction(factory) else factory()
            if isinstance(made, AsyncContextDecorator) and isinstance(made, AbstractAsyncContextManager):
                values[name] = await made.__aenter__()
                stack.push_async_callback(_close_async, name, made.__aexit__)
            else:
                values[name] = await made
        except Exception as error:
            raise _failed(name, error) from error
    return values


def _close(name: str, close: Callable[[None, None, None], object]) -> None:
    try:
        close(None, None, None)
    except Exception as error:  # noqa: BLE001 - users' code; the others are to be closed, too
        _not_closed(name, error)


async def _close_async(name: str, close: Callable[[None, None, None], Awaitable[object]]) -> None:
    try:
        await close(None, None, None)
    except Exception as error:  # noqa: BLE001 - users' code; the others are to be closed, too
        _not_closed(name, error)


def _failed(name: str, error: Exception) -> ResourceFailed:
    return ResourceFailed(f"resource {name!r} could not be made: {type(error).__name__}: {error}")


def _not_closed(name: str, error: Exception) -> None:
    structlog.get_logger("tq.worker").error("a resource could not be closed", resource=name, exc_info=error)
