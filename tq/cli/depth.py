"""``tq queue-depth``: what waits where, as bars."""

from __future__ import annotations

import sys
from typing import Any

import typer

from tq.cli import show, times
from tq.cli.base import (
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
    say,
    told,
    world,
)
from tq.cli.queues import NO_QUEUES, plain
from tq.cli.watch import look

BANDS = ("high", "normal", "low")
BAND_MARKS = {"high": "█", "normal": "▓", "low": "░"}
BAND_MARKS_ASCII = {"high": "#", "normal": "=", "low": "-"}
BAND_COLOURS = {"high": "red", "normal": "blue", "low": "cyan"}
DEPTH_COLUMNS = ("name", *BANDS, "pending_total", "scheduled", "waiting", "running", "oldest_ready_age")
DEPTH_SHOWN = ("pending_total", *BANDS, "running", "oldest", "scheduled", "waiting")
"""Behind the name and before the bar."""


def add(app: typer.Typer) -> None:
    app.command("queue-depth", short_help="Show what waits in each queue, as bars by band.")(depth)


@told
def depth(
    context: typer.Context,
    watch: Watch = False,
    every: Every = None,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Waiting tasks of each queue, as bars by band: █ high, ▓ normal, ░ low.

    Example: tq queue-depth --watch --every 2s
    """
    here = world(context)
    every_s = every_seconds(watch, every)
    with connect(context, brokers, timeout, verbose) as client:
        look(
            here, output, every_s, client.queues, lambda found: [plain(queue) for queue in found],
            lambda found, lines_max: _draw_depth(here, found, lines_max),
        )  # fmt: skip


def _draw_depth(here: World, found: list[Any], lines_max: int | None) -> None:
    rows = [plain(queue) for queue in found]
    for row, queue in zip(rows, found, strict=True):
        row.update({band: queue.pending.get(band, 0) for band in BANDS})
    if not here.is_terminal():
        show.rows(here, Format.TABLE, rows, DEPTH_COLUMNS)
    elif rows:
        _bars(here, rows, lines_max)
    if not rows:
        say(NO_QUEUES)


BAR_CELLS_MIN = 16
"""Numbers make room for it."""
NAME_CELLS_MAX = 24
LEGEND_CELLS = 22


def _bars(here: World, rows: list[dict[str, Any]], lines_max: int | None) -> None:
    from rich.cells import cell_len

    from tq.cli.table import Cell, Column, draw, shortened

    marks = band_marks(getattr(sys.stdout, "encoding", None))
    cut = rows if lines_max is None else rows[: max(1, lines_max - 2)]
    width = here.size()[0]
    for row in cut:
        row["oldest"] = times.span(row["oldest_ready_age"]) if row["pending_total"] else ""
    columns = [Column("queue")] + [Column(name.replace("_total", ""), to_right=True) for name in DEPTH_SHOWN]
    cells = [
        [
            Cell(shortened(show.safe(row["name"]), min(NAME_CELLS_MAX, width // 3))),
            *(Cell("" if row[name] in (0, "") else show.cell(name, row[name])) for name in DEPTH_SHOWN),
        ]
        for row in cut
    ]
    drawn = draw(columns, cells, max(1, width - BAR_CELLS_MIN - 2))
    used = sum(cell_len(piece.text) for piece in drawn.lines[0])
    largest = max(row["pending_total"] for row in cut)
    room = max(1, width - used - 2 - len(BANDS))
    legend = " ".join(f"{show.painted(here, marks[band], BAND_COLOURS[band])} {band}" for band in BANDS)
    is_beside = room >= LEGEND_CELLS
    for at, line in enumerate(drawn.lines):
        text = "".join(show.painted(here, piece.text, None, bold=piece.style == "bold") for piece in line)
        if at == 0:
            show.put(here, f"{text}  {legend}" if is_beside else text.rstrip())
            continue
        bar = bar_of(cut[at - 1]["pending"], largest, room, marks)
        drawn_bar = "".join(show.painted(here, part, BAND_COLOURS[band]) for band, part in bar)
        show.put(here, f"{text}  {drawn_bar}".rstrip())
    if not is_beside:
        show.put(here, legend)
    if len(cut) < len(rows):
        say(f"and {len(rows) - len(cut)} more that have no room here")


def band_marks(encoding: str | None) -> dict[str, str]:
    """Those that the terminal's encoding has."""
    try:
        "".join(BAND_MARKS.values()).encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return BAND_MARKS_ASCII
    return BAND_MARKS


def bar_of(pending: dict[str, int], largest: int, cells: int, marks: dict[str, str]) -> list[tuple[str, str]]:
    """Waiting tasks by band, high first, as (band, marks); the longest bar has ``cells``, what is not zero at least one."""
    if largest <= 0:
        return []
    parts = []
    for band in BANDS:
        count = pending.get(band, 0)
        if count:
            parts.append((band, marks[band] * max(1, round(cells * count / largest))))
    return parts
