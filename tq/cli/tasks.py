"""``tq status``, ``tq list``: tasks."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer

from tq.cli import filters, show, times
from tq.cli.base import (
    Brokers,
    Every,
    Format,
    Output,
    Timeout,
    Verbose,
    Watch,
    World,
    connect,
    every_seconds,
    say,
    told,
    world,
)
from tq.cli.watch import QUIET_S, look, steadily
from tq.errors import BrokerUnavailable, NotLeader

LIST_COLUMNS = ("id", "type", "queue", "priority", "state", "attempt", "crashes", "created_at", "ended_at", "reason")
LIST_SHOWN = (
    "id",
    "state",
    "type",
    "queue",
    "created_at",
    "attempt",
    "reason",
    "priority",
    "ended_at",
    "worker",
    "tags",
    "crashes",
)
STATUS_FIELDS = (
    "id", "type", "queue", "priority", "state", "cancelling", "reason", "attempt", "attempts_max", "crashes", "fence",
    "worker", "progress", "created_at", "due_at", "started_at", "ended_at", "expires_at", "deadline_at", "tags", "headers",
    "payload", "result", "error",
)  # fmt: skip
LEADER_S = 2.0
PAST_SHOWN = ("attempt", "outcome", "ended_at", "took", "error", "worker", "fence")


def add(app: typer.Typer) -> None:
    app.command("status", short_help="Show a task: state, result, every attempt.")(status)
    app.command("list", short_help="List tasks, filtered.")(list_tasks)


# ---- status --------------------------------------------------------------------------------------------


@told
def status(
    context: typer.Context,
    id: filters.Id,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print each change until the task ends.")] = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Print a task: its state, its result, every attempt; with -v their tracebacks.

    Example: tq status 0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90 --watch
    """
    with connect(context, brokers, timeout, verbose) as client:
        if watch:
            _watch(world(context), client, filters.full_id(client, id), output)
        else:
            _print(world(context), output, _get(client, filters.full_id(client, id)), verbose)


def _get(client: Any, id: str) -> Any:
    """With its progress, which the leader alone knows; without, if there is none that answers soon."""
    info = client.get(id)
    if info.state == "running" and not info.progress_known:
        try:
            return client.get(id, linearizable=True, timeout=LEADER_S)
        except (BrokerUnavailable, NotLeader):
            return info
    return info


def _watch(here: World, client: Any, id: str, output: Format) -> None:
    """The task as it is, then its events, until it ends."""
    with client.events(id, timeout=QUIET_S) as happened:
        info = client.get(id)  # behind the subscription, so that no change falls between
        _watched(here, output, info)
        if info.ended:
            return
        for event in steadily(happened, lambda: client.get(id, parts=0)):
            if event.index <= info.index:
                continue
            info = client.get(id, min_index=event.index)
            _watched(here, output, info)
            if info.ended:
                return


def _watched(here: World, output: Format, info: Any) -> None:
    row = show.plain(info)
    if output is not Format.TABLE:
        show.line(row)
        return
    when = info.ended_at or info.started_at or info.created_at
    at = "" if when is None else times.moment(when)
    error = f"{info.error[0]}: {info.error[1]}" if info.error and info.state != "completed" else ""
    state = show.painted(here, f"{info.state:<9}", show.STATE_COLOURS.get(info.state))
    told_of = [at, state, f"attempt {info.attempt}", info.reason or "", info.worker or "", show.safe(error)]
    show.put(here, "  ".join(part for part in told_of if part))


def _print(here: World, output: Format, info: Any, verbose: bool) -> None:
    row = show.plain(info)
    if output is not Format.TABLE:
        show.document(row, output)
        return
    row["error"] = None if not info.error else ": ".join(part for part in info.error[:2] if part)
    if here.is_terminal():
        _describe(here, info, row, verbose)
        return
    show.record(here, output, row, STATUS_FIELDS)
    for attempt in row["history"]:
        parts = [f"{name} {show.cell(name, attempt[name])}" for name in attempt if name != "error" and attempt[name]]
        typer.echo("past\t" + "\t".join(parts))
    _errors(info, verbose)


def _errors(info: Any, verbose: bool) -> None:
    """Of each attempt that has one."""
    for attempt in info.history:
        if attempt.error:
            typer.echo(f"  {_error(attempt)}")
            if verbose and len(attempt.error) > 2:
                typer.echo(attempt.error[2])


