"""Which tasks a list, or a retry or purge of many, means: the keyword arguments, and the map that goes over the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from tq.client.ids import to_text
from tq.client.specs import Moment, absolute_ms, to_ms
from tq.errors import InvalidRequest
from tq.world import Clock


class Filters(TypedDict, total=False):
    """All that is given must be met; None is not given.

    state: one, or several of them. Also groups: ``queued`` (waiting, scheduled, pending), ``live`` (those and running), ``ended``,
        ``failed`` (ended, but not completed).
    type, queue, tag: of the task.
    id_prefix: the first digits of its id, with or without dashes.
    worker: name, or id of the session, of the worker that runs it or ran it last. (An id is known while the session is
        open, and of completed tasks.)
    error: class of its last error, ``ValueError`` or ``shop.errors.OutOfStock``; the module may be left out.
    created_since, created_until, ended_since, ended_until: epoch seconds or an aware datetime; since is included, until
        is not. With a time of the end only ended tasks are meant.
    older_than: seconds since the end, at least.
    """

    state: str | Iterable[str] | None
    type: str | None
    queue: str | None
    tag: str | None
    id_prefix: str | None
    worker: str | None
    error: str | type[BaseException] | None
    created_since: Moment | None
    created_until: Moment | None
    ended_since: Moment | None
    ended_until: Moment | None
    older_than: float | None


_AS_IT_IS = ("type", "queue", "tag", "id_prefix")
_MOMENTS = {
    "created_since": "created_since_ms",
    "created_until": "created_before_ms",
    "ended_since": "ended_since_ms",
    "ended_until": "ended_before_ms",
}


def filter_of(clock: Clock, given: Filters) -> dict[str, Any]:
    """The filter map of LIST, RETRY and PURGE. Raises InvalidRequest, naming the field; values are the broker's to judge."""
    for name in given:
        if name not in Filters.__annotations__:
            raise InvalidRequest.of("filter", name, f"must be of {', '.join(Filters.__annotations__)}")
    values: dict[str, Any] = {name: given.get(name) for name in _AS_IT_IS}
    state, worker, error = given.get("state"), given.get("worker"), given.get("error")
    values["state"] = state if state is None or isinstance(state, str) else list(state)
    values["worker"] = to_text(worker) if isinstance(worker, bytes) else worker
    if isinstance(error, type):
        error = error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"
    values["error"] = error
    for name, field in _MOMENTS.items():
        moment: Moment | None = given.get(name)  # type: ignore[assignment]
        if moment is not None:
            values[field] = absolute_ms(name, moment)
    older_than = given.get("older_than")
    if older_than is not None:
        before_ms = clock.wall_ms() - to_ms("older_than", older_than)
        values["ended_before_ms"] = min(before_ms, values.get("ended_before_ms", before_ms))
    return {name: value for name, value in values.items() if value is not None}
