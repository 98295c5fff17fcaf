"""What docs/semantics.md shows of the machine is true of the code."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tq import limits
from tq.machine.history import STALE_ROWS_MAX
from tq.machine.task import Reason

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "semantics.md").read_text()


def test_the_picture_is_drawn_from_the_table() -> None:
    draw = runpy.run_path(str(DOCS / "draw_states.py"))
    assert draw["drawn"](PAGE) == PAGE, "run: python docs/draw_states.py"


def test_every_reason_is_explained() -> None:
    for reason in Reason:
        assert reason is Reason.NONE or f"| `{reason.name.lower()}` |" in PAGE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("at most 1,000; the next one is a failure", limits.SNOOZES_MAX == 1_000),
        ("the last 64 rows are kept", limits.HISTORY_ROWS_MAX == 64),
        ("at most 8 rows of a task", STALE_ROWS_MAX == 8),
        (
            "holds at most 1,000 tasks, one grant\nat most 12 MiB",
            (limits.SESSION_TASKS_MAX, limits.GRANT_BYTES_MAX) == (1_000, 12 << 20),
        ),
        (
            "default 5 s, 2, 1 h, 20 %",
            (limits.BACKOFF_BASE_MS_DEFAULT, limits.BACKOFF_CAP_MS_DEFAULT) == (5_000, 3_600_000),
        ),
        ("64 KiB at most", limits.ERROR_TEXT_BYTES_MAX == 64 << 10),
        ("the memory window (24 h)", limits.TOMBSTONE_KEEP_MS_DEFAULT == limits.DAY_MS),
        ("more than a million;\ndead ones after 30 days", limits.DEAD_KEEP_MS_DEFAULT == 30 * limits.DAY_MS),
    ],
)
def test_numbers_in_the_page_are_the_code_s(text: str, value: bool) -> None:
    assert text in PAGE
    assert value
