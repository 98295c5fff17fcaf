"""``tq broker``: run one node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tq.cli import known
from tq.cli.base import told


def add(app: typer.Typer) -> None:
    app.command("broker", short_help="Run a node.")(run)


@told
def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The TOML file; without it, defaults.", autocompletion=known.files
        ),
    ] = None,
    listen: Annotated[str | None, typer.Option("--listen", metavar="HOST:PORT", help="Instead of node.listen.")] = None,
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", metavar="FOLDER", help="Instead of node.data_dir.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="Instead of log.level.", autocompletion=known.LOG_LEVELS)
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option("--log-format", help="Instead of log.format: text or json.", autocompletion=known.LOG_FORMATS),
    ] = None,
) -> None:
    """Run a broker until SIGTERM or Ctrl-C.

    Example: tq broker --config n1.toml
    """
    from tq.config import load

    flags = {"node.listen": listen, "node.data_dir": data_dir, "log.level": log_level, "log.format": log_format}
    loaded = load(config, os.environ, flags)
    from tq.broker.run import main

    raise typer.Exit(main(loaded.config))
