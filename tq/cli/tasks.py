"""``tq submit status wait list cancel retry purge explain events``: tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tq.cli import show
from tq.cli.base import (
    FAILED,
    Brokers,
    DryRun,
    Format,
    Output,
    Timeout,
    Verbose,
    Yes,
    confirm,
    connect,
    fail,
    plain_options,
    say,
    told,
    world,
)
from tq.errors import TqError

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tasks.")]
SomeIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of tasks; or give a filter.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the task.")]
State = Annotated[str | None, typer.Option("--state", "-s", help="Only tasks in this state.")]
Type = Annotated[str | None, typer.Option("--type", "-t", help="Only tasks of this type.")]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Only tasks of this queue.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Only tasks with this tag.")]
OlderThan = Annotated[float | None, typer.Option("--older-than", help="Only tasks that ended so many seconds ago.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many tasks.")]
LIST_COLUMNS = ("id", "type", "queue", "priority", "state", "attempt", "crashes", "created_at", "ended_at", "reason")
STATUS_FIELDS = (
    "id", "type", "queue", "priority", "state", "cancelling", "reason", "attempt", "crashes", "fence", "worker",
    "created_at", "due_at", "started_at", "ended_at", "expires_at", "deadline_at", "tags", "headers", "payload",
    "result", "error",
)  # fmt: skip


def add(app: typer.Typer) -> None:
    for name, command in (
        ("submit", submit),
        ("status", status),
        ("list", list_tasks),
        ("cancel", cancel),
        ("retry", retry),
        ("purge", purge),
        ("explain", explain),
        ("events", events),
    ):
        app.command(name)(command)


@told
def submit(
    context: typer.Context,
    type: Annotated[str, typer.Option("--type", "-t", help="Names the handler.")],
    payload: Annotated[
        str,
        typer.Option(
            "--payload", "-p", metavar="TEXT|@FILE|-", help="Bytes for the handler; @ reads a file, - standard input."
        ),
    ] = "",
    queue: Annotated[str, typer.Option("--queue", "-q")] = "default",
    priority: Annotated[int | None, typer.Option("--priority", help="0 (last) to 255 (first) [default: 150].")] = None,
    delay: Annotated[float | None, typer.Option("--delay", help="Seconds before it may start.")] = None,
    expires_in: Annotated[
        float | None, typer.Option("--expires-in", help="Seconds after which it is not started any more.")
    ] = None,
    attempt_timeout: Annotated[
        float | None, typer.Option("--attempt-timeout", help="Seconds one attempt may take.")
    ] = None,
    deadline: Annotated[float | None, typer.Option("--deadline", help="Seconds in which it must have ended.")] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts", help="Attempts in all [default: 5].")] = None,
    unique: Annotated[str | None, typer.Option("--unique", help="At most one live task has this key.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again names the first task.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="To find it by; may be repeated.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="For the handler; may be repeated.")
    ] = None,
    content_type: Annotated[str | None, typer.Option("--content-type", help="Of the payload.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="A UUID of your own; makes a repeat safe.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for the end and print the result; exit code 1 unless completed.")
    ] = False,
    wait_timeout: Annotated[float | None, typer.Option("--wait-timeout", help="Seconds to wait at most.")] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Submit a task and print its id.

    Example: tq submit --type echo --payload hello --wait
    """
    from tq.client.specs import Retry

    fields = plain_options(
        priority=priority, delay=delay, expires_in=expires_in, timeout=attempt_timeout, deadline=deadline,
        unique=unique, idempotency_key=idempotency_key, content_type=content_type, id=id,
    )  # fmt: skip
    if max_attempts is not None:
        fields["retry"] = Retry(max_attempts=max_attempts)
    data = _payload(payload)
    headers = dict(_header(text) for text in header or [])
    with connect(context, brokers, timeout, verbose) as client:
        done = client.submit(type, data, queue=queue, tags=tag or [], headers=headers, **fields)
        if done.outcome != "created":
            say(f"{done.outcome}: the task is {done.id}, {done.state}")
        if wait or wait_timeout is not None:
            if verbose:
                say(f"submitted {done.id}, waiting for its end")
            _ended(context, output, client.wait(done.id, wait_timeout))
        elif output is Format.TABLE:
            typer.echo(done.id)
        else:
            show.document(show.plain(done), output)


