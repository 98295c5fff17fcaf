"""``tq cluster-status`` and ``tq cluster``: the nodes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tq.cli import known, rebuild, show, times
from tq.cli.base import (
    FAILED,
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
    fail,
    say,
    told,
    world,
)
from tq.cli.watch import look
from tq.errors import BrokerUnavailable, NotLeader

COLUMNS = (
    "id", "role", "reachable", "term", "leader", "last", "commit", "applied", "checkpointed", "lag", "disk_free", "sync_p99",
    "clock_offset", "uptime", "version", "address",
)  # fmt: skip
SHOWN = (
    "id", "role", "address", "lag", "disk_free", "sync_p99", "clock_offset", "uptime", "applied", "commit", "last",
    "checkpointed", "term", "leader", "version",
)  # fmt: skip
READY_POLL_S = 0.2
ID_DIGITS = 8
"""Of the cluster's id, for people."""


def add(app: typer.Typer) -> None:
    app.command("cluster-status", short_help="Show the nodes, and what is wrong with them.")(status)
    group = typer.Typer(help="Act on the nodes of a cluster.", no_args_is_help=True, rich_markup_mode=None)
    group.command("wait-ready")(wait_ready)
    group.command("transfer")(transfer)
    group.command("rebuild")(rebuild.rebuild)
    app.add_typer(group, name="cluster", short_help="Wait for the nodes of a cluster, move leadership, rebuild a node.")


@told
def status(
    context: typer.Context,
    watch: Watch = False,
    every: Every = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """The nodes: who leads, how far each has come, what is wrong, and how many may be lost.

    Any node answers for all of them.

    Example: tq cluster-status --watch
    """
    here = world(context)
    every_s = every_seconds(watch, every)
    with connect(context, brokers, timeout, verbose) as client:
        look(
            here, output, every_s, client.cluster_status, show.plain,
            lambda found, _lines_max: _draw(here, show.plain(found)),
        )  # fmt: skip


@told
def wait_ready(
    context: typer.Context,
    within: Annotated[str, typer.Option("--within", metavar="DURATION", help="So long at most.")] = "1m",
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", metavar="N", min=1, help="So many nodes are enough [default: all of the cluster]."),
    ] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Wait until a leader serves, and all nodes are reachable and have what it has; exit code 1 if that takes too long.

    Example: tq cluster wait-ready --within 30s
    """
    here = world(context)
    patience = times.seconds("--within", within) or 0.0
    end = here.now() + patience
    missing, told_of = "no broker was reached", ""
    with connect(context, brokers, timeout, verbose) as client:
        while True:
            try:
                found = show.plain(client.cluster_status())
                missing = _missing(found, nodes)
            except (BrokerUnavailable, NotLeader) as error:
                missing = error.message
            if not missing:
                break
            if verbose and missing != told_of:
                say(missing)
                told_of = missing
            if here.now() >= end:
                fail(f"not ready within {times.span(patience)}: {missing}", FAILED)
            here.pause(READY_POLL_S)
    if output is Format.TABLE:
        say(_headline(found))
    else:
        show.document(found, output)


@told
def transfer(
    context: typer.Context,
    node: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE",
            help="Who shall lead [default: who has most of the log].",
            autocompletion=known.completes(known.nodes),
        ),
    ] = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Let another node lead, before its machine is worked on or because it is nearer; users notice nothing.

    Example: tq cluster transfer n2
    """
    with connect(context, brokers, timeout, verbose) as client:
        leader = client.transfer_leadership(node)
    if output is not Format.TABLE:
        show.document({"leader": leader}, output)
    elif node in (None, leader):
        say(f"{leader} leads now")
    else:
        fail(f"{leader} leads now, not {node}: an election came in between", FAILED)


def _missing(found: dict[str, Any], wanted: int | None) -> str:
    """What keeps the cluster from being ready; empty: nothing."""
    nodes, cluster = found.get("nodes", []), found.get("cluster") or {}
    if cluster.get("waits"):
        return str(cluster["waits"])
    if not cluster.get("leader"):
        return "no node leads"
    usable = [node for node in nodes if node.get("reachable") and not node.get("lag") and not node.get("joining")]
    count = len(nodes) if wanted is None else wanted
    if len(usable) >= count:
        return ""
    late = [node["id"] for node in nodes if node not in usable]
    return f"{len(usable)} of {count} nodes are there and up to date; not {', '.join(late)}"


def _draw(here: World, found: dict[str, Any]) -> None:
    nodes = found.get("nodes", [])
    down = {node["id"] for node in nodes if not node.get("reachable")}
    say(_headline(found))
    show.rows(here, Format.TABLE, [_row(node) for node in nodes], COLUMNS, SHOWN)
    for node in nodes:
        for trouble in _troubles(node, down):
            say(f"{node['id']}: {trouble}")


def _headline(found: dict[str, Any]) -> str:
    cluster, nodes = found.get("cluster") or {}, found.get("nodes", [])
    name = f"cluster {cluster.get('name')}" + (f" ({_short(cluster['id'])})" if cluster.get("id") else "")
    if cluster.get("waits"):
        return f"{name}: NOT FORMED yet, so it accepts nothing: {cluster['waits']}"
    reachable = sum(1 for node in nodes if node.get("reachable"))
    if reachable * 2 <= len(nodes):
        return (
            f"{name}: NO MAJORITY, {reachable} of {len(nodes)} nodes can be reached from "
            f"{cluster.get('answered_by')}: it accepts nothing, and what it shows may be old"
        )
    if not cluster.get("leader"):
        return f"{name}: NO LEADER now; nothing is accepted until one is elected"
    return f"{name}: {cluster['leader']} leads term {cluster['term']}; may lose {_more_nodes(found['may_lose'])}"


def _short(id: str) -> str:
    return id if len(id) <= ID_DIGITS else f"{id[:ID_DIGITS]}…"


def _more_nodes(count: int) -> str:
    return f"{count} more node{'' if count == 1 else 's'}" if count else "no more node"


def _row(node: dict[str, Any]) -> dict[str, Any]:
    """As a table has it: with units."""
    row = dict(node)
    if not node.get("reachable"):
        row["role"] = node.get("role") or "down"
    if node.get("disk_free_bytes") is not None:
        row["disk_free"] = f"{node['disk_free_bytes'] / 2**30:.1f} GiB"
    if node.get("sync_p99_ms") is not None:
        row["sync_p99"] = f"{node['sync_p99_ms']:.1f} ms"
    if node.get("clock_offset_ms") is not None:
        row["clock_offset"] = f"{node['clock_offset_ms']:+d} ms"
    if node.get("uptime_ms") is not None:
        row["uptime"] = times.span(node["uptime_ms"] // 1000)
    return row


def _troubles(node: dict[str, Any], down: set[str]) -> list[str]:
    """What somebody should look after. down: of those it is told once that they cannot be reached, and why."""
    if not node.get("reachable"):
        return [f"cannot be reached: {node.get('reason')}"]
    found = []
    if node.get("joining"):
        found.append("is being rebuilt and has no vote yet: it counts for nothing until then")
    if node.get("disk_is_low"):
        found.append("its disk is nearly full: submissions are refused if it leads, or if a majority has no room")
    if node.get("snapshot_refused"):
        found.append(f"needs a snapshot and has no room for it, so it stays behind: {node['snapshot_refused']}")
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
