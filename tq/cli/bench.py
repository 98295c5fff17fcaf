"""``tq bench``: measure tq on this machine."""

from __future__ import annotations

import typer

from tq.cli.base import told


def add(app: typer.Typer) -> None:
    app.command(
        "bench",
        short_help="Measure tq on this machine.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(run)


@told
def run(context: typer.Context) -> None:
    """Run the scenarios of docs/performance.md and print our figures beside the budgets.

    Arguments go to the benchmark as they are.

    Example: tq bench S1 S2
    """
    from tq.bench.run import main

    raise typer.Exit(main(list(context.args)))
