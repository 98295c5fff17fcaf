"""``tq config``: is a configuration usable, and where does each value come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tq.cli import known, show
from tq.cli.base import Format, Output, Verbose, told, world

File = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The TOML file; without it, defaults.", autocompletion=known.files),
]

COLUMNS = ("key", "value", "origin", "what")


def add(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Check and show the configuration of a broker.", no_args_is_help=True, rich_markup_mode=None
    )
    group.command("check")(check)
    group.command("show")(show_all)
    app.add_typer(group, name="config", short_help="Check and show a configuration.")


@told
def check(config: File = None, output: Output = Format.TABLE) -> None:
    """Say whether a broker would start with it; exit code 2 and all that is wrong if not.

    Example: tq config check --config n1.toml
    """
    from tq.config import load

    load(config, os.environ)
    if output is Format.TABLE:
        typer.echo("the configuration is usable")
    else:
        show.document({"usable": True}, output)


@told
def show_all(
    context: typer.Context, config: File = None, output: Output = Format.TABLE, verbose: Verbose = False
) -> None:
    """Print every value and where it comes from: file, environment variable, or default; with -v what it is for, too.

    Example: tq config show --config n1.toml
    """
    from tq.config import as_tree, comment, load

    loaded = load(config, os.environ)
    rows = [
        {
            "key": f"{section}.{name}",
            "value": value,
            "origin": loaded.origins[f"{section}.{name}"],
            **({"what": comment(section, name)} if verbose else {}),
        }
        for section, values in as_tree(loaded.config).items()
        for name, value in values.items()
    ]
    show.rows(world(context), output, rows, COLUMNS if verbose else COLUMNS[:-1])
