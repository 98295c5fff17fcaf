"""Tables on a terminal: whole columns or none, never a line that breaks.

Columns stand in the order of their weight. Where the terminal is too narrow, long texts are shortened first, with an
ellipsis; then columns are left out, the last one first, and whoever looks is told which. The first column (an id, a name)
is what one copies: it is never shortened and never left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from rich.cells import cell_len, set_cell_size

GAP: Final = 2
TEXT_CELLS_MIN: Final = 12
"""No text is shortened below this."""
ELLIPSIS: Final = "…"


@attrs.frozen
class Cell:
    """style: a colour's name of the terminal, or None."""

    text: str
    style: str | None = None


@attrs.frozen
class Column:
    """title: as it stands above. is_text: may be shortened. to_right: numbers."""

    title: str
    is_text: bool = False
    to_right: bool = False


@attrs.frozen
class Drawn:
    """lines: of (text, style) pieces, the header first. hidden: titles of the columns that had no room."""

    lines: list[list[Cell]]
    hidden: list[str]


def draw(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> Drawn:
    """As much of the table as ``width`` cells hold. What is empty in each row is left out without a word."""
    used = [at for at in range(len(columns)) if at == 0 or any(row[at].text for row in rows)]
    natural = {at: max([cell_len(columns[at].title), *(cell_len(row[at].text) for row in rows)]) for at in used}
    shown = list(used)
    widths = _fitted(columns, shown, natural, width)
    while widths is None:
        shown.pop()
        widths = natural if len(shown) == 1 else _fitted(columns, shown, natural, width)
    header = [Cell(columns[at].title, "bold") for at in shown]
    lines = [_line(columns, shown, widths, header)]
    lines += [_line(columns, shown, widths, [row[at] for at in shown]) for row in rows]
    return Drawn(lines, [columns[at].title for at in used if at not in shown])


def _fitted(
    columns: Sequence[Column], shown: Sequence[int], natural: dict[int, int], width: int
) -> dict[int, int] | None:
    """Widths that fit; None if even shortened texts do not. The longest text gives first."""
    widths = {at: natural[at] for at in shown}
    excess = sum(widths.values()) + GAP * (len(shown) - 1) - width
    texts = [at for at in shown[1:] if columns[at].is_text]
    while excess > 0:
        longest = max(texts, key=lambda at: widths[at], default=None)
        if longest is None or widths[longest] <= max(TEXT_CELLS_MIN, cell_len(columns[longest].title)):
            return None
        widths[longest] -= 1
        excess -= 1
    return widths


def _line(columns: Sequence[Column], shown: Sequence[int], widths: dict[int, int], cells: Sequence[Cell]) -> list[Cell]:
    line: list[Cell] = []
    for at, cell in zip(shown, cells, strict=True):
        text = shortened(cell.text, widths[at])
        pad = " " * (widths[at] - cell_len(text))
        padded = pad + text if columns[at].to_right else text + pad
        line.append(Cell(padded if at == shown[-1] else padded + " " * GAP, cell.style))
    return line


def shortened(text: str, cells: int) -> str:
    """At most so many cells wide, on one line."""
    flat = text.replace("\n", " ").replace("\t", " ")
    if cell_len(flat) <= cells:
        return flat
    return set_cell_size(flat, max(0, cells - 1)).rstrip() + ELLIPSIS
