"""``tq worker``: run handlers."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from tq import limits
from tq.cli import known, times
from tq.cli.base import Brokers, is_said, told


def add(app: typer.Typer) -> None:
    app.command("worker", short_help="Run handlers.")(run)


@told
def run(
    context: typer.Context,
    module: Annotated[str, typer.Argument(metavar="MODULE[:APP]", help="Where the tasks are, for example tq.samples.")],
    brokers: Brokers = None,
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
            autocompletion=known.completes(known.queues, is_list=True),
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Instead of host-pid-random.")] = None,
    drain: Annotated[
        str, typer.Option("--drain", metavar="DURATION", help="So long running tasks have to end after SIGTERM.")
    ] = times.span(limits.DRAIN_MS_DEFAULT / 1000),
    max_tasks: Annotated[
        int | None,
        typer.Option("--max-tasks", metavar="N", min=1, help="Begin anew after so many tasks: for code that leaks."),
    ] = None,
    max_memory: Annotated[
        int | None, typer.Option("--max-memory-mb", metavar="N", min=1, help="Begin anew above so many MiB of memory.")
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Begin anew when your code changes: for development.")
    ] = False,
    log_level: Annotated[
        str, typer.Option("--log-level", help="debug, info, warning or error.", autocompletion=known.LOG_LEVELS)
    ] = "info",
    log_format: Annotated[
        str, typer.Option("--log-format", help="text or json.", autocompletion=known.LOG_FORMATS)
    ] = "text",
) -> None:
    """Claim tasks and run their handlers until SIGTERM or Ctrl-C; the second signal quits at once.

    Example: tq worker mail:app --concurrency 8 --queues urgent,default
    """
    from tq.client.blocking import brokers_default
    from tq.protocol.addresses import parse, show
    from tq.worker.run import Options, main

    addresses = ",".join(show(address) for address in parse(brokers or brokers_default()))
    are_said = is_said(context, "brokers")
    if are_said:
        os.environ["TQ_BROKERS"] = addresses  # for apps that have none of their own, in child processes too
    options = Options(
        module,
        brokers=addresses,
        are_brokers_said=are_said,
        concurrency=concurrency,
        queues=None if queues is None else list(dict.fromkeys(filter(None, map(str.strip, queues.split(","))))),
        name=name,
        drain_seconds=times.seconds("--drain", drain) or 0.0,
        log_level=log_level,
        log_format=log_format,
        tasks_max=max_tasks,
        memory_bytes_max=None if max_memory is None else max_memory * limits.MIB,
        is_reloading=reload,
    )
    raise typer.Exit(main(options))
