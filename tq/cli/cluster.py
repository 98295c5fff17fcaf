"""``tq workers``, ``tq stats``, ``tq cluster-status``: the cluster itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tq.cli import show
from tq.cli.base import Brokers, Format, Output, Timeout, Verbose, connect, say, told, world
from tq.errors import BrokerUnavailable, NotLeader

WATCH_SECONDS = 1.0
CLEAR_SCREEN = "\x1b[H\x1b[2J"

NODE_COLUMNS = (
    "id",
    "role",
    "reachable",
    "term",
    "leader",
    "last",
    "commit",
    "applied",
    "checkpointed",
    "lag",
    "disk_free",
    "sync_p99",
    "clock_offset",
    "uptime",
    "version",
    "address",
)
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
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second, until Ctrl-C.")] = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """The nodes: who leads, how far each has come, what is wrong, and how many may be lost.

    Any node answers for all of them. Example: tq cluster-status --watch
    """
    with connect(context, brokers, timeout, verbose) as client:
        if not watch:
            _show(context, output, show.plain(client.cluster_status()))
            return
        while True:
            try:
                found = show.plain(client.cluster_status())
            except (BrokerUnavailable, NotLeader) as error:
                say(f"tq: {error.message}")  # to see it come back is what one watches for
            else:
                _show(context, output, found, again=True)
            world(context).pause(WATCH_SECONDS)


def _show(context: typer.Context, output: Format, found: dict[str, Any], *, again: bool = False) -> None:
    if output is Format.JSON and again:
        show.line(found)
        return
    if output is not Format.TABLE:
        if again:
            typer.echo("---")
        show.document(found, output)
        return
    if again and world(context).is_terminal():
        typer.echo(CLEAR_SCREEN, nl=False, color=True)
    nodes = found.get("nodes", [])
    down = {node["id"] for node in nodes if not node.get("reachable")}
    say(_headline(found))
    show.rows(world(context), output, [_row(node) for node in nodes], NODE_COLUMNS)
    for node in nodes:
        for trouble in _troubles(node, down):
            say(f"{node['id']}: {trouble}")


def _headline(found: dict[str, Any]) -> str:
    cluster, nodes = found.get("cluster") or {}, found.get("nodes", [])
    name = f"cluster {cluster.get('name')} ({cluster.get('id')})"
    reachable = sum(1 for node in nodes if node.get("reachable"))
    if reachable * 2 <= len(nodes):
        return (
            f"{name}: NO MAJORITY, {reachable} of {len(nodes)} nodes can be reached from "
            f"{cluster.get('answered_by')}: it accepts nothing, and what it shows may be old"
        )
    if not cluster.get("leader"):
        return f"{name}: NO LEADER now; nothing is accepted until one is elected"
    return f"{name}: {cluster['leader']} leads term {cluster['term']}; may lose {_more_nodes(found['may_lose'])}"


def _more_nodes(count: int) -> str:
    return f"{count} more node{'' if count == 1 else 's'}" if count else "no more node"


def _row(node: dict[str, Any]) -> dict[str, Any]:
    """As a table has it: with units."""
    row = dict(node)
    if node.get("disk_free_bytes") is not None:
        row["disk_free"] = f"{node['disk_free_bytes'] / 2**30:.1f} GiB"
    if node.get("sync_p99_ms") is not None:
        row["sync_p99"] = f"{node['sync_p99_ms']:.1f} ms"
    if node.get("clock_offset_ms") is not None:
        row["clock_offset"] = f"{node['clock_offset_ms']:+d} ms"
    if node.get("uptime_ms") is not None:
        row["uptime"] = _span(node["uptime_ms"] // 1000)
    return row


def _span(seconds: int) -> str:
    """The two largest units: 3 d 4 h, 5 h 10 min, 7 min 2 s, 9 s."""
    parts = [
        (seconds // 86_400, "d"),
        (seconds // 3_600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    ]
    first = next((at for at, (count, _unit) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def _troubles(node: dict[str, Any], down: set[str]) -> list[str]:
    """What somebody should look after. down: of those it is told once that they cannot be reached, and why."""
    if not node.get("reachable"):
        return [f"cannot be reached: {node.get('reason')}"]
    found = []
    if node.get("disk_is_low"):
        found.append("its disk is nearly full: submissions are refused if it leads, or if a majority has no room")
    if node.get("clock") == "far":
        found.append("its clock is wrong, so it does not lead: set it")
    elif node.get("clock") == "warn":
        found.append("its clock differs from those of the others")
    if (node.get("raft") or {}).get("election_is_short"):
        found.append('its disk is slow for the election time-out: use profile = "default", or a faster disk')
    for peer, way in sorted((node.get("peers") or {}).items()):
        if peer in down:
            continue
        if way.get("refused"):
            found.append(f"refuses {peer}: {way['refused']}")
        elif way.get("reachable") is False:
            found.append(f"cannot reach {peer}: {way.get('reason')}")
    return found


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found.update(_flat(item, f"{prefix}{name}."))
        else:
            found[prefix + name] = item
    return found
