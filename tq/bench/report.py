"""The lines of a run for people, for programs and for docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs

from tq.bench.facts import Facts
from tq.bench.measure import Line, shown

BEGIN = "<!-- bench: begin (written by make bench) -->"
END = "<!-- bench: end -->"
BEGIN_NODES = "<!-- bench of {nodes} nodes: begin (written by make bench NODES={nodes}) -->"
END_NODES = "<!-- bench of {nodes} nodes: end -->"
HEADER = ("", "what", "measured", "budget", "", "others", "note")


def row(line: Line) -> tuple[str, ...]:
    mark = {True: "kept", False: "MISSED", None: ""}[line.kept]
    sign = "≥" if line.better == "higher" else "≤"
    budget = "" if line.budget is None else f"{sign} {shown(line.budget)} {line.unit}".rstrip()
    value = "–" if line.value is None else f"{shown(line.value)} {line.unit}".rstrip()
    others = "" if line.others is None or line.value is None else f"{line.others:.0f} %"
    return (line.scenario, line.what, value, budget, mark, others, line.note)


def table(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    return [row(line) for line in lines]


def as_text(facts: Facts, lines: Sequence[Line]) -> str:
    rows = [HEADER, *table(lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*facts.lines(), "", *body])


def as_markdown(facts: Facts, lines: Sequence[Line]) -> str:
    head = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    body = ["| " + " | ".join(row) + " |" for row in table(lines)]
    return "\n".join([*(f"{line}  " for line in facts.lines()), "", *head, *body])


def as_json(facts: Facts, lines: Sequence[Line]) -> str:
    measured = [{**attrs.asdict(line), "kept": line.kept} for line in lines]
    return json.dumps({"facts": attrs.asdict(facts), "lines": measured}, indent=2)


def markers(nodes: int = 1) -> tuple[str, str]:
    """Between which the figures of so many nodes stand."""
    return (BEGIN, END) if nodes == 1 else (BEGIN_NODES.format(nodes=nodes), END_NODES.format(nodes=nodes))


def has_markers(path: Path, nodes: int = 1) -> bool:
    """Whether ``write`` can write there."""
    if not path.is_file():
        return False
    text = path.read_text("utf-8")
    first, last = markers(nodes)
    return 0 <= text.find(first) < text.find(last)


def write(path: Path, markdown: str, nodes: int = 1) -> None:
    """Replace what stands between the markers. ValueError if they are not both there, in order."""
    text = path.read_text("utf-8")
    first, last = markers(nodes)
    begin, end = text.find(first), text.find(last)
    if begin < 0 or end < begin:
        raise ValueError(f"{path} lacks the markers {first!r} and {last!r}")
    path.write_text(text[: begin + len(first)] + "\n" + markdown + "\n" + text[end:], "utf-8")
