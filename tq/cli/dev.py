"""``tq dev``: all that is needed to try something, in one command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tq import limits
from tq.cli import known
from tq.cli.base import told, world

COLOURS = {"dev": typer.colors.GREEN, "broker": typer.colors.MAGENTA, "worker": typer.colors.CYAN}


def add(app: typer.Typer) -> None:
    app.command("dev", short_help="Run a broker and a worker, for development.")(run)


@told
def run(
    context: typer.Context,
    module: Annotated[
        str, typer.Argument(metavar="MODULE[:APP]", help="Where the tasks are; without it, the samples of tq.")
    ] = "tq.samples",
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep the broker's data there; without it, they are temporary."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Where the broker is [default: 127.0.0.1:7379, or a free port]."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=limits.SESSION_TASKS_MAX, help="Tasks at the same time.")
    ] = limits.WORKER_CONCURRENCY_DEFAULT,
    queues: Annotated[
        str | None,
        typer.Option(
            "--queues",
            "-q",
            metavar="A,B",
            help="Queues to claim from, in this order [default: those of the app's tasks].",
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Start the worker again when its files change.")
    ] = True,
    log_level: Annotated[
        str, typer.Option("--log-level", help="debug, info, warning or error.", autocompletion=known.LOG_LEVELS)
    ] = "info",
) -> None:
    """Run a broker and a worker for development, without configuration, until Ctrl-C stops both.

    The worker starts again when a file of its modules changes. Data are temporary unless --data names a folder.
    What was started where is said at the start; submit from another terminal.

    Example: tq dev

    Example: tq dev mail.tasks:app --data ./dev-data
    """
    from tq.dev.run import Plan, main

    plan = Plan(module, listen, data, concurrency, queues, reload, log_level)
    is_coloured = world(context).has_colour()

    def say(who: str, line: str) -> None:
        prefix = f"{who:<6} |"
        typer.echo(f"{typer.style(prefix, fg=COLOURS[who]) if is_coloured else prefix} {line}", err=True)

    raise typer.Exit(main(plan, os.environ, say))
