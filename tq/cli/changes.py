"""What became of tasks that were changed by their ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from tq.cli import show
from tq.cli.base import FAILED, Format, World, dashed, say


def changes(world: World, output: Format, changed: Iterable[Any]) -> None:
    """State of each id; exit code 1 if one was refused."""
    rows = [show.plain(change) for change in changed]
    told(world, output, rows)


def told(world: World, output: Format, rows: list[dict[str, Any]]) -> None:
    failed = [row for row in rows if row["error"] is not None]
    done = rows if output is not Format.TABLE else [row for row in rows if row["error"] is None]
    if done or not world.is_terminal():
        show.rows(world, output, done, ("id", "state"))
    for row in failed:
        say_refused(row["id"], row["error"]["message"])
    if failed:
        raise typer.Exit(FAILED)


def say_refused(id: str, why: str) -> None:
    say(f"tq: {id}: {dashed(why)}")
