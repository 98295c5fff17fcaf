"""``tq events``: what happens to tasks, live."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tq.cli import filters, show, times
from tq.cli.base import Brokers, Format, Output, Timeout, Verbose, World, connect, say, told, world
from tq.cli.watch import QUIET_S, steadily

KIND_COLOURS = {
    "completed": "green", "dead": "red", "failed": "red", "crashed": "red", "timed_out": "red", "started": "cyan",
    "cancelled": "magenta", "expired": "magenta", "stale_refused": "yellow",
}  # fmt: skip

QUEUE_KINDS = ("queue_paused", "queue_resumed", "queue_set")
"""Of a queue as a whole: they name no task."""
ID_CELLS = 36


def _kinds(begun: str) -> list[str]:
    """For the shell's completion."""
    from tq.client.models import EVENT_KINDS

    return [kind for kind in EVENT_KINDS if kind.startswith(begun)]


def add(app: typer.Typer) -> None:
    app.command("events", short_help="Show what happens to tasks, live.")(events)


@told
def events(
    context: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Only of this task.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", "-k", metavar="KIND", help="Only of this kind; may be repeated.", autocompletion=_kinds),
    ] = None,
    type: filters.Type = None,
    queue: filters.Queue = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="INDEX.ORDINAL", help="Begin behind this event.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="End after so many events.")
    ] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """What happens to tasks, live, until Ctrl-C. With --output json a line each.

    It goes on when a broker is lost, at another one or when that is back, and says if events are missing.

    Example: tq events --queue mail --kind dead --kind failed

    Example: tq events --output json --after 8412.0
    """
    here = world(context)
    kinds = _checked([name.strip() for text in kind or [] for name in text.split(",")])
    position = _position(after)
    left = limit
    with connect(context, brokers, timeout, verbose) as client, _subscribed(client, id, position) as happened:
        filters.say_doubt(client, queue)
        is_complete = True
        for event in steadily(happened, lambda: client.list(limit=1)):
            if is_complete and not happened.complete:
                is_complete = False
                say(
                    f"events are missing before {event.index}.{event.ordinal}: the broker keeps a bounded number of them"
                )
            if (
                (kinds and event.kind not in kinds)
                or type not in (None, event.type)
                or queue not in (None, event.queue)
            ):
                continue
            _print(here, output, event)
            if left is not None:
                left -= 1
                if left == 0:
                    return


def _subscribed(client: Any, id: str | None, after: tuple[int, int] | None) -> Any:
    return client.events(None if id is None else filters.full_id(client, id), after=after, timeout=QUIET_S)


def _print(here: World, output: Format, event: Any) -> None:
    row = show.plain(event)
    if output is not Format.TABLE:
        show.line(row)
        return
    extra = "" if row["extra"] is None else show.cell("extra", row["extra"])
    where = f"{event.index}.{event.ordinal}"
    if not here.is_terminal():
        typer.echo(
            f"{times.moment(event.time)}\t{where}\t{event.kind}\t{event.id}\t{event.queue}\t{event.type}\t{extra}"
        )
        return
    from tq.cli.table import shortened

    clock, kind = times.clock(event.time), f"{event.kind:<10}"
    of_task = event.kind not in QUEUE_KINDS
    subject = event.id if of_task else f"{f'queue {event.queue}':<{ID_CELLS}}"
    rest = f"{event.type} @{event.queue} {extra}" if of_task else extra
    room = here.size()[0] - sum(map(len, (clock, kind, subject))) - 6
    painted = show.painted(here, kind, KIND_COLOURS.get(event.kind))
    show.put(here, f"{clock}  {painted}  {subject}  {shortened(show.safe(rest.rstrip()), max(8, room))}".rstrip())


def _checked(kinds: list[str]) -> frozenset[str]:
    from tq.client.models import EVENT_KINDS

    for kind in kinds:
        if kind not in EVENT_KINDS:
            raise typer.BadParameter(f"{kind!r} is no kind of event: {', '.join(EVENT_KINDS)}", param_hint="--kind")
    return frozenset(kinds)


def _position(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, _dot, ordinal = text.partition(".")
    if not index.isdigit() or not ordinal.isdigit():
        raise typer.BadParameter(f"{text!r}: write INDEX.ORDINAL, as events are printed", param_hint="--after")
    return int(index), int(ordinal)
