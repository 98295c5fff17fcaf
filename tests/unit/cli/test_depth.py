"""tq queue-depth: bars by band, in terminals of any width."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli.fake import FakeClient, run
from tests.unit.cli.test_queues import QUEUES, lines, table
from tq.cli import depth as d


def depth(width: int, **how: Any) -> list[str]:
    return lines(run(FakeClient(queues=QUEUES), "queue-depth", terminal=True, size=(width, 24), **how).stdout)


def test_bars_by_band_wide() -> None:
    assert depth(100) == [
        "queue   pending  high  normal  low  running  oldest  scheduled  █ high ▓ normal ░ low",
        "mail          8     5       2    1        3    7m2s             ██▓░",
        "images       80            80                    3s          4  " + "▓" * 33,
        "idle",
    ]  # fmt: skip


def test_bars_by_band_narrow() -> None:
    assert depth(50) == [
        "queue   pending  high  normal",
        "mail          8     5       2  █▓░",
        "images       80            80  " + "▓" * 16,
        "idle",
        "█ high ▓ normal ░ low",
    ]  # fmt: skip
    assert max(map(len, depth(50))) <= 50


def test_bars_have_colours_where_they_are_wanted() -> None:
    assert "\x1b[31m" in "".join(depth(100, colour=True))
    assert "\x1b" not in "".join(depth(100))


def test_in_a_pipe_there_are_numbers_only() -> None:
    row = table(run(FakeClient(), "queue-depth").stdout)[0]
    assert (row["name"], row["high"], row["normal"], row["low"], row["pending_total"], row["running"]) == (
        "mail", "5", "2", "1", "8", "3"
    )  # fmt: skip
    assert json.loads(run(FakeClient(), "queue-depth", "-o", "json").stdout)[0]["pending"]["high"] == 5


def test_a_bar_shows_what_is_not_zero() -> None:
    bar = dict(d.bar_of({"high": 1, "low": 10_000}, 10_001, 40, d.BAND_MARKS))
    assert (len(bar["high"]), len(bar["low"])) == (1, 40)
    assert d.bar_of({}, 0, 40, d.BAND_MARKS) == []
    assert d.band_marks("latin-1") == d.BAND_MARKS_ASCII
    assert d.band_marks("utf-8") == d.band_marks(None) == d.BAND_MARKS
