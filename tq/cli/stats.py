"""``tq stats``: what a node has counted."""

from __future__ import annotations

from typing import Any

import typer

from tq.cli import show
from tq.cli.base import Brokers, Every, Format, Output, Timeout, Verbose, Watch, connect, every_seconds, told, world
from tq.cli.watch import look


def add(app: typer.Typer) -> None:
    app.command("stats", short_help="Show what a node has counted.")(stats)


@told
def stats(
    context: typer.Context,
    watch: Watch = False,
    every: Every = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Numbers of the node that answers, since its start. JSON has the buckets of durations, too.

    Example: tq stats --output json
    """
    here = world(context)
    every_s = every_seconds(watch, every)
    with connect(context, brokers, timeout, verbose) as client:
        look(
            here, output, every_s, client.stats, show.plain,
            lambda found, lines_max: show.record(here, Format.TABLE, flat(show.plain(found)), lines_max=lines_max),
        )  # fmt: skip


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``; so are the counts of events, ``["a", "b", 1]``. Buckets are left out: they are for programs."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found.update(flat(item, f"{prefix}{name}."))
        elif name == "events":
            found.update({f"events.{queue}.{kind}": count for queue, kind, count in item})
        elif name == "buckets":
            continue
        else:
            found[prefix + name] = item
    return found
