"""tq verify: what is printed of a run, and how it exits. The stories are played by the tests of tq/sim/verify.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.unit.cli.fake import FakeClient, run
from tests.unit.sim.fake_story import FakeStory
from tq.sim import verify


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Stories at no cost. Seed 13 breaks a promise, seed 99 is interrupted."""
    seen: list[tuple[int, int]] = []

    def play(seed: int, size: int) -> Any:
        seen.append((seed, size))
        if seed == 13:
            error = AssertionError("lost: 0192: accepted by c1 in index 7, unknown at the end")
            error.add_note("it ended at 8000 ms, after")
            error.add_note("120 kill (n1)\n130 heal (n2)")
            raise error
        if seed == 99:
            raise KeyboardInterrupt
        return FakeStory()

    monkeypatch.setattr(verify, "play", play)
    return seen


def test_kept(played: list[tuple[int, int]]) -> None:
    result = run(FakeClient(), "verify", "--seed", "1", "--runs", "3", "--nodes", "5")
    assert played == [(1, 5), (2, 5), (3, 5)]
    assert result.exit_code == 0
    assert "played    3 stories of 5 nodes, seeds 1 to 3, in " in result.stdout
    assert "work      300 tasks submitted, 3,000 answers, 150 events heard" in result.stdout
    assert "trouble   6 kill, 3 power loss" in result.stdout
    assert "verdict   kept: no promise was broken" in result.stdout
    assert result.stdout.endswith("again     tq verify --seed 1 --runs 3 --nodes 5\n")
    assert all(check in result.stdout for check in verify.CHECKS)


def test_broken(played: list[tuple[int, int]]) -> None:
    result = run(FakeClient(), "verify", "--seed", "12", "--runs", "9")
    assert played == [(12, 3), (13, 3)], "it ends at the first breach"
    assert result.exit_code == 1
    assert "verdict   BROKEN in seed 13:" in result.stdout
    assert "lost: 0192: accepted by c1 in index 7" in result.stdout
    assert "130 heal (n2)" in result.stdout
    assert result.stdout.endswith("again     tq verify --seed 13 --runs 1 --nodes 3\n")


def test_for_programs(played: list[tuple[int, int]]) -> None:
    kept = json.loads(run(FakeClient(), "verify", "--seed", "1", "--runs", "2", "-o", "json").stdout)
    assert (kept["verdict"], kept["seeds"], kept["tasks"], kept["failure"]) == (
        "kept",
        {"first": 1, "runs": 2},
        200,
        None,
    )
    result = run(FakeClient(), "verify", "--seed", "13", "-o", "json")
    broken = json.loads(result.stdout)
    assert (result.exit_code, broken["verdict"], broken["failure"]["seed"]) == (1, "broken", 13)
    assert broken["failure"]["repeat"] == "tq verify --seed 13 --runs 1 --nodes 3"


def test_minutes_and_the_seed_by_the_clock(played: list[tuple[int, int]]) -> None:
    assert run(FakeClient(), "verify", "--minutes", "0.01").exit_code == 0
    assert len(played) > 1
    assert played[0][0] > 1_700_000_000_000
    assert [seed for seed, _nodes in played] == list(range(played[0][0], played[0][0] + len(played)))


def test_ctrl_c_tells_what_was_played(played: list[tuple[int, int]]) -> None:
    result = run(FakeClient(), "verify", "--seed", "97")
    assert result.exit_code == 130
    assert "2 stories of 3 nodes, seeds 97 to 98" in result.stdout


def test_progress_is_for_terminals(played: list[tuple[int, int]]) -> None:
    args = ["verify", "--seed", "1", "--runs", "2"]
    assert (
        run(FakeClient(), *args, terminal=True).stderr
        == "\r1 played, 100 tasks, 3 faults\r2 played, 200 tasks, 6 faults\n"
    )
    assert run(FakeClient(), *args).stderr == ""


@pytest.mark.parametrize(
    "args", [["--nodes", "2"], ["--runs", "1", "--minutes", "1"], ["--runs", "0"], ["--seed", "-1"], ["--minutes", "0"]]
)
def test_wrong_usage(args: list[str], played: list[tuple[int, int]]) -> None:
    assert run(FakeClient(), "verify", *args).exit_code == 2
    assert played == []
