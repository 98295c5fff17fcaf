"""Names that the cluster knows: what the shell completes, and what is near to a name that nobody has.

A queue needs no birth: it may be paused, set or served before its first task. So a name that nobody knows is no error, but
it is said, with the nearest one that somebody knows: mostly it is a slip.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import typer

from tq import limits
from tq.cli.base import World
from tq.errors import TqError

COMPLETION_S = 0.4
"""So long a request for the shell's completion may take; it makes two at most, and a person waits for them."""
TASKS_LOOKED_AT = 200
"""The newest: their types are offered beside those that workers have."""
DEFAULT_QUEUE = "default"

Names = Iterable[str]


# ---- who knows what ------------------------------------------------------------------------------------


def queues(client: Any) -> Names:
    """Those with tasks or settings, and those that workers serve."""
    yield from (queue.name for queue in client.queues())
    yield from (name for worker in client.workers() for name in worker.queues)


def types(client: Any) -> Names:
    """Those that workers have handlers for, and those of the newest tasks."""
    yield from (name for worker in client.workers() for name in worker.types)
    yield from (info.type for info in client.list(limit=TASKS_LOOKED_AT).tasks)


def workers(client: Any) -> Names:
    return (worker.name for worker in client.workers())


def nodes(client: Any) -> Names:
    return (node["id"] for node in client.cluster_status()["nodes"])


# ---- a name that nobody has ----------------------------------------------------------------------------


def doubt(client: Any, queue: str) -> str:
    """What to say of a queue without tasks, settings and workers; nothing where somebody knows it."""
    known = {DEFAULT_QUEUE}
    for name in queues(client):
        if name == queue:
            return ""
        known.add(name)
    if queue in known:
        return ""
    near = difflib.get_close_matches(queue, sorted(known), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"queue {queue!r} has no tasks, no settings and no worker{hint}"


def near_work(client: Any, type: str, queue: str) -> str:
    """What connected workers do that is near to a task which none of them takes; empty if nothing is."""
    found = list(client.workers())
    from_queues = sorted({name for worker in found if type in worker.types for name in worker.queues})
    if from_queues:
        return f"workers that run {type} take it from queue {', '.join(from_queues)}"
    their_types = sorted({name for worker in found for name in worker.types})
    near = [name for name in their_types if name.endswith(f".{type}")] or difflib.get_close_matches(
        type, their_types, 1
    )
    return f"workers run {' and '.join(near)}: did you mean that?" if near else ""


def check_name(option: str, text: str) -> None:
    """Of a queue or a type that may be new. Raises BadParameter, naming the option."""
    if not 1 <= len(text) <= limits.NAME_CHARS_MAX:
        raise typer.BadParameter(f"{text[:20]!r}: write 1 to {limits.NAME_CHARS_MAX} characters", param_hint=option)


# ---- completion ----------------------------------------------------------------------------------------


def completes(names: Callable[[Any], Names], *, is_list: bool = False) -> Callable[[typer.Context, str], list[str]]:
    """For ``autocompletion``: the names that begin so; none, and no word, if no broker answers soon.

    is_list: they may follow each other, with commas.
    """

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        head, comma, begun = incomplete.rpartition(",") if is_list else ("", "", incomplete)
        here = context.find_root().obj or World()
        try:
            with here.client(_brokers(context), COMPLETION_S) as client:
                found = sorted(set(names(client)))
        except TqError:
            return []
        given = set(head.split(","))
        return [
            head + comma + name for name in found if name.startswith(begun) and name not in given and _is_word(name)
        ]

    return complete


def _brokers(context: typer.Context) -> str | None:
    """As they are typed on this line, or of the environment."""
    found = context.params.get("brokers")
    return None if found is None else str(found)


def _is_word(name: str) -> bool:
    """A shell would take others apart."""
    return name.isprintable() and not any(mark in name for mark in " \"'`$\\;&|<>()*?!#~")


def choice(*names: str) -> Callable[[str], list[str]]:
    """For ``autocompletion``: of a few words that are known by themselves."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


LOG_LEVELS = choice("debug", "info", "warning", "error")
LOG_FORMATS = choice("text", "json")


def files(incomplete: str) -> list[str]:
    """For ``autocompletion``: nothing of ours, and then shells complete names of files."""
    return []