@told
def status(
    context: typer.Context,
    id: Id,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print each change until the task ends.")] = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Print a task: its state, its result, every attempt.

    Example: tq status 0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90 --watch
    """
    with connect(context, brokers, timeout, verbose) as client:
        if watch:
            _watch(context, client, id, output)
        else:
            _print(context, output, client.get(id), verbose)


def _watch(context: typer.Context, client: Any, id: str, output: Format) -> None:
    """The task as it is, then its events, until it ends."""
    with client.events(id) as happened:
        info = client.get(id)  # behind the subscription, so that no change falls between
        _watched(context, output, info)
        if info.ended:
            return
        for event in happened:
            if event.index <= info.index:
                continue
            info = client.get(id, min_index=event.index)
            _watched(context, output, info)
            if info.ended:
                return


def _watched(context: typer.Context, output: Format, info: Any) -> None:
    row = show.plain(info)
    if output is Format.TABLE:
        when = info.ended_at or info.started_at or info.created_at
        told_of = [show.cell("_at", when), info.state, f"attempt {info.attempt}", info.reason or "", info.worker or ""]
        typer.echo("  ".join(part for part in told_of if part))
    else:
        show.line(row)


@told
def list_tasks(
    context: typer.Context,
    state: State = None,
    type: Type = None,
    queue: Queue = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    limit: Limit = 100,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """List tasks, filtered.

    Example: tq list --state dead --queue mail
    """
    with connect(context, brokers, timeout, verbose) as client:
        filter_ = plain_options(state=state, type=type, queue=queue, tag=tag, older_than=older_than)
        found = [show.plain(info) for info in client.list_all(limit=limit, timeout=timeout, **filter_)]
    show.rows(world(context), output, found, LIST_COLUMNS)
    if limit is not None and len(found) == limit:
        say(f"the first {limit}; there may be more: --limit N")


@told
def cancel(
    context: typer.Context,
    ids: Ids,
    grace: Annotated[
        float | None, typer.Option("--grace", help="Seconds a running handler has to stop [default: 10].")
    ] = None,
    wait: Annotated[float | None, typer.Option("--wait", help="Wait so many seconds for the end.")] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Cancel tasks: those that wait at once, those that run by telling their handler.

    Example: tq cancel 0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90 --wait 15
    """
    with connect(context, brokers, timeout, verbose) as client:
        changed = client.cancel_many(ids, grace=grace)
        rows = [show.plain(change) for change in changed]
        for row in rows:
            if wait is not None and row["state"] == "cancelling":
                row["state"] = client.wait(row["id"], wait).state
    _changes(context, output, rows)


@told
def retry(
    context: typer.Context,
    ids: SomeIds = None,
    state: State = None,
    type: Type = None,
    queue: Queue = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    delay: Annotated[float, typer.Option("--delay", min=0, help="Seconds before they run again.")] = 0.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Run dead, cancelled, expired or skipped tasks again: by id, or all of a filter.

    Example: tq retry --state dead --queue mail --dry-run
    """
    filter_ = plain_options(state=state, type=type, queue=queue, tag=tag, older_than=older_than)
    with connect(context, brokers, timeout, verbose) as client:
        if ids:
            _only(filter_, limit)
            if dry_run:
                _list_ids(context, output, client, ids)
            else:
                _changes(context, output, [show.plain(change) for change in client.retry_many(ids, delay=delay)])
            return
        _some(filter_)
        if dry_run:
            _would(context, output, client, filter_, limit, "retry")
            return
        confirm(context, yes, f"Retry all tasks with {_words(filter_)}?")
        job = client.retry_where(limit=limit, delay=delay, progress=_Progress("retried"), **filter_)
    _finished(context, output, job, "retried")


@told
def purge(
    context: typer.Context,
    ids: SomeIds = None,
    state: State = None,
    type: Type = None,
    queue: Queue = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Forget ended tasks, payload and result: by id, or all of a filter. This cannot be undone.

    Example: tq purge --state completed --older-than 3600 --dry-run
    """
    filter_ = plain_options(state=state, type=type, queue=queue, tag=tag, older_than=older_than)
    with connect(context, brokers, timeout, verbose) as client:
        if ids:
            _only(filter_, limit)
            if dry_run:
                _list_ids(context, output, client, ids)
                return
            confirm(context, yes, f"Purge {len(ids)} tasks?")
            _changes(context, output, [show.plain(change) for change in client.purge_many(ids)])
            return
        _some(filter_)
        if dry_run:
            _would(context, output, client, filter_, limit, "purge")
            return
        confirm(context, yes, f"Purge all ended tasks with {_words(filter_)}?")
        job = client.purge_where(limit=limit, progress=_Progress("purged"), **filter_)
    _finished(context, output, job, "purged")


@told
def explain(
    context: typer.Context,
    id: Id,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Say why a task is where it is.

    Example: tq explain 0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90
    """
    with connect(context, brokers, timeout, verbose) as client:
        found = client.explain(id)
    if output is not Format.TABLE:
        show.document(show.plain(found), output)
        return
    typer.echo(found.why)
    if verbose:
        for name, value in show.plain(found.facts).items():
            say(f"  {name}: {show.cell(name, value)}")


@told
def events(
    context: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only of this task.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="INDEX.ORDINAL", help="Begin behind this event.")
    ] = None,
    limit: Limit = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """What happens to tasks, live, until Ctrl-C. With --output json a line each.

    Example: tq events --output json
    """
    left = limit
    with connect(context, brokers, timeout, verbose) as client, client.events(id, after=_position(after)) as happened:
        if not happened.complete:
            say("events before the first one shown are no longer kept")
        for event in happened:
            row = show.plain(event)
            if output is Format.TABLE:
                extra = "" if row["extra"] is None else show.cell("extra", row["extra"])
                where = f"{event.index}.{event.ordinal}"
                typer.echo(
                    f"{show.moment(event.time)}\t{where}\t{event.kind}\t{event.id}\t{event.queue}\t{event.type}\t{extra}"
                )
            else:
                show.line(row)
            if left is not None:
                left -= 1
                if left == 0:
                    return


# ---- inside ----------------------------------------------------------------------------------------


class _Progress:
    """Tells on standard error how far a job is, when there is something new to tell."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._done = 0

    def __call__(self, job: Any) -> None:
        if job.done != self._done and not job.finished:
            self._done = job.done
            say(f"{self._verb} {job.done} so far")


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            fail(f"cannot read the payload from {text[1:]}: {error.strerror}")
    return text.encode()


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r}: write NAME=VALUE", param_hint="--header")
    return name, value


def _position(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, _dot, ordinal = text.partition(".")
    if not index.isdigit() or not ordinal.isdigit():
        raise typer.BadParameter(f"{text!r}: write INDEX.ORDINAL, as events are printed", param_hint="--after")
    return int(index), int(ordinal)


def _ended(context: typer.Context, output: Format, info: Any) -> None:
    """Print the end of a task that was waited for. The result alone is the answer, so that it can be piped."""
    if output is not Format.TABLE:
        show.document(show.plain(info), output)
    elif info.state == "completed":
        sys.stdout.flush()
        sys.stdout.buffer.write(info.result or b"")
        if info.result and world(context).is_terminal():
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    if info.state != "completed":
        reason = f" ({info.reason})" if info.reason else ""
        message = f": {info.error[0]}: {info.error[1]}" if info.error else ""
        fail(f"task {info.id} is {info.state}{reason}{message}\nMore: tq status {info.id}", FAILED)


def _print(context: typer.Context, output: Format, info: Any, verbose: bool) -> None:
    row = show.plain(info)
    if output is not Format.TABLE:
        show.document(row, output)
        return
    here = world(context)
    error = row["error"]
    row["error"] = None if not error else ": ".join(part for part in error[:2] if part)
    show.record(here, output, row, STATUS_FIELDS)
    for attempt in row["history"]:
        parts = [f"{name} {show.cell(name, attempt[name])}" for name in attempt if name != "error" and attempt[name]]
        typer.echo("past attempt  " + ", ".join(parts) if here.is_terminal() else "past\t" + "\t".join(parts))
        if attempt.get("error"):
            typer.echo("  " + ": ".join(part for part in attempt["error"][:2] if part))
            if verbose and len(attempt["error"]) > 2:
                typer.echo(attempt["error"][2])


def _changes(context: typer.Context, output: Format, rows: list[dict[str, Any]]) -> None:
    """State of each id; exit code 1 if one was refused."""
    failed = [row for row in rows if row["error"] is not None]
    show.rows(
        world(context), output, [row for row in rows if output is not Format.TABLE or not row["error"]], ("id", "state")
    )
    for row in failed:
        say(f"tq: {row['id']}: {row['error']['message']}")
    if failed:
        raise typer.Exit(FAILED)


def _list_ids(context: typer.Context, output: Format, client: Any, ids: list[str]) -> None:
    rows = []
    for id_ in ids:
        try:
            rows.append(show.plain(client.get(id_, parts=0)))
        except TqError as error:
            rows.append({"id": id_, "state": error.message})
    show.rows(world(context), output, rows, LIST_COLUMNS)


def _would(
    context: typer.Context, output: Format, client: Any, filter_: dict[str, Any], limit: int | None, verb: str
) -> None:
    """What a bulk change would touch: count all, show the first."""
    shown: list[dict[str, Any]] = []
    count = 0
    for info in client.list_all(limit=limit, **filter_):
        if _may(verb, info.state):
            count += 1
            if len(shown) < 20:
                shown.append(show.plain(info))
    if output is Format.TABLE:
        show.rows(world(context), output, shown, LIST_COLUMNS)
    else:
        show.document({"would": verb, "count": count, "first": shown}, output)
    say(f"would {verb} {count} tasks; nothing was done")


def _may(verb: str, state: str) -> bool:
    """A retry leaves live and completed tasks alone, a purge live ones."""
    from tq.client.models import ENDS

    return state in ENDS and not (verb == "retry" and state == "completed")


def _finished(context: typer.Context, output: Format, job: Any, verb: str) -> None:
    if output is Format.TABLE:
        typer.echo(f"{verb} {job.done} tasks")
    else:
        show.document(show.plain(job), output)


def _only(filter_: dict[str, Any], limit: int | None) -> None:
    if filter_ or limit is not None:
        raise typer.BadParameter("give ids or a filter, not both")


def _some(filter_: dict[str, Any]) -> None:
    if not filter_:
        raise typer.BadParameter("give ids, or a filter such as --state dead --queue NAME")


def _words(filter_: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in filter_.items())
