from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tq.bench import apply, scenarios
from tq.bench.bed import Load
from tq.bench.scenarios import FULL, QUICK, SCENARIOS, rate
from tq.world import RealClock

PAGE = Path(__file__).resolve().parents[3] / "docs" / "performance.md"


def test_every_scenario_is_described_in_the_documentation() -> None:
    described = set(re.findall(r"^\| (\w+) \|", PAGE.read_text("utf-8").partition("<!-- bench: begin")[0], re.M))
    assert {*SCENARIOS, "S8", "worker"} == described


def test_every_scenario_says_what_it_is() -> None:
    assert all(inspect.getdoc(scenario) for scenario in SCENARIOS.values())


def test_what_needs_more_nodes_has_no_figure() -> None:
    (line,) = SCENARIOS["S7"](QUICK)
    assert line.value is None
    assert line.kept is None
    assert "--nodes 3" in line.note


def test_failover_is_measured_with_both_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"default": [900.0, 2_100.0, 800.0], "fast": [200.0, 100.0, 300.0]}
    asked: list[tuple[int, int]] = []

    def pauses_ms(nodes: int, profile: str, kills: int) -> Iterator[float]:
        asked.append((nodes, kills))
        yield from times[profile]

    monkeypatch.setattr(scenarios.failover, "pauses_ms", pauses_ms)
    lines = list(SCENARIOS["S7"](attrs.evolve(FULL, nodes=3)))
    assert [(line.value, line.kept) for line in lines] == [(900, True), (2_100, False), (200, True), (300, True)]
    assert lines[0].note == "800 900 2100"
    assert asked == [(3, 20), (3, 20)]


def test_budgets_are_of_one_and_of_three_nodes() -> None:
    scales = [attrs.evolve(QUICK, nodes=nodes) for nodes in (1, 3, 5)]
    assert [scale.budget(2, 1) for scale in scales] == [2, 1, None]


def test_rates_of_processes_add_up() -> None:
    assert rate([Load(100, 2, 1, 0, 0, 0), Load(300, 2, 1, 0, 0, 0)]) == 200


def test_quick_is_less_in_everything() -> None:
    assert QUICK.seconds < FULL.seconds
    assert QUICK.work_seconds < FULL.work_seconds
    assert QUICK.behind < FULL.behind
    assert QUICK.kills < FULL.kills
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
