"""tq stats."""

from __future__ import annotations

import json

from tests.unit.cli.fake import FakeClient, run
from tq.cli.stats import flat


def test_a_line_a_number_and_one_document() -> None:
    assert "tasks.pending\t4" in run(FakeClient(), "stats").stdout.splitlines()
    assert "tasks.pending  4" in run(FakeClient(), "stats", terminal=True).stdout.splitlines()
    assert json.loads(run(FakeClient(), "stats", "-o", "json").stdout) == {"node": "n1", "tasks": {"pending": 4}}


def test_flat() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a.b.c": 1, "a.d": 2, "e": 3}


def test_what_is_for_programs_is_not_in_the_table() -> None:
    assert flat(
        {"submit_seconds": {"count": 2, "sum": 0.1, "buckets": [[0.5, 2], [None, 0]]}, "events": [["mail", "dead", 1]]}
    ) == {"submit_seconds.count": 2, "submit_seconds.sum": 0.1, "events.mail.dead": 1}
