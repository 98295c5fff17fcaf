"""Which tasks a command means: by id, or by a filter. The same options for ``list``, ``retry`` and ``purge``.

All that is given must be met; ``--state`` may be repeated, and names groups too. What is asked of the end of a task
(``--ended-since``, ``--older-than`` ...) is met by ended tasks only.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import attrs
import typer

from tq.cli import known, times
from tq.cli.base import World, say
from tq.errors import InvalidRequest, NotFound

T = TypeVar("T")

STATE_NAMES = ("waiting", "scheduled", "pending", "running", "completed", "cancelled", "expired", "skipped", "dead")
ID_DIGITS = 32
PREFIX_DIGITS_MIN = 4
PREFIX = re.compile(rf"[0-9a-f]{{{PREFIX_DIGITS_MIN},}}")
AMBIGUOUS_SHOWN_MAX = 5
GROUP_NAMES = ("queued", "live", "ended", "failed")


def _states(begun: str) -> list[str]:
    """For the shell's completion."""
    return [name for name in (*STATE_NAMES, *GROUP_NAMES) if name.startswith(begun)]


Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of tasks, or their first digits.")]
SomeIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Ids of tasks, or their first digits; or give a filter.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the task, or its first digits.")]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        "-s",
        metavar="STATE",
        help="Only in this state, or group of states: queued, live, ended, failed; may be repeated.",
        autocompletion=_states,
    ),
]
Type = Annotated[
    str | None, typer.Option("--type", "-t", help="Only of this type.", autocompletion=known.completes(known.types))
]
Queue = Annotated[
    str | None, typer.Option("--queue", "-q", help="Only of this queue.", autocompletion=known.completes(known.queues))
]
Tag = Annotated[str | None, typer.Option("--tag", help="Only with this tag.")]
IdPrefix = Annotated[str | None, typer.Option("--id", metavar="PREFIX", help="Only those whose id begins so.")]
Worker = Annotated[
    str | None,
    typer.Option(
        "--worker",
        metavar="NAME",
        help="Only those that this worker runs, or ran last.",
        autocompletion=known.completes(known.workers),
    ),
]
Error = Annotated[
    str | None, typer.Option("--error", metavar="CLASS", help="Only those whose last error is of this class.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only those submitted since then: 10m, 2h (ago), or ISO 8601."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Only those submitted before then.")]
EndedSince = Annotated[
    str | None, typer.Option("--ended-since", metavar="TIME", help="Only those that ended since then.")
]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="TIME", help="Only those that ended before then: 10m, 2d (ago), or ISO 8601."),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many tasks.")]


@attrs.frozen
class Given:
    """The filter as it was typed. An attribute is an option of each command that is ``filtered``."""

    state: States = None
    type: Type = None
    queue: Queue = None
    tag: Tag = None
    id: IdPrefix = None
    worker: Worker = None
    error: Error = None
    since: Since = None
    until: Until = None
    ended_since: EndedSince = None
    older_than: OlderThan = None

    def fields(self, world: World) -> dict[str, Any]:
        """As the client takes it. Raises BadParameter: a time or a state is none."""
        now = world.now()
        states = [name.strip() for text in self.state or [] for name in text.split(",") if name.strip()]
        for name in states:
            if name not in (*STATE_NAMES, *GROUP_NAMES):
                raise typer.BadParameter(
                    f"{name!r} is no state: {', '.join(STATE_NAMES)}; or a group: {', '.join(GROUP_NAMES)}",
                    param_hint="--state",
                )
        values = {
            "state": states[0] if len(states) == 1 else states or None,
            "type": self.type,
            "queue": self.queue,
            "tag": self.tag,
            "id_prefix": self.id,
            "worker": self.worker,
            "error": self.error,
            "created_since": times.past("--since", self.since, now),
            "created_until": times.past("--until", self.until, now),
            "ended_since": times.past("--ended-since", self.ended_since, now),
            "ended_until": times.past("--older-than", self.older_than, now),
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        """As one would type it, without the dashes."""
        parts = []
        for field in attrs.fields(Given):
            value = getattr(self, field.name)
            if value:
                parts.append(f"{field.name.replace('_', '-')} {','.join(value) if isinstance(value, list) else value}")
        return ", ".join(parts)


NOTHING_GIVEN = Given()


def filtered(command: Callable[..., T]) -> Callable[..., T]:
    """In place of its parameter ``given``, the command gets the options of ``Given``, and hands it what was typed."""
    signature = inspect.signature(command, eval_str=True)
    hints = get_type_hints(Given, include_extras=True)
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[field.name])
        for field in attrs.fields(Given)
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += options if parameter.name == "given" else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

    @functools.wraps(command)
    def run(**values: Any) -> T:
        given = Given(**{option.name: values.pop(option.name) for option in options})
        return command(given=given, **values)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def say_doubt(client: Any, queue: str | None) -> None:
    """Behind an answer without tasks: that nobody knows this queue, if that is so."""
    text = "" if queue is None else known.doubt(client, queue)
    if text:
        say(text)


def full_ids(client: Any, texts: list[str]) -> list[str]:
    return [full_id(client, text) for text in texts]


def full_id(client: Any, text: str) -> str:
    """The id that begins so, if there is one alone. Raises NotFound, InvalidRequest.

    A whole id is not looked up. Raises BadParameter: it is no id at all.
    """
    digits = text.replace("-", "").lower()
    if not PREFIX.fullmatch(digits) or len(digits) > ID_DIGITS:
        raise typer.BadParameter(f"{text!r} is no id: write a UUID, or its first digits, at least {PREFIX_DIGITS_MIN}")
    if len(digits) == ID_DIGITS:
        return text
    found = client.list(id_prefix=text, limit=AMBIGUOUS_SHOWN_MAX + 1).tasks
    if len(found) == 1:
        return str(found[0].id)
    if not found:
        raise NotFound(f"there is no task whose id begins with {text}: it is purged, or was never there")
    shown = "".join(f"\n  {info.id}  {info.state}  {info.type}" for info in found[:AMBIGUOUS_SHOWN_MAX])
    more = "\n  ..." if len(found) > AMBIGUOUS_SHOWN_MAX else ""
    raise InvalidRequest.of("id", text, f"several tasks begin so, give more digits:{shown}{more}")


def only_ids(given: Given, limit: int | None) -> None:
    if str(given) or limit is not None:
        raise typer.BadParameter("give ids or a filter, not both")


def need_filter(given: Given) -> None:
    if not str(given):
        raise typer.BadParameter("give ids, or a filter such as --state dead --queue NAME")
