"""tq verify on real stories: what it says of a good tq, and of one with a bug."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.fake import FakeClient, run
from tq.sim.disk import SimDisk

pytestmark = pytest.mark.usefixtures("quiet")
LYING_SEED = 1  # with a disk that lies, this story breaks a promise


def verified(*args: str, code: int = 0) -> dict[str, Any]:
    result = run(FakeClient(), "verify", "--output", "json", *args)
    assert result.exit_code == code, result.stdout
    found: dict[str, Any] = json.loads(result.stdout)
    del found["wall_s"]
    return found


def test_a_seed_is_the_same_story_each_time() -> None:
    first = verified("--seed", "4", "--runs", "1")
    assert first["verdict"] == "kept"
    assert first["tasks"] > 30
    assert first["answers"] > first["tasks"]
    assert first["leaders"] > 0
    assert sum(first["faults"].values()) > 10
    assert verified(*first["repeat"].split()[2:]) == first


def test_more_nodes() -> None:
    found = verified("--seed", "4", "--runs", "1", "--nodes", "5")
    assert (found["verdict"], found["nodes"]) == ("kept", 5)


def test_a_tq_that_acknowledges_before_the_disk_has_it_is_found_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SimDisk, "sync_lies", lambda self: True)
    first = verified("--seed", str(LYING_SEED), "--runs", "20", code=1)
    assert first["verdict"] == "broken"
    again = verified(*first["failure"]["repeat"].split()[2:], code=1)
    assert again["failure"] == first["failure"]
    assert again["seeds"] == {"first": first["failure"]["seed"], "runs": 1}
