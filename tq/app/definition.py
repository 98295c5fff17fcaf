"""A task as it was declared: one function, its name, and how its calls and results become bytes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from tq.app.arguments import Parameters
from tq.app.codecs import Codec, Hints, JsonCodec
from tq.app.hints import hints_of
from tq.errors import ConfigError, InvalidRequest
from tq.verdicts import Fatal
from tq.worker.asked import asked
from tq.worker.context import Context
from tq.worker.outcomes import Result


class BadArguments(Fatal):
    """The task cannot be run: its payload does not fit the function. No other attempt will change that."""


class BadResult(Fatal):
    """The function returned what cannot be carried."""


_NOTHING: Final = (None, type(None), Any)
"""Types of results for which None is no bytes at all."""


class Definition:
    """name: the type of its tasks. function: as the user wrote it."""

    def __init__(self, name: str, function: Callable[..., Any], codec: Codec) -> None:
        self.name = name
        self.function = function
        self.codec = codec
        self.is_async = inspect.iscoroutinefunction(function)
        self.asks = asked(function)
        self.parameters = Parameters(function, name, self.asks)

    @cached_property
    def _hints(self) -> tuple[Hints, Any]:
        return hints_of(self.function, self.asks)

    @property
    def hints(self) -> Hints:
        return self._hints[0]

    @property
    def result_hint(self) -> Any:
        return self._hints[1]

    def check(self) -> None:
        """Raises ConfigError if a call or a result could never be carried; a worker begins with this."""
        if not isinstance(self.codec, JsonCodec):
            return
        try:
            for name in self.parameters.required:
                self.codec.check(self.hints[name], f"argument {name!r}")
            self.codec.check(self.result_hint, "the result")
        except InvalidRequest as error:
            raise ConfigError(f"task {self.name}: {error.message}") from error

    # ---- where it is submitted -----------------------------------------------------------------------

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, bytes]:
        """(content type, payload). Raises InvalidRequest, naming the argument."""
        bound = self.parameters.bind(args, kwargs)
        if not bound and len(self.hints) == 1:
            self._fill_in(bound)
        return self.codec.encode(bound, self.hints)

    def _fill_in(self, bound: dict[str, Any]) -> None:
        """Bytes are carried bare, so a payload cannot say that they were left out."""
        name, hint = next(iter(self.hints.items()))
        if hint is bytes:
            bound[name] = self.parameters.defaults[name]

    def decode_result(self, data: bytes, content_type: str) -> Any:
        """Raises InvalidRequest if it is not what the function declares."""
        if not data and not content_type:
            return None
        return self.codec.decode(data, content_type, self.result_hint)

    # ---- where it runs -------------------------------------------------------------------------------

    def handler(self) -> Callable[[bytes, Context], Any]:
        """What a worker calls: with a payload, for a result in bytes."""
        if self.is_async:
            return self._arun
        return self._run

    def _run(self, payload: bytes, context: Context, **resources: Any) -> Any:
        args, kwargs = self._decode_call(payload, context.content_type)
        return self._encode_result(self.function(*args, **kwargs, **resources))

    async def _arun(self, payload: bytes, context: Context, **resources: Any) -> Any:
        args, kwargs = self._decode_call(payload, context.content_type)
        return self._encode_result(await self.function(*args, **kwargs, **resources))

    def _decode_call(self, payload: bytes, content_type: str) -> tuple[list[Any], dict[str, Any]]:
        try:
            return self.parameters.unbind(self.codec.decode(payload, content_type, self.hints))
        except InvalidRequest as error:
            raise BadArguments(error.message) from error

    def _encode_result(self, value: Any) -> Any:
        if value is None and self.result_hint in _NOTHING:
            return None
        try:
            return Result(*self.codec.encode(value, self.result_hint))
        except InvalidRequest as error:
            raise BadResult(f"{self.name}() ran, but {error.message}") from error
