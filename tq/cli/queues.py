"""``tq queue-depth``: what waits where."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tq.cli import show
from tq.cli.base import Brokers, Format, Output, Timeout, Verbose, connect, say, told, world


def add(app: typer.Typer) -> None:
    app.command("queue-depth")(depth)


@told
def depth(
    context: typer.Context,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
    watch: Annotated[float | None, typer.Option("--watch", min=0.2, help="Print again each so many seconds.")] = None,
) -> None:
    """Waiting tasks of each queue, as bars by band: █ high, ▓ normal, ░ low.

    Example: tq queue-depth --watch 2
    """
    with connect(context, brokers, timeout, verbose) as client:
        while True:
            found = client.queues()
            _print(context, output, found, watch is not None)
            if watch is None:
                return
            world(context).pause(watch)


def _print(context: typer.Context, output: Format, found: list[Any], is_stream: bool) -> None:
    rows = [{**show.plain(queue), "pending_total": queue.pending_total} for queue in found]
    if output is Format.JSON and is_stream:
        show.line(rows)
        return
    here = world(context)
    largest = max((queue.pending_total for queue in found), default=0)
    if output is Format.TABLE:
        for row, queue in zip(rows, found, strict=True):
            row.update({band: queue.pending.get(band, 0) for band in show.BANDS})
            if here.is_terminal():
                row["depth"] = show.bar(queue.pending, largest)
        if not rows:
            say("no queues yet: they come to be with their first task")
    columns = ["name", *show.BANDS, "pending_total", "scheduled", "waiting", "running", "oldest_ready_age"]
    show.rows(here, output, rows, [*columns, "depth"] if here.is_terminal() else columns)
