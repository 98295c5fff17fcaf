"""``tq cluster rebuild``: a node whose data directory is damaged or lost comes back under its old name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tq.cli import known
from tq.cli.base import Brokers, Timeout, Verbose, Yes, confirm, connect, fail, say, told
from tq.errors import StorageFailed


@told
def rebuild(
    context: typer.Context,
    config: Annotated[
        Path,
        typer.Option(
            "--config", metavar="FILE", help="The TOML file of the node to rebuild.", autocompletion=known.files
        ),
    ],
    yes: Yes = False,
    brokers: Brokers = None,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Give a node whose data directory is damaged or lost an empty one, under its old name, and have the cluster admit it.

    Run it on the machine of that node, while its broker is stopped. What is there is put aside, not removed. The others must
    have a leader. It may be run again, after whatever stopped it. Then start the broker: it fetches everything from the others.

    Without --brokers, those of the other nodes in the file are asked.

    Example: tq cluster rebuild --config n2.toml
    """
    from tq.broker import rebuild as directory
    from tq.broker.run import open_disk
    from tq.config import load
    from tq.world import RealRandom

    settings = load(config, os.environ).config
    node, others = settings.node.id, [peer for peer in settings.cluster.peers if peer.id != settings.node.id]
    if not others:
        fail(
            f"{node} is a group of one: nobody else has what its directory lost. Restore a backup of the directory; with an"
            " empty one it begins anew, without the tasks that it had"
        )
    disk = open_disk(settings.node.data_dir)
    try:
        if directory.is_done(disk, node):
            say(f"{node} is rebuilt already. Start its broker: it fetches everything from the others")
            return
        with connect(context, brokers or ",".join(peer.client for peer in others), timeout, verbose) as client:
            client.replace_node(node, None)
            confirm(
                context, yes,
                f"Give up what {node} has in {disk.root}? The cluster will not take these files back, and they are put aside.",
            )  # fmt: skip
            incarnation, aside = directory.begin(disk, RealRandom(), node)
            if aside is not None:
                say(f"what was there is in {disk.root}/{aside} now; remove it when the node is up to date")
            answer = client.replace_node(node, incarnation)
            directory.finish(disk, answer["cluster"], answer["members"], answer["index"])
    except OSError as error:
        raise StorageFailed(
            f"{settings.node.data_dir}: {error.strerror or error}; run it again when that is mended"
        ) from error
    finally:
        disk.unlock()
    say(f"{node} is admitted with an empty directory. Start its broker: it fetches everything from the others")
