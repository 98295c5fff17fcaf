from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tq.bench import facts, report
from tq.bench.measure import Line

LINES = [
    Line("S1", "submits", 2_345, "/s", 2_000, "higher", "one client"),
    Line("S1", "p99", 3.0, "ms", 2, "lower"),
    Line("S4", "p50", 2.0, "ms", None, "lower"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> facts.Facts:
    return facts.gather(tmp_path_factory.mktemp("facts"), syncs=3, busy_seconds=0.1)


def test_facts_are_of_this_machine(here: facts.Facts) -> None:
    assert here.cores == len(os.sched_getaffinity(0))
    assert here.sync.count == 3
    assert here.libraries["pysyncobj"] == "0.3.17"
    assert 1 < here.python_step_ns < 1e6
    assert "ns a step" in here.lines()[2]


def test_text_names_figure_budget_and_verdict(here: facts.Facts) -> None:
    text = report.as_text(here, LINES)
    assert "2,340 /s" in text or "2,350 /s" in text
    assert "≥ 2,000 /s" in text
    assert "MISSED" in text


def test_json_is_one_document(here: facts.Facts) -> None:
    document = json.loads(report.as_json(here, LINES))
    assert [line["kept"] for line in document["lines"]] == [True, False, None]
    assert document["facts"]["cores"] == here.cores


def test_write_replaces_what_stands_between_the_markers(tmp_path: Path, here: facts.Facts) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", "utf-8")
    for _ in range(2):
        report.write(page, report.as_markdown(here, LINES))
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert text.count("| S1 |") == 2


def test_figures_of_several_nodes_have_a_place_of_their_own(tmp_path: Path, here: facts.Facts) -> None:
    page = tmp_path / "performance.md"
    first, last = report.markers(3)
    page.write_text(f"{report.BEGIN}\none\n{report.END}\n{first}\nold\n{last}\nafter\n", "utf-8")
    assert report.has_markers(page, 1)
    assert report.has_markers(page, 3)
    assert not report.has_markers(page, 5)
    report.write(page, report.as_markdown(here, LINES), 3)
    text = page.read_text("utf-8")
    assert text.startswith(f"{report.BEGIN}\none\n{report.END}\n{first}\n")
    assert text.endswith(f"{last}\nafter\n")
    assert "old" not in text


def test_write_refuses_a_page_without_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing here", "utf-8")
    with pytest.raises(ValueError, match="markers"):
        report.write(page, "x")


def test_memory_and_processor_time_of_a_process() -> None:
    anonymous, resident = facts.memory_mb(os.getpid())
    assert 1 < anonymous <= resident
    assert facts.processor_seconds(os.getpid()) > 0


def test_the_share_of_others_is_of_the_time_between_two_calls() -> None:
    looks = iter([(100.0, 40.0), (110.0, 43.0), (110.05, 43.05), (120.0, 43.0), (130.0, 60.0)])
    others = facts.Others(lambda: next(looks))
    assert others.percent() == 30
    assert others.percent() == 30, "too soon to tell"
    assert others.percent() == 0
    assert others.percent() == 100


def test_our_own_work_is_not_that_of_others() -> None:
    before = facts.processor_use()
    sum(number * number for number in range(2_000_000))
    after = facts.processor_use()
    ours = (after[0] - before[0]) - (after[1] - before[1])
    assert ours > 0
