"""``tq submit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tq import limits
from tq.cli import known, show, times
from tq.cli.base import (
    FAILED,
    INTERRUPTED,
    Brokers,
    Format,
    Output,
    Timeout,
    Verbose,
    connect,
    fail,
    plain_options,
    say,
    told,
    world,
)
from tq.cli.explain import near
from tq.errors import WaitTimeout

PATIENCE_S = 3.0


def add(app: typer.Typer) -> None:
    app.command("submit", short_help="Submit a task.")(submit)


@told
def submit(
    context: typer.Context,
    type: Annotated[
        str,
        typer.Option("--type", "-t", help="Names the handler.", autocompletion=known.completes(known.types)),
    ],
    payload: Annotated[
        str,
        typer.Option(
            "--payload", "-p", metavar="TEXT|@FILE|-", help="Bytes for the handler; @ reads a file, - standard input."
        ),
    ] = "",
    queue: Annotated[
        str,
        typer.Option("--queue", "-q", help="Where it waits.", autocompletion=known.completes(known.queues)),
    ] = known.DEFAULT_QUEUE,
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority", metavar="N", min=0, max=limits.PRIORITY_MAX, help="0 (last) to 255 (first) [default: 150]."
        ),
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help="It does not start before that: 30s, 10m, 2h.")
    ] = None,
    not_before: Annotated[
        str | None,
        typer.Option("--not-before", metavar="TIME", help="It does not start before that moment (ISO 8601)."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", metavar="DURATION", help="Given up if it has not started by then.")
    ] = None,
    attempt_timeout: Annotated[
        str | None, typer.Option("--attempt-timeout", metavar="DURATION", help="So long one attempt may take.")
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="DURATION", help="It must have ended by then, all attempts together."),
    ] = None,
    result_ttl: Annotated[
        str | None, typer.Option("--result-ttl", metavar="DURATION", help="So long its result is kept.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="N", help="Attempts in all [default: 5].")
    ] = None,
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
    wait_timeout: Annotated[
        str | None, typer.Option("--wait-timeout", metavar="DURATION", help="Wait so long at most.")
    ] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Submit a task and print its id.

    Example: tq submit --type echo --payload hello --wait

    Example: tq submit --type report --queue slow --delay 10m --payload @month.json --content-type application/json
    """
    from tq.client.specs import Retry

    fields = plain_options(
        priority=priority,
        delay=times.seconds("--delay", delay),
        not_before=times.future("--not-before", not_before, world(context).now()),
        expires_in=times.seconds("--expires-in", expires_in),
        timeout=times.seconds("--attempt-timeout", attempt_timeout),
        deadline=times.seconds("--deadline", deadline),
        result_ttl=times.seconds("--result-ttl", result_ttl),
        unique=unique,
        idempotency_key=idempotency_key,
        content_type=content_type,
        id=id,
        retry=None if max_attempts is None else Retry(max_attempts=max_attempts),
    )
    known.check_name("--type", type)
    known.check_name("--queue", queue)
    wait_s = times.seconds("--wait-timeout", wait_timeout)
    data = _payload(payload)
    headers = dict(_header(text) for text in header or [])
    with connect(context, brokers, timeout, verbose) as client:
        try:
            done = client.submit(type, data, queue=queue, tags=tag or [], headers=headers, **fields)
        except KeyboardInterrupt:
            key = (
                "the same command is safe"
                if id or idempotency_key
                else "with --id or --idempotency-key a repeat is safe"
            )
            say(f"no broker has answered yet, so it may be submitted or not; {key}")
            raise typer.Exit(INTERRUPTED) from None
        if done.outcome != "created":
            say(f"{done.outcome}: the task is {done.id}, {done.state}")
        if wait or wait_s is not None:
            if verbose:
                say(f"submitted {done.id}, waiting for its end")
            try:
                info = _wait(client, done.id, wait_s)
            except KeyboardInterrupt:
                say(f"not waited for any longer; task {done.id} goes on: tq status {done.id} --watch")
                raise typer.Exit(INTERRUPTED) from None
            _ended(context, output, info)
        elif output is Format.TABLE:
            typer.echo(done.id)
        else:
            show.document(show.plain(done), output)


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


def _wait(client: Any, id: str, wait_s: float | None) -> Any:
    """Who waits for longer than a moment is told what for: it may be for a worker that nobody has started.

    Raises WaitTimeout.
    """
    if wait_s is not None and wait_s <= PATIENCE_S:
        return client.wait(id, wait_s)
    try:
        return client.wait(id, PATIENCE_S)
    except WaitTimeout:
        found = client.explain(id)
        for text in (found.why, *near(client, found.facts)):
            say(text)
    if wait_s is None:
        return client.wait(id, None)
    try:
        return client.wait(id, wait_s - PATIENCE_S)
    except WaitTimeout as error:
        raise WaitTimeout(f"task {id} has not ended within {wait_s:g} s; it goes on") from error


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
        fail(f"task {info.id} is {info.state}{reason}{message}\nMore: tq explain {info.id}", FAILED)
