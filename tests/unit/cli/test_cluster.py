"""The commands about queues, workers and nodes."""

from __future__ import annotations

import json

from tests.unit.cli.fake import FakeClient, run
from tq.cli import show
from tq.client.models import QueueInfo


def test_queue_depth_draws_bars_by_band() -> None:
    result = run(FakeClient(), "queue-depth", terminal=True)
    bar = next(line for line in result.stdout.splitlines() if line.startswith("mail")).split()[-1]
    assert bar == "█" * 25 + "▓" * 10 + "░" * 5


def test_queue_depth_in_a_pipe_has_numbers_only() -> None:
    header, line = run(FakeClient(), "queue-depth").stdout.splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (row["name"], row["high"], row["normal"], row["low"], row["pending_total"], row["running"]) == (
        "mail", "5", "2", "1", "8", "3"
    )  # fmt: skip
    assert json.loads(run(FakeClient(), "queue-depth", "-o", "json").stdout)[0]["pending"]["high"] == 5


def test_no_queues_is_said() -> None:
    result = run(FakeClient(queues=[]), "queue-depth")
    assert "no queues yet" in result.stderr


def test_a_bar_shows_what_is_not_zero() -> None:
    assert show.bar({"high": 1, "low": 10_000}, 10_001).count("█") == 1
    assert show.bar({}, 0) == ""
    assert QueueInfo("q").pending_total == 0


def test_workers() -> None:
    header, line = run(FakeClient(), "workers").stdout.splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (row["name"], row["running"], row["types"], row["cpu_percent"]) == ("w1", "2", "echo", "12.5")
    assert row["heard_at"] == "1970-01-01T00:00:02.500Z"
    assert "tq worker" in run(FakeClient(workers=[]), "workers").stderr


def test_stats() -> None:
    assert "tasks.pending\t4" in run(FakeClient(), "stats").stdout.splitlines()
    assert json.loads(run(FakeClient(), "stats", "-o", "json").stdout) == {"node": "n1", "tasks": {"pending": 4}}


def test_cluster_status() -> None:
    result = run(FakeClient(), "cluster-status")
    header, line = result.stdout.splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (row["id"], row["role"], row["reachable"], row["applied"]) == ("n1", "leader", "yes", "88")
    assert "may be lost: 0" in result.stderr
    shown = json.loads(run(FakeClient(), "cluster-status", "-o", "json").stdout)
    assert shown["nodes"][0]["term"] == 3
