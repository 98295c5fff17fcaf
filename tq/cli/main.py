"""``tq``: the commands, one file per noun."""

from __future__ import annotations

from typing import Annotated

import typer

from tq.cli import (
    bench,
    broker,
    bulk,
    cancel,
    cluster,
    config,
    depth,
    dev,
    events,
    explain,
    queues,
    stats,
    submit,
    tasks,
    verify,
    worker,
    workers,
)
from tq.cli.base import FAILED, INTERRUPTED, World, close_output, is_of_output, say

EPILOG = "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach the cluster, 4 not allowed."


def _version(asked: bool) -> None:
    if asked:
        from tq.version import VERSION

        typer.echo(f"tq {VERSION}")
        raise typer.Exit


def new_app() -> typer.Typer:
    app = typer.Typer(
        name="tq",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        epilog=EPILOG,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        context: typer.Context,
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
        ] = False,
    ) -> None:
        """A distributed task queue whose broker is its own replicated database.

        Example: tq dev
        """
        if context.obj is None:
            context.obj = World()

    for noun in (
        dev, submit, tasks, cancel, bulk, explain, events, queues, depth, workers, stats, cluster, broker, worker, config, verify, bench
    ):  # fmt: skip
        noun.add(app)
    return app


def main() -> None:
    try:
        new_app()(prog_name="tq")
    except KeyboardInterrupt:  # while a shell waited for a completion, or before a command began
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:
        if not is_of_output(error):
            raise
        say(f"tq: standard output cannot be written: {error.strerror}")
        close_output()
        raise SystemExit(FAILED) from None
