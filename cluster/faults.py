"""What can happen to the nodes of ``make cluster``, on request: ``python -m cluster.faults kill leader``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster import spec
from cluster.up import STOP_SECONDS_MAX, Cluster, Node, UpFailed, say
from tq.errors import ConfigError


def kill(cluster: Cluster, node: Node) -> str:
    """kill -9"""
    _signal(node, signal.SIGKILL)
    node.ended(STOP_SECONDS_MAX)
    return "killed with -9"


def stop(cluster: Cluster, node: Node) -> str:
    """stop it as an operator does (SIGTERM)"""
    _signal(node, signal.SIGTERM)
    if not node.ended(STOP_SECONDS_MAX):
        raise UpFailed(f"{node.name} did not end within {STOP_SECONDS_MAX:g} s")
    return "stopped"


def start(cluster: Cluster, node: Node) -> str:
    """start it again"""
    return f"started (pid {node.start()})"


def pause(cluster: Cluster, node: Node) -> str:
    """let it stand still, as a machine that swaps (SIGSTOP)"""
    _signal(node, signal.SIGSTOP)
    return "paused"


def resume(cluster: Cluster, node: Node) -> str:
    """let it go on after a pause"""
    _signal(node, signal.SIGCONT)
    return "goes on"


def cut(cluster: Cluster, node: Node) -> str:
    """cut it off from the other nodes; clients still reach it"""
    _cut(cluster, node, True)
    return "cut off from the other nodes"


def heal(cluster: Cluster, node: Node) -> str:
    """connect it again after a cut"""
    _cut(cluster, node, False)
    return "connected again"


FAULTS: Mapping[str, Callable[[Cluster, Node], str]] = {
    fault.__name__: fault for fault in (kill, stop, start, pause, resume, cut, heal)
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.faults", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Do something to a node of the cluster that `make cluster` started.",
        epilog="\n".join(f"{name:<7} {fault.__doc__}" for name, fault in FAULTS.items()),
    )  # fmt: skip
    parser.add_argument("fault", choices=list(FAULTS))
    parser.add_argument("node", help="n1, n2 ..., or leader: the one that leads now")
    parser.add_argument("--file", type=Path, default=spec.THREE, help="which cluster [three.toml]")
    options = parser.parse_args(argv)
    try:
        cluster = Cluster(spec.read(options.file))
        node = cluster.node(options.node)
        say(f"{node.name} {FAULTS[options.fault](cluster, node)}")
    except (UpFailed, ConfigError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


def _signal(node: Node, number: int) -> None:
    if not node.signal(number):
        raise UpFailed(f"{node.name} does not run: python -m cluster.faults start {node.name}")


def _cut(cluster: Cluster, node: Node, is_cut: bool) -> None:
    if not cluster.links.are_used:
        raise UpFailed(
            "the nodes reach each other directly, so there is nothing to cut: start the cluster with make cluster LINKS=1"
        )
    if cluster.carrier.pid is None:
        raise UpFailed("the ways between the nodes have ended: make cluster-down, then make cluster LINKS=1")
    cluster.links.set_cut(node.name, is_cut)


if __name__ == "__main__":
    sys.exit(main())
