"""Each rule of the contract, told by a script: blocks of ``commands / ---- / expected`` in scripts/*.txt.

The language is in ``language.py``. The real machine answers; the naive model runs beside it and must agree, so an
expected text can be wrong only where both are. After a change that is meant, ``pytest tests/machine --rewrite``
writes what the machine says now: read the diff.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import START_MS, Pair
from language import Reader, duration_ms
from rendering import Printer

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
QUESTIONS = ("show", "history", "counts")


def run(text: str) -> str:
    """The script with what the machine says in place of what was expected."""
    pair = Pair()
    reader, printer = Reader(START_MS), Printer(pair)
    out: list[str] = []
    for paragraph in text.strip("\n").split("\n\n"):
        if all(line.startswith("#") for line in paragraph.splitlines()):
            out.append(paragraph)
            continue
        asked, _, _expected = paragraph.partition("\n----")
        said = block(asked, pair, reader, printer)
        out.append("\n".join([asked, "----", *said]))
    return "\n\n".join(out) + "\n"


def block(asked: str, pair: Pair, reader: Reader, printer: Printer) -> list[str]:
    lines = [line for line in asked.splitlines() if not line.startswith("#")]
    if lines and (step := re.fullmatch(r"([+-])(\w+)", lines[0])):
        lines.pop(0)
        pair.time_ms += duration_ms(step[2]) * (1 if step[1] == "+" else -1)
    if lines and lines[0].split()[0] in QUESTIONS:
        return [answer for line in lines for answer in printer.question(line)]
    if lines == ["restart"]:
        pair.restart()
        return ["ok"]
    if not lines:
        return [printer.clock()]
    commands = [reader.command(line) for line in lines]
    applied = pair.apply(commands)
    reader.remember(applied.granted)
    pair.check()
    return printer.entry(commands, applied)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    assert text.startswith("# "), "a script begins with its rule, in a sentence"
    said = run(text)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(said)
    assert said == path.read_text()


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) > 30