def _describe(here: World, info: Any, row: dict[str, Any], verbose: bool) -> None:
    """For people: what goes together stands together."""
    if info.attempt and info.attempts_max:
        row["attempt"] = f"{info.attempt} of {info.attempts_max}"
    row["attempts_max"] = None
    if info.progress is not None:
        row["progress"] = progress_words(info.progress)
    show.record(here, Format.TABLE, row, STATUS_FIELDS)
    if not info.history:
        return
    show.put(here)
    past = [{**show.plain(attempt), "took": _took(attempt), "error": _error(attempt)} for attempt in info.history]
    show.rows(here, Format.TABLE, past, PAST_SHOWN)
    for attempt in info.history:
        if verbose and attempt.error and len(attempt.error) > 2 and attempt.error[2]:
            show.put(here, f"\nattempt {attempt.attempt}:\n{show.safe(attempt.error[2].rstrip())}")


def _took(attempt: Any) -> str:
    known = attempt.started_at is not None and attempt.ended_at is not None
    return times.span(attempt.ended_at - attempt.started_at) if known else ""


def _error(attempt: Any) -> str:
    return ": ".join(part for part in (attempt.error or ())[:2] if part)


def progress_words(progress: Any) -> str:
    """``3 of 10 (30 %): resizing``"""
    text = f"{progress.done:g}"
    if progress.total:
        text += f" of {progress.total:g} ({100 * progress.done / progress.total:.0f} %)"
    return f"{text}: {progress.note}" if progress.note else text


# ---- list ----------------------------------------------------------------------------------------------


@told
@filters.filtered
def list_tasks(
    context: typer.Context,
    given: filters.Given = filters.NOTHING_GIVEN,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first; otherwise the newest.")] = False,
    limit: filters.Limit = 100,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="TEXT", help="Go on behind an earlier list, as it says.")
    ] = None,
    watch: Watch = False,
    every: Every = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """List tasks, filtered; the newest first.

    Example: tq list --state dead --queue mail --since 2h

    Example: tq list --state running --worker w1 --watch
    """
    here = world(context)
    every_s = every_seconds(watch, every)
    place = _place(cursor)
    count = limit or 100
    with connect(context, brokers, timeout, verbose) as client:

        def ask() -> _Found:
            return _ask(client, given.fields(here), count, place, oldest, timeout)

        def draw(found: _Found, lines_max: int | None) -> None:
            _draw(here, given, found, lines_max)

        found = look(here, output, every_s, ask, lambda found: found.rows, draw)
        if not found.rows:
            filters.say_doubt(client, given.queue)
    if found.cursor is not None:
        cursor = base64.urlsafe_b64encode(found.cursor).decode().rstrip("=")
        say(f"the first {len(found.rows)}; there may be more: --limit N, or --cursor {cursor}")


class _Found:
    """rows: as JSON has them. cursor: there may be more."""

    def __init__(self, rows: list[dict[str, Any]], cursor: bytes | None) -> None:
        self.rows = rows
        self.cursor = cursor


def _ask(client: Any, fields: dict[str, Any], limit: int, cursor: bytes | None, oldest: bool, timeout: float) -> _Found:
    """Pages may be short, so on until there are enough."""
    rows: list[dict[str, Any]] = []
    more = {"oldest_first": True} if oldest else {}
    while True:
        page = client.list(limit=min(limit - len(rows), PAGE_MAX), cursor=cursor, timeout=timeout, **more, **fields)
        rows += [show.plain(info) for info in page.tasks]
        cursor = page.cursor
        if cursor is None or len(rows) >= limit:
            return _Found(rows, cursor)


PAGE_MAX = 1_000


def _draw(here: World, given: filters.Given, found: _Found, lines_max: int | None) -> None:
    if not found.rows:
        if not here.is_terminal():
            show.rows(here, Format.TABLE, [], LIST_COLUMNS)
        what = f" with {given}" if str(given) else ""
        say(f"there is no task{what}" + ("" if what else ": submit one with tq submit --type TYPE"))
        return
    show.rows(here, Format.TABLE, found.rows, LIST_COLUMNS, LIST_SHOWN, lines_max)


def _place(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no cursor: take the one that a list has printed", param_hint="--cursor"
        ) from None
