"""Middleware of workers: what is done before, after and around each attempt, for all handlers of a worker.

    class Timing(Middleware):
        def around(self, ctx, call_next):
            begun = time.monotonic()
            try:
                return call_next()
            finally:
                observe(ctx.type, time.monotonic() - begun)

        async def around_async(self, ctx, call_next): ...      # the same for async def handlers

    Handlers(middleware=[Timing(), Audit()])                   # or App(worker_middleware=[...])

Theory. Each one is a layer round the handler: ``before``, ``around`` up to ``call_next()``, the next layer or at last
the handler, the rest of ``around``, ``after``. The first of the list is the outermost. All run where the handler runs:
in its thread, its child process, or on its loop, which ``before`` and ``after`` must not block. ``current()`` works in
them. The layers are put round the functions once, at the start; a worker without middleware calls the bare handlers.

- What ``before`` raises fails the attempt, and the layers and the handler below do not run. What ``after`` raises fails
  it too, unless it has failed already: then that error stands, and the second is a note in its traceback. Both are named
  (``MiddlewareFailed``). Verdicts (``Snooze``, ``RetryAfter``, ``Fatal``) mean what they say wherever they are raised.
- ``around`` may change the result, catch and raise. What it raises is the handler's error for all who look.
- ``after`` of a layer runs if its ``before`` did not fail, whatever came after.

Rejected: one ``around`` for both kinds (half of its calls would have to be awaited); silence where a middleware has
``around`` and not ``around_async`` and a handler is ``async def`` (it would be left out and nobody told).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from tq.errors import ConfigError
from tq.verdicts import Stopped, Verdict
from tq.worker.context import Context
from tq.worker.handlers import Handlers

Function = Callable[[bytes, Context], Any]


@attrs.frozen
class Outcome:
    """How an attempt ended, as a layer sees it: what the one below returned, or raised.

    error: a verdict too, and what stops a handler (``Stopped``, the loop's own cancel).
    """

    result: Any = None
    error: BaseException | None = None


class Middleware:
    """Derive from it, and write those methods that are needed."""

    def before(self, ctx: Context) -> None:
        """The attempt begins."""

    def after(self, ctx: Context, outcome: Outcome) -> None:
        """It has ended."""

    def around(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        """Run ``call_next()`` and return what it returned, or something else. For ``def`` handlers."""
        return call_next()

    async def around_async(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """The same for ``async def`` handlers: ``await call_next()``."""
        return await call_next()


class MiddlewareFailed(Exception):
    """A middleware raised; its own error is the cause."""


def check(layers: Sequence[Any], handlers: Handlers) -> None:
    """Whether they fit the handlers. Raises ConfigError."""
    for layer in layers:
        if not isinstance(layer, Middleware):
            raise ConfigError(f"worker middleware {layer!r}: give an object of a class derived from tq.Middleware")
        name = type(layer).__name__
        is_plain, is_async = _has(layer, "around"), _has(layer, "around_async")
        for handler in handlers if is_plain != is_async else ():
            if handler.is_async != is_async:
                has, lacks = ("around_async", "around") if is_async else ("around", "around_async")
                kind = "async def" if handler.is_async else "def"
                raise ConfigError(
                    f"middleware {name} has {has}(), and the handler of {handler.type!r} is {kind}: write {lacks}() too"
                )


def dressed(handlers: Handlers, layers: Sequence[Middleware], values: Mapping[str, Any], *, child: bool) -> Handlers:
    """The handlers with what they ask for, within the layers; of those alone that run in this process.

    values: resources by name. child: this process is a child, where handlers of executor "process" run.
    """
    found = Handlers()
    for handler in handlers:
        function = handler.function
        if (handler.executor == "process") == child:
            if handler.asks:
                function = partial(function, **{name: values[resource] for name, resource in handler.asks.items()})
            function = wrapped(function, layers, is_async=handler.is_async)
        found.add(attrs.evolve(handler, function=function))
    return found


def wrapped(function: Function, layers: Sequence[Middleware], *, is_async: bool) -> Function:
    """The handler within its layers."""
    for layer in reversed(layers):
        function = _async_layer(layer, function) if is_async else _layer(layer, function)
    return function


def _layer(layer: Middleware, inner: Function) -> Function:
    before, after = _of(layer, "before"), _of(layer, "after")
    if _has(layer, "around"):
        inner = _around(layer.around, inner)
    if before is None and after is None:
        return inner

    def run(payload: bytes, ctx: Context) -> Any:
        if before is not None:
            _before(before, ctx)
        try:
            result = inner(payload, ctx)
        except BaseException as error:
            _after(after, ctx, Outcome(error=error))
            raise
        _after(after, ctx, Outcome(result))
        return result

    return run


def _async_layer(layer: Middleware, inner: Function) -> Function:
    before, after = _of(layer, "before"), _of(layer, "after")
    if _has(layer, "around_async"):
        inner = _around_async(layer.around_async, inner)
    if before is None and after is None:
        return inner

    async def run(payload: bytes, ctx: Context) -> Any:
        if before is not None:
            _before(before, ctx)
        try:
            result = await inner(payload, ctx)
        except BaseException as error:
            _after(after, ctx, Outcome(error=error))
            raise
        _after(after, ctx, Outcome(result))
        return result

    return run


def _around(around: Callable[[Context, Callable[[], Any]], Any], inner: Function) -> Function:
    def run(payload: bytes, ctx: Context) -> Any:
        return around(ctx, lambda: inner(payload, ctx))

    return run


def _around_async(
    around: Callable[[Context, Callable[[], Awaitable[Any]]], Awaitable[Any]], inner: Function
) -> Function:
    async def run(payload: bytes, ctx: Context) -> Any:
        return await around(ctx, lambda: inner(payload, ctx))

    return run


def _before(before: Callable[[Context], None], ctx: Context) -> None:
    try:
        before(ctx)
    except (Verdict, Stopped):
        raise
    except Exception as error:
        raise _failed(before, error) from error


def _after(after: Callable[[Context, Outcome], None] | None, ctx: Context, outcome: Outcome) -> None:
    if after is None:
        return
    try:
        after(ctx, outcome)
    except Exception as error:
        if outcome.error is not None:
            outcome.error.add_note(f"Then {_failed(after, error)}")
        elif isinstance(error, Verdict):
            raise
        else:
            raise _failed(after, error) from error


def _failed(method: Any, error: Exception) -> MiddlewareFailed:
    return MiddlewareFailed(
        f"{type(method.__self__).__name__}.{method.__name__}() raised {type(error).__name__}: {error}"
    )


def _has(layer: Middleware, name: str) -> bool:
    return getattr(type(layer), name) is not getattr(Middleware, name)


def _of(layer: Middleware, name: str) -> Any:
    """The method, or None where the class did not write one."""
    return getattr(layer, name) if _has(layer, name) else None
