"""What may be said of a task, at its declaration and at each submit."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypedDict

from tq.app.codecs import Codec
from tq.client.ids import TaskId
from tq.client.specs import Retry, Unique
from tq.errors import ConfigError, InvalidRequest

UniqueKey = Unique | str | Callable[..., Unique | str]
"""A key, or what makes one of the arguments of the call."""
ErrorTest = type[BaseException] | Callable[[BaseException], bool]


class Options(TypedDict, total=False):
    """Of a submit; those of the declaration hold where nothing is said. Times are seconds. None: the broker's default.

    Attributes:
        queue: where the task waits.
        priority: 0 (last) to 255 (first).
        retry: when failed attempts run again.
        timeout: seconds one attempt may take.
        deadline: seconds from the submit until it must have ended, all attempts together.
        expires_in: given up, state ``expired``, if it has not started by then.
        result_ttl: seconds the result is kept.
        tags: texts to find it by.
        headers: texts for the handler; those of a submit are added to those of the declaration.
        unique: at most one live task has this key: a text, a ``Unique``, or a function of the call's arguments that
            returns one.
        delay: seconds before it may start.
        not_before: aware datetime or epoch seconds before which it does not start.
        idempotency_key: the same key again answers with the first task.
        id: a UUID, made by the client unless given.
    """

    queue: str
    priority: int
    retry: Retry | None
    timeout: float | None
    deadline: float | None
    expires_in: float | None
    result_ttl: float | None
    tags: Iterable[str]
    headers: Mapping[str, str] | None
    unique: UniqueKey | None
    delay: float | None
    not_before: datetime.datetime | float | None
    idempotency_key: str | None
    id: TaskId | None


class TaskOptions(TypedDict, total=False):
    """Of a declaration: those of ``Options`` that fit every submit, and how the function runs.

    Attributes:
        name: the type of its tasks; ``module.function`` unless given.
        executor: of a ``def``: ``"thread"`` (the default) or ``"process"``.
        runtime: of an ``async def``: ``"trio"`` (the default) or ``"asyncio"``.
        retry_on: exceptions, or tests of one; every other one is permanent.
        give_up_on: exceptions, or tests of one, that are permanent whatever ``retry_on`` says.
        codec: how arguments and results become bytes; the app's unless given.
    """

    queue: str
    priority: int
    retry: Retry | None
    timeout: float | None
    deadline: float | None
    expires_in: float | None
    result_ttl: float | None
    tags: Iterable[str]
    headers: Mapping[str, str] | None
    unique: UniqueKey | None
    delay: float | None
    name: str | None
    executor: Literal["thread", "process"] | None
    runtime: Literal["trio", "asyncio"] | None
    retry_on: ErrorTest | Iterable[ErrorTest] | None
    give_up_on: ErrorTest | Iterable[ErrorTest] | None
    codec: Codec | None


RUNS: Final = frozenset({"name", "executor", "runtime", "retry_on", "give_up_on", "codec"})
"""Those of a declaration that say how it runs, and are not sent."""
DECLARED: Final = frozenset(TaskOptions.__annotations__)
SUBMITTED: Final = frozenset(Options.__annotations__)


def check_names(where: str, given: Iterable[str], known: frozenset[str]) -> None:
    """Raises TypeError, as a call with an unknown argument does, with the nearest name."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(known))}"
            raise TypeError(f"{where} has no option {name!r}{hint}")


def merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a submit: later ones win, headers are joined. None takes back what was said before."""
    both = {**before, **changes}
    if before.get("headers") and changes.get("headers"):
        both["headers"] = {**before["headers"], **changes["headers"]}
    if "not_before" in changes and "delay" not in changes:
        both.pop("delay", None)
    if "delay" in changes and "not_before" not in changes:
        both.pop("not_before", None)
    return both


def fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a TaskSpec, iterables made lasting. What is None has the broker's default and is left out."""
    found = {name: value for name, value in options.items() if value is not None and name != "unique"}
    tags = found.get("tags")
    if tags is not None:
        if isinstance(tags, str):
            raise InvalidRequest.of("tags", tags, "must be a list of texts, not one text")
        found["tags"] = tuple(tags)
    if found.get("headers") is not None:
        found["headers"] = dict(found["headers"])
    return found


def gives_up(retry_on: Any, give_up_on: Any) -> Callable[[BaseException], bool] | None:
    """Whether an exception is permanent; None if that is never asked. Raises ConfigError for what is no test."""
    retried, given_up = _tests("retry_on", retry_on), _tests("give_up_on", give_up_on)
    if retried is None and given_up is None:
        return None

    def is_permanent(error: BaseException) -> bool:
        if given_up is not None and _matches(given_up, error):
            return True
        return retried is not None and not _matches(retried, error)

    return is_permanent


def _tests(field: str, given: Any) -> tuple[Any, ...] | None:
    if given is None:
        return None
    tests = tuple(given) if isinstance(given, Iterable) and not isinstance(given, type) else (given,)
    for test in tests:
        if not callable(test) or (isinstance(test, type) and not issubclass(test, BaseException)):
            raise ConfigError(
                f"{field} has {test!r}: it takes exceptions, and functions of one that answer True or False"
            )
    return tests


def _matches(tests: tuple[Any, ...], error: BaseException) -> bool:
    return any(isinstance(error, test) if isinstance(test, type) else test(error) for test in tests)
