"""``tq workers``: who works."""

from __future__ import annotations

from typing import Any

import typer

from tq.cli import show
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

COLUMNS = (
    "name", "running", "slots", "stuck", "types", "queues", "opened_at", "heard_at", "draining", "cpu_percent", "rss_bytes",
)  # fmt: skip
SHOWN = ("name", "busy", "queues", "types", "heard_at", "draining", "stuck", "cpu", "memory", "opened_at", "version")


def add(app: typer.Typer) -> None:
    app.command("workers", short_help="List the workers, and what they run.")(workers)


@told
def workers(
    context: typer.Context,
    watch: Watch = False,
    every: Every = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """The workers that have a session: what they run, when they were last heard.

    Example: tq workers --watch
    """
    here = world(context)
    every_s = every_seconds(watch, every)
    with connect(context, brokers, timeout, verbose) as client:
        look(
            here, output, every_s, client.workers, lambda found: [show.plain(worker) for worker in found],
            lambda found, lines_max: _draw(here, [show.plain(worker) for worker in found], lines_max),
        )  # fmt: skip


def _draw(here: World, found: list[dict[str, Any]], lines_max: int | None) -> None:
    rows = [_row(row) for row in found]
    if rows or not here.is_terminal():
        show.rows(here, Format.TABLE, rows, COLUMNS, SHOWN, lines_max)
    if not rows:
        say("no workers: start one with tq worker MODULE")


def _row(worker: dict[str, Any]) -> dict[str, Any]:
    """What it says of itself beside what the broker knows, and both in words."""
    row = {**worker.get("info", {}), **worker.get("stats", {}), **worker}
    slots = row.get("slots")
    row["busy"] = f"{row['running']}/{slots}" if slots is not None else str(row["running"])
    row["stuck"] = row.get("stuck") or None
    row["draining"] = row["draining"] or None
    if row.get("cpu_percent") is not None:
        row["cpu"] = f"{row['cpu_percent']:.0f} %"
    if row.get("rss_bytes") is not None:
        row["memory"] = f"{row['rss_bytes'] / 2**20:.0f} MiB"
    return row
