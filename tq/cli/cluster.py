"""``tq workers``, ``tq stats``, ``tq cluster-status``: the cluster itself."""

from __future__ import annotations

from typing import Any

import typer

from tq.cli import show
from tq.cli.base import Brokers, Format, Output, Timeout, Verbose, connect, say, told, world

NODE_COLUMNS = ("id", "role", "reachable", "term", "leader", "last", "commit", "applied", "checkpointed", "address")
WORKER_COLUMNS = (
    "name",
    "running",
    "stuck",
    "types",
    "queues",
    "opened_at",
    "heard_at",
    "draining",
    "cpu_percent",
    "rss_bytes",
)


def add(app: typer.Typer) -> None:
    app.command("workers")(workers)
    app.command("stats")(stats)
    app.command("cluster-status")(status)


@told
def workers(
    context: typer.Context,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """The workers that have a session: what they run, when they were last heard.

    Example: tq workers
    """
    with connect(context, brokers, timeout, verbose) as client:
        found = [show.plain(worker) for worker in client.workers()]
    if output is Format.TABLE:
        found = [{**row.get("stats", {}), **row} for row in found]
        if not found:
            say("no workers: start one with tq worker MODULE")
    show.rows(world(context), output, found, WORKER_COLUMNS)


@told
def stats(
    context: typer.Context,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Numbers of the node that answers, since its start.

    Example: tq stats --output json
    """
    with connect(context, brokers, timeout, verbose) as client:
        found = show.plain(client.stats())
    if output is not Format.TABLE:
        show.document(found, output)
        return
    show.record(world(context), output, _flat(found))


@told
def status(
    context: typer.Context,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """The nodes: who leads, how far each has come, and how many may be lost without loss of tasks.

    Example: tq cluster-status --output json
    """
    with connect(context, brokers, timeout, verbose) as client:
        found = show.plain(client.cluster_status())
    if output is not Format.TABLE:
        show.document(found, output)
        return
    cluster = found.get("cluster") or {}
    say(f"cluster {cluster.get('name')} ({cluster.get('id')}); nodes that may be lost: {found.get('may_lose')}")
    show.rows(world(context), output, found.get("nodes", []), NODE_COLUMNS)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found.update(_flat(item, f"{prefix}{name}."))
        else:
            found[prefix + name] = item
    return found
