"""A function that can be submitted, with its signature and its types as they were.

A ``Task`` is called as the function was, here and now. ``submit`` takes the same arguments and gives a handle of the same
result; ``options`` gives the same again with other options. What a submit costs beside the client is binding the
arguments by name, JSON, and a record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from tq.app.definition import Definition
from tq.app.handle import TaskHandle
from tq.app.options import SUBMITTED, Options, check_names, fields, merged
from tq.client.ids import TaskId, to_bytes
from tq.client.models import Submitted, TaskInfo
from tq.client.specs import Mould, TaskSpec, encode
from tq.errors import BatchRefused, InvalidRequest, PayloadTooLarge
from tq.spec import parse

if TYPE_CHECKING:
    from tq.app.app import App

P = ParamSpec("P")
R = TypeVar("R")
Call = tuple[Any, ...] | Mapping[str, Any]
"""Arguments of one call: a tuple of those by place, or a mapping of those by name."""


class BoundTask(Generic[P, R]):
    """A task with options for its next submits. ``R`` is what the function returns, of an ``async def`` what it yields in the end."""

    def __init__(self, app: App, definition: Definition, options: Mapping[str, Any]) -> None:
        self.app = app
        self.definition = definition
        self._options = options
        self._fields = fields(options)
        self._unique = options.get("unique")
        self._mould: tuple[str, Mould] | None = None  # of submit_many, and for which content type

    @property
    def name(self) -> str:
        """The type of its tasks."""
        return self.definition.name

    @property
    def queue(self) -> str:
        """Where its submits go."""
        return str(self._options.get("queue") or "default")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def options(self, **changes: Unpack[Options]) -> BoundTask[P, R]:
        """The same task with these options, for one submit or many; see ``Options``.

        Raises:
            TypeError: there is no such option. InvalidRequest: one has a value that it cannot have.
        """
        check_names(f"{self.name}.options()", changes, SUBMITTED)
        return BoundTask(self.app, self.definition, merged(self._options, changes))

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Submit one call.

        Raises:
            InvalidRequest: the arguments do not fit the function, or one cannot be carried; it is named.
            PayloadTooLarge, Conflict, QueueFull: the broker refuses the task.
            Backpressure, BrokerUnavailable: about the broker.
        """
        return self._handle(self.app.client.submit_spec(self.spec(*args, **kwargs)))

    def submit_many(self, calls: Iterable[Call], *, atomic: bool = False) -> list[TaskHandle[R]]:
        """Submit many calls, 1,000 in a request; a handle for each, in order.

        Args:
            calls: tuples of arguments by place, or mappings of arguments by name.
            atomic: all or none, at most 1,000.

        Raises:
            InvalidRequest: one of them does not fit the function; it is named, and nothing was submitted.
            BatchRefused: the broker refused some. ``items`` has the handles of all, in order, each with ``outcome`` and
                ``error``; unless atomic, those without error are submitted.
            Backpressure, BrokerUnavailable: the one request was refused, or not answered.
        """
        specs = self._specs(calls)
        return self._handles(self.app.client.submit_many(specs, atomic=atomic))

    async def asubmit(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """``submit`` from a coroutine, on trio or asyncio: the loop is not blocked. Best within ``async with app:``."""
        return self._handle(await self.app.ask("submit_spec", self.spec(*args, **kwargs)))

    async def asubmit_many(self, calls: Iterable[Call], *, atomic: bool = False) -> list[TaskHandle[R]]:
        """``submit_many`` from a coroutine."""
        specs = self._specs(calls)
        return self._handles(await self.app.ask("submit_many", specs, atomic=atomic))

    def spec(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskSpec:
        """What ``submit`` would send: for a batch of several tasks, ``app.client.submit_many([...])``."""
        return self._spec(args, kwargs)

    def handle(self, id: TaskId) -> TaskHandle[R]:
        """Of a task that was submitted before. Nothing is asked; InvalidRequest if it is no id."""
        return self._handle(Submitted(to_bytes("id", id), "", None))

    def check(self) -> None:
        """Raises InvalidRequest for a name or options that a broker would refuse, whatever the arguments are."""
        unique = None if callable(self._unique) else self._unique
        try:
            parse(encode(TaskSpec(self.definition.name, unique=unique, **self._fields), bytes(16)))
        except (InvalidRequest, PayloadTooLarge) as error:
            raise InvalidRequest(f"task {self.name}: {error.message}", detail=error.detail) from error

    # ---- inside --------------------------------------------------------------------------------------

    def _spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskSpec:
        content_type, payload = self.definition.encode_call(args, kwargs)
        if self._unique is None:
            return TaskSpec(self.definition.name, payload, content_type=content_type, **self._fields)
        unique = self._unique(*args, **kwargs) if callable(self._unique) else self._unique
        return TaskSpec(self.definition.name, payload, content_type=content_type, unique=unique, **self._fields)

    def _spec_of_many(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskSpec:
        """As ``_spec``. What the calls have in common is put into bytes once."""
        if self._unique is not None:
            return self._spec(args, kwargs)
        content_type, payload = self.definition.encode_call(args, kwargs)
        known = self._mould
        if known is None or known[0] != content_type:
            try:
                mould = Mould(TaskSpec(self.definition.name, content_type=content_type, **self._fields))
            except InvalidRequest:  # an option is wrong: each call is told so by the client
                return self._spec(args, kwargs)
            known = self._mould = (content_type, mould)
        return known[1].spec(payload)

    def _specs(self, calls: Iterable[Call]) -> list[TaskSpec]:
        specs = []
        for number, call in enumerate(calls):
            try:
                if isinstance(call, Mapping):
                    specs.append(self._spec_of_many((), dict(call)))
                elif isinstance(call, (tuple, list)):
                    specs.append(self._spec_of_many(tuple(call), {}))
                else:
                    raise InvalidRequest.of("a call", call, "must be a tuple or a mapping of arguments")
            except InvalidRequest as error:
                detail = {**error.detail, "item": number}
                raise InvalidRequest(f"call {number} of the batch: {error.message}", detail=detail) from error
        return specs

    def _handle(self, submitted: Submitted) -> TaskHandle[R]:
        return TaskHandle(self.app, submitted, self._decode)

    def _handles(self, submitted: list[Submitted]) -> list[TaskHandle[R]]:
        handles = [self._handle(one) for one in submitted]
        refused = [number for number, one in enumerate(submitted) if one.error is not None]
        if refused:
            first = submitted[refused[0]]
            named = ", ".join(map(str, refused[:10])) + (", ..." if len(refused) > 10 else "")
            why = "" if first.error is None else f": {first.error.message}"
            text = f"{len(refused)} of {len(handles)} calls were not taken ({named}); call {refused[0]} {first.outcome}{why}"
            raise BatchRefused(text, items=handles)
        return handles

    def _decode(self, info: TaskInfo) -> Any:
        return self.definition.decode_result(info.result or b"", info.result_content_type or "")


class Task(BoundTask[P, R]):
    """Of a ``def``: calling it runs the function here."""

    def __init__(self, app: App, definition: Definition, options: Mapping[str, Any]) -> None:
        super().__init__(app, definition, options)
        functools.update_wrapper(self, definition.function)
        self.function: Callable[P, R] = definition.function

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


class AsyncTask(BoundTask[P, R]):
    """Of an ``async def``: awaiting a call runs the function here."""

    def __init__(self, app: App, definition: Definition, options: Mapping[str, Any]) -> None:
        super().__init__(app, definition, options)
        functools.update_wrapper(self, definition.function)
        self.function: Callable[P, Coroutine[Any, Any, R]] = definition.function

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self.function(*args, **kwargs)
