"""``tq worker``: run handlers."""

from __future__ import annotations

from typing import Annotated

import typer

from tq import limits
from tq.cli.base import Brokers, told


def add(app: typer.Typer) -> None:
    app.command("worker")(run)


@told
def run(
    module: Annotated[
        str, typer.Argument(metavar="MODULE[:NAME]", help="Where the handlers are, for example tq.samples.")
    ],
    brokers: Brokers = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=limits.SESSION_TASKS_MAX, help="Tasks at the same time.")
    ] = limits.WORKER_CONCURRENCY_DEFAULT,
    queues: Annotated[
        str, typer.Option("--queues", "-q", metavar="A,B", help="Queues to claim from, in this order.")
    ] = "default",
    name: Annotated[str | None, typer.Option("--name", help="Instead of host-pid-random.")] = None,
    drain: Annotated[
        float, typer.Option("--drain", min=0, help="Seconds that running tasks get to end after SIGTERM.")
    ] = limits.DRAIN_MS_DEFAULT / 1000,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option("--log-format", help="text or json.")] = "text",
) -> None:
    """Claim tasks and run their handlers until SIGTERM or Ctrl-C; the second signal quits at once.

    Example: tq worker tq.samples --concurrency 8 --queues mail,default
    """
    from tq.client.blocking import brokers_default
    from tq.protocol.addresses import parse, show
    from tq.worker.run import main

    code = main(
        module,
        brokers=",".join(show(address) for address in parse(brokers or brokers_default())),
        concurrency=concurrency,
        queues=[queue.strip() for queue in queues.split(",") if queue.strip()],
        name=name,
        drain_seconds=drain,
        log_level=log_level,
        log_format=log_format,
    )
    raise typer.Exit(code)
