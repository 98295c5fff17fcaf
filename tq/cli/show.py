"""How an answer is printed: a table for people, TSV for pipes, one JSON or YAML document for programs.

Bytes in JSON and YAML: ``{"text": ...}`` where they are UTF-8, else ``{"base64": ...}``. Fences are text there, because
they grow beyond what JavaScript can count. Times are epoch seconds; in tables, UTC.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from tq.cli.base import Format, World

Row = dict[str, Any]


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


def rows(world: World, form: Format, found: Sequence[Row], columns: Sequence[str], note: str = "") -> None:
    """A list of records. ``columns`` are those of the table; JSON and YAML have all of each record."""
    if form is not Format.TABLE:
        document(list(found), form)
        return
    cells = [[cell(name, row.get(name)) for name in columns] for row in found]
    if world.is_terminal():
        _rich_table(columns, cells, note)
        return
    typer.echo("\t".join(columns))
    for line_ in cells:
        typer.echo("\t".join(text.replace("\t", " ").replace("\n", " ") for text in line_))


def record(world: World, form: Format, value: Row, names: Sequence[str] | None = None) -> None:
    """One record: a line for each field that says something."""
    if form is not Format.TABLE:
        document(value, form)
        return
    shown = [(name, cell(name, value.get(name))) for name in names or list(value)]
    shown = [(name, text) for name, text in shown if text != ""]
    width = max((len(name) for name, _text in shown), default=0)
    for name, text in shown:
        typer.echo(f"{name:<{width}}  {text}" if world.is_terminal() else f"{name}\t{text}")


def cell(name: str, value: Any) -> str:
    """A value as a table has it; what says nothing is empty."""
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and name.endswith("_at"):
        return moment(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and set(value) == {"text"}:
        return str(value["text"])
    if isinstance(value, dict) and set(value) == {"base64"}:
        return f"base64:{value['base64']}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def moment(epoch: float) -> str:
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


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


def _rich_table(columns: Sequence[str], cells: list[list[str]], note: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", caption=note or None, caption_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for line_ in cells:
        table.add_row(*map(Text, line_))
    console = Console(no_color="NO_COLOR" in os.environ)
    # Too wide for the terminal: lines that it breaks can still be read and copied, columns that are cut cannot.
    natural = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, natural)
    console.print(table)


BAR_CELLS = 40
BANDS = ("high", "normal", "low")
BAND_MARKS = {"high": "█", "normal": "▓", "low": "░"}


def bar(pending: dict[str, int], largest: int) -> str:
    """Waiting tasks by band, high first; the longest bar has BAR_CELLS cells, and what is not zero has at least one."""
    if largest <= 0:
        return ""
    parts = []
    for band in BANDS:
        count = pending.get(band, 0)
        cells = round(BAR_CELLS * count / largest)
        parts.append(BAND_MARKS[band] * (max(1, cells) if count else 0))
    return "".join(parts)
