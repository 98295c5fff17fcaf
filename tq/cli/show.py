"""How an answer is printed: a table for people, TSV for pipes, one JSON or YAML document for programs.

Bytes in JSON and YAML: ``{"text": ...}`` where they are UTF-8, else ``{"base64": ...}``. Fences are text there, because
they grow beyond what JavaScript can count. Times are epoch seconds; in pipes UTC; on a terminal, how long ago.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from tq.cli import times
from tq.cli.base import Format, World, say, wrapped

Row = dict[str, Any]

STATE_COLOURS = {
    "pending": "yellow", "scheduled": "blue", "waiting": "blue", "running": "cyan", "cancelling": "magenta",
    "completed": "green", "dead": "red", "cancelled": "magenta", "expired": "magenta", "skipped": "magenta",
}  # fmt: skip
NOTHING_AT_ZERO = ("attempt", "crashes", "snoozes", "waiting", "completed")
"""Not worth a place on a terminal then."""
VALUE_CELLS_MAX = 400
"""More of a payload or result is not shown on a terminal."""


def document(value: Any, form: Format) -> None:
    """One document on standard output."""
    if form is Format.YAML:
        import yaml

        typer.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n"))
    else:
        typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def line(value: Any) -> None:
    """One JSON document on a line of its own, for streams."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def rows(
    world: World,
    form: Format,
    found: Sequence[Row],
    columns: Sequence[str],
    shown: Sequence[str] | None = None,
    lines_max: int | None = None,
) -> None:
    """A list of records.

    columns: of the lines in a pipe; JSON and YAML have all of each record. shown: those of the table on a terminal, in
    the order of their weight (``table.py``). lines_max: so many lines of a terminal it may take.
    """
    if form is not Format.TABLE:
        document(list(found), form)
    elif world.is_terminal():
        _table(world, found, shown or columns, lines_max)
    else:
        typer.echo("\t".join(columns))
        for row in found:
            cells = [cell(name, row.get(name)) for name in columns]
            typer.echo("\t".join(text.replace("\t", " ").replace("\n", " ") for text in cells))


def record(
    world: World, form: Format, value: Row, names: Sequence[str] | None = None, lines_max: int | None = None
) -> None:
    """One record: a line for each field that says something. lines_max: so many lines of a terminal it may take."""
    if form is not Format.TABLE:
        document(value, form)
        return
    on_terminal = world.is_terminal()
    fields = [(name, cell(name, value.get(name))) for name in names or list(value)]
    fields = [
        (name, text)
        for name, text in fields
        if text != "" and not (on_terminal and (value[name] is False or (name in NOTHING_AT_ZERO and value[name] == 0)))
    ]
    cut = fields if lines_max is None or not on_terminal else fields[: max(1, lines_max)]
    width = max((len(name) for name, _text in fields), default=0)
    for name, text in cut:
        if not on_terminal:
            typer.echo(f"{name}\t{text}")
            continue
        item = value[name]
        since = f"  ({_when(item, world)})" if name.endswith("_at") and isinstance(item, float) else ""
        colour = STATE_COLOURS.get(text) if name == "state" else None
        put(world, f"{name:<{width}}  {painted(world, _short(text), colour)}{since}")
    _say_cut(len(fields) - len(cut))


def _when(epoch: float, world: World) -> str:
    text = times.ago(epoch, world.now())
    return text if text.startswith("in ") else f"{text} ago"


def _short(text: str) -> str:
    """What a terminal bears of it."""
    cut = safe(text[: VALUE_CELLS_MAX + 1])
    if len(text) <= VALUE_CELLS_MAX:
        return cut
    return f"{cut[:VALUE_CELLS_MAX]}… ({len(text):,} characters; all of it: --output json)"


