"""``tq queues``, and what can be set of a queue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tq.cli import known, show, times
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
from tq.cli.watch import look

NO_QUEUES = "no queues yet: they come to be with their first task"
DEFAULT_WORD = "default"
"""In place of a value: what holds without a setting."""

Name = Annotated[
    str,
    typer.Argument(metavar="QUEUE", help="Name of the queue.", autocompletion=known.completes(known.queues)),
]


def add(app: typer.Typer) -> None:
    group = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
    group.callback()(queues)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("set")(set_queue)
    app.add_typer(group, name="queues", short_help="List queues; pause, resume and set them.")


# ---- list ----------------------------------------------------------------------------------------------

LIST_COLUMNS = (
    "name", "pending_total", "running", "scheduled", "waiting", "completed", "dead", "paused", "max_length", "timeout",
    "expires_in", "result_ttl", "retry", "finished_keep", "dead_keep",
)  # fmt: skip
LIST_SHOWN = (
    "name", "pending_total", "running", "scheduled", "dead", "paused", "max_length", "waiting", "retry", "timeout", "expires_in",
    "result_ttl", "finished_keep", "dead_keep", "completed",
)  # fmt: skip
DURATIONS = ("timeout", "expires_in", "result_ttl", "finished_keep", "dead_keep")


def queues(
    context: typer.Context,
    watch: Watch = False,
    every: Every = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """The queues and their settings: list, pause, resume, set.

    Example: tq queues

    Example: tq queues --watch
    """
    if context.invoked_subcommand is None:
        _queues(context, watch, every, brokers, output, verbose, timeout)


@told
def _queues(
    context: typer.Context,
    watch: bool,
    every: str | None,
    brokers: str | None,
    output: Format,
    verbose: bool,
    timeout: float,
) -> None:
    here = world(context)
    every_s = every_seconds(watch, every)
    with connect(context, brokers, timeout, verbose) as client:
        look(
            here, output, every_s, client.queues, lambda found: [plain(queue) for queue in found],
            lambda found, lines_max: _draw(here, found, lines_max),
        )  # fmt: skip


def plain(queue: Any) -> dict[str, Any]:
    return {**show.plain(queue), "pending_total": queue.pending_total}


def _draw(here: World, found: list[Any], lines_max: int | None) -> None:
    rows = [{**plain(queue), **_settings(queue.settings)} for queue in found]
    if rows or not here.is_terminal():
        show.rows(here, Format.TABLE, rows, LIST_COLUMNS, LIST_SHOWN, lines_max)
    if not rows:
        say(NO_QUEUES)


def _settings(settings: Any) -> dict[str, str]:
    """In words; what has its default is left out."""
    found = {}
    for name in DURATIONS:
        value = getattr(settings, name)
        if value is not None:
            found[name] = times.span(value)
    if settings.max_length is not None:
        found["max_length"] = f"{settings.max_length}"
    if settings.paused is not None:
        reason = f": {settings.paused.reason}" if settings.paused.reason else ""
        found["paused"] = f"by {settings.paused.by}{reason}"
    retry = settings.retry
    if retry is not None:
        waits = f"{times.span(retry.backoff_base)} x{retry.factor:g} up to {times.span(retry.cap)}"
        found["retry"] = f"{retry.max_attempts} attempts, {waits}"
    return found


# ---- change --------------------------------------------------------------------------------------------


@told
def pause(
    context: typer.Context,
    queue: Name,
    reason: Annotated[str | None, typer.Option("--reason", "-r", help="Why; shown to who asks what is wrong.")] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Give no more tasks of a queue to workers. What runs goes on; submitting goes on.

    Example: tq queues pause mail --reason "provider is down"
    """
    known.check_name("QUEUE", queue)
    with connect(context, brokers, timeout, verbose) as client:
        doubt = known.doubt(client, queue)
        done = client.pause(queue, reason=reason)
    _changed(world(context), output, done, f"{queue} is paused; tq queues resume {queue} ends it")
    _doubted(doubt, "it is paused all the same")


