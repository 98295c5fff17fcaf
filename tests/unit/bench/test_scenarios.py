from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tq.bench import apply
from tq.bench.bed import Load
from tq.bench.scenarios import FULL, QUICK, SCENARIOS, rate
from tq.world import RealClock

PAGE = Path(__file__).resolve().parents[3] / "docs" / "performance.md"


def test_every_scenario_is_described_in_the_documentation() -> None:
    described = set(re.findall(r"^\| (\w+) \|", PAGE.read_text("utf-8").partition("<!-- bench: begin")[0], re.M))
    assert {*SCENARIOS, "S8", "worker"} == described


def test_every_scenario_says_what_it_is() -> None:
    assert all(inspect.getdoc(scenario) or name == "S7" for name, scenario in SCENARIOS.items())


def test_what_needs_more_nodes_has_no_figure() -> None:
    (line,) = SCENARIOS["S7"](QUICK)
    assert line.value is None
    assert line.kept is None
    assert "not yet" in line.note


def test_rates_of_processes_add_up() -> None:
    assert rate([Load(100, 2, 1, 0, 0, 0), Load(300, 2, 1, 0, 0, 0)]) == 200


def test_quick_is_less_in_everything() -> None:
    assert QUICK.seconds < FULL.seconds
    assert QUICK.work_seconds < FULL.work_seconds
    assert QUICK.behind < FULL.behind
    assert max(QUICK.memory) < max(FULL.memory)


def test_apply_measures_three_kinds_of_entries_on_each_store() -> None:
    with apply.stores() as stores:
        for store in stores.values():
            figures = apply.best(apply.Bench(store, RealClock().monotonic_s), 200)
            assert set(figures) >= {"submit", "claim", "report"}
            assert all(figure > 0 for figure in figures.values())


@pytest.mark.parametrize("scenario", ["apply"])
def test_a_scenario_without_processes_gives_its_line(scenario: str) -> None:
    (line,) = SCENARIOS[scenario](QUICK)
    assert line.scenario == scenario
    assert line.value is not None
    assert line.value > 0