def cell(name: str, value: Any) -> str:
    """A value as a table has it; what says nothing is empty."""
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and name.endswith("_at"):
        return times.moment(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and set(value) == {"text"}:
        return str(value["text"])
    if isinstance(value, dict) and set(value) == {"base64"}:
        return f"base64:{value['base64']}"
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def safe(text: str) -> str:
    """For a terminal: what tasks carry must not move its cursor. Line ends and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found.group())[1:-1], text)


def put(world: World, text: str = "", *, nl: bool = True) -> None:
    """A line of the answer, with its colours."""
    typer.echo(text, nl=nl, color=world.is_terminal())


def tell(world: World, text: str, indent: int = 0) -> None:
    """A sentence of the answer: a terminal breaks it between words."""
    put(world, wrapped(text, world.size()[0], indent) if world.is_terminal() else text)


def painted(world: World, text: str, colour: str | None, *, bold: bool = False) -> str:
    """In colour, where that is wanted."""
    if not world.has_colour() or (colour is None and not bold):
        return text
    return typer.style(text, fg=colour, bold=bold or None)


def octets(value: bytes | None) -> Any:
    """Bytes for JSON and YAML."""
    if value is None:
        return None
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def plain(value: Any, name: str = "") -> Any:
    """A record of the client, or a part of one, as JSON has it."""
    import attrs

    from tq.errors import TqError

    if isinstance(value, TqError):
        return {"code": value.code, "message": value.message, "retryable": value.retryable, "detail": value.detail}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return octets(bytes(value))
    if attrs.has(type(value)):
        fields = {f.name: plain(getattr(value, f.name), f.name) for f in attrs.fields(type(value))}
        if "raw_id" in fields:
            del fields["raw_id"]
            fields = {"id": value.id, **fields}
        return {**fields, **fields.pop("more", {})}
    if isinstance(value, dict):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    if name == "fence" and isinstance(value, int):
        return str(value)
    return value


# ---- tables on a terminal ----------------------------------------------------------------------------


def _table(world: World, found: Sequence[Row], names: Sequence[str], lines_max: int | None) -> None:
    from tq.cli.table import Cell, Column, draw

    width = world.size()[0]
    cut = found if lines_max is None else found[: max(1, lines_max - 1)]
    cells = [[Cell(*_terminal_cell(world, name, row.get(name))) for name in names] for row in cut]
    columns = [_column(name, [row.get(name) for row in cut]) for name in names]
    drawn = draw([Column(*column) for column in columns], cells, width)
    hidden = f"no room for {', '.join(drawn.hidden)}: widen the terminal, or --output json" if drawn.hidden else ""
    lines_more = wrapped(hidden, width).count("\n")
    if lines_max is not None and lines_more and len(found) + 1 + lines_more > lines_max:
        cut = found[: max(1, lines_max - 1 - lines_more)]
        drawn.lines[len(cut) + 1 :] = []
    for pieces in drawn.lines:
        texts = [piece.text for piece in pieces]
        texts[-1] = texts[-1].rstrip()
        styles = [piece.style for piece in pieces]
        put(world, "".join(_styled(world, text, style) for text, style in zip(texts, styles, strict=True)))
    _say_cut(len(found) - len(cut))
    if hidden:
        say(hidden)


def _say_cut(count: int) -> None:
    if count:
        say(f"and {count:,} more that have no room here")


def _styled(world: World, text: str, style: str | None) -> str:
    return painted(world, text, None, bold=True) if style == "bold" else painted(world, text, style)


def _column(name: str, values: Sequence[Any]) -> tuple[str, bool, bool]:
    """Title, whether it is a text that may be shortened, whether it is of numbers."""
    is_number = all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values if value is not None
    )
    is_text = not is_number and name != "state"
    return (
        name.removesuffix("_at").removesuffix("_total").replace("_", " "),
        is_text,
        is_number and not name.endswith("_at"),
    )


def _terminal_cell(world: World, name: str, value: Any) -> tuple[str, str | None]:
    if isinstance(value, float) and name.endswith("_at"):
        return times.ago(value, world.now()), None
    if value == 0 and name in NOTHING_AT_ZERO:
        return "", None
    text = safe(cell(name, value))
    return text, STATE_COLOURS.get(text) if name == "state" else None