@told
def resume(
    context: typer.Context,
    queue: Name,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Give the tasks of a paused queue to workers again.

    Example: tq queues resume mail
    """
    known.check_name("QUEUE", queue)
    with connect(context, brokers, timeout, verbose) as client:
        before = next((found for found in client.queues() if found.name == queue), None)
        was_paused = before is not None and before.settings.paused is not None
        doubt = "" if was_paused else known.doubt(client, queue)
        done = client.resume(queue)
    _changed(world(context), output, done, f"{queue} {'is not paused any more' if was_paused else 'was not paused'}")
    _doubted(doubt, "nothing was done")


@told
def set_queue(
    context: typer.Context,
    queue: Name,
    max_length: Annotated[
        str | None,
        typer.Option(
            "--max-length", metavar="N|default", help="So many tasks may wait; one more is refused: QUEUE_FULL."
        ),
    ] = None,
    attempt_timeout: Annotated[
        str | None,
        typer.Option(
            "--attempt-timeout",
            metavar="DURATION|default",
            help="So long one attempt may take, of tasks that do not say it.",
        ),
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(
            "--expires-in",
            metavar="DURATION|default",
            help="Given up if not started by then, of tasks that do not say it.",
        ),
    ] = None,
    result_ttl: Annotated[
        str | None,
        typer.Option(
            "--result-ttl", metavar="DURATION|default", help="So long results are kept, of tasks that do not say it."
        ),
    ] = None,
    max_attempts: Annotated[
        str | None,
        typer.Option(
            "--max-attempts", metavar="N|default", help="Attempts in all, of tasks without a retry policy of their own."
        ),
    ] = None,
    keep_finished: Annotated[
        str | None,
        typer.Option(
            "--keep-finished",
            metavar="DURATION|default",
            help="So long tasks that completed, expired or were cancelled are kept.",
        ),
    ] = None,
    keep_dead: Annotated[
        str | None, typer.Option("--keep-dead", metavar="DURATION|default", help="So long dead tasks are kept.")
    ] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change settings of a queue; the word "default" takes one back. Tasks that were submitted before keep what they have.

    Example: tq queues set mail --max-length 10000 --max-attempts 8

    Example: tq queues set mail --max-length default
    """
    from tq.client.specs import Retry

    settings: dict[str, Any] = {}
    for name, option, text in (
        ("timeout", "--attempt-timeout", attempt_timeout),
        ("expires_in", "--expires-in", expires_in),
        ("result_ttl", "--result-ttl", result_ttl),
        ("finished_keep", "--keep-finished", keep_finished),
        ("dead_keep", "--keep-dead", keep_dead),
    ):
        if text is not None:
            settings[name] = None if text == DEFAULT_WORD else times.seconds(option, text)
    if max_length is not None:
        settings["max_length"] = _whole("--max-length", max_length)
    if max_attempts is not None:
        count = _whole("--max-attempts", max_attempts)
        settings["retry"] = None if count is None else Retry(max_attempts=count)
    if not settings:
        raise typer.BadParameter("say what to set, as in --max-length 10000; tq queues shows what is set")
    known.check_name("QUEUE", queue)
    with connect(context, brokers, timeout, verbose) as client:
        doubt = known.doubt(client, queue)
        done = client.set_queue(queue, **settings)
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _settings(done).items())
    _changed(world(context), output, done, f"{queue}: {words or 'all is at its default'}")
    _doubted(doubt, "it is set all the same")


def _whole(option: str, text: str) -> int | None:
    if text == DEFAULT_WORD:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise typer.BadParameter(f"{text!r}: write a whole number, or {DEFAULT_WORD}", param_hint=option)
    return int(text)


def _doubted(doubt: str, what: str) -> None:
    """A queue that nobody knows may be meant, or a slip."""
    if doubt:
        head, mark, hint = doubt.partition(";")
        say(f"{head}: {what}{mark}{hint}")


def _changed(here: World, output: Format, done: Any, said: str) -> None:
    if output is Format.TABLE:
        typer.echo(said)
    else:
        show.document(show.plain(done), output)
