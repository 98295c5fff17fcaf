"""The commands about queues, workers and nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.fake import FakeClient, run
from tq.cli import show
from tq.client.models import QueueInfo
from tq.errors import BrokerUnavailable


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
    assert "cluster tq (c1): n1 leads term 3; may lose no more node" in result.stderr
    shown = json.loads(run(FakeClient(), "cluster-status", "-o", "json").stdout)
    assert shown["nodes"][0]["term"] == 3


def three(**more: dict[str, Any]) -> dict[str, Any]:
    """A cluster whose n1 leads. more: by node, fields of it."""
    nodes: list[dict[str, Any]] = []
    for id in ("n1", "n2", "n3"):
        nodes.append(
            {
                "id": id, "role": "leader" if id == "n1" else "follower", "reachable": True, "term": 3, "leader": "n1",
                "last": 9, "commit": 9, "applied": 9, "checkpointed": 8, "lag": 0, "disk_free_bytes": 3 << 29,
                "sync_p99_ms": 1.25, "clock_offset_ms": -12, "uptime_ms": 3_700_000, "version": "0.1.0",
                "address": "127.0.0.1:7379", **more.get(id, {}),
            }
        )  # fmt: skip
    cluster = {"id": "c1", "name": "tq", "leader": "n1", "term": 3, "answered_by": "n2"}
    return {"cluster": cluster, "may_lose": 1, "nodes": nodes}


def status(found: dict[str, Any], *args: str) -> Result:
    return run(FakeClient(cluster_status=found), "cluster-status", *args)


def test_cluster_status_has_units_for_people_and_plain_numbers_for_programs() -> None:
    result = status(three())
    header, line, *_ = result.stdout.splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (row["disk_free"], row["sync_p99"], row["clock_offset"], row["uptime"], row["lag"]) == (
        "1.5 GiB", "1.2 ms", "-12 ms", "1 h 1 min", "0"
    )  # fmt: skip
    assert result.stderr == "cluster tq (c1): n1 leads term 3; may lose 1 more node\n"
    assert json.loads(status(three(), "-o", "json").stdout) == three()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (9, "9 s"), (422, "7 min 2 s"), (3_600, "1 h 0 min"), (273_600, "3 d 4 h")]
)
def test_a_span_has_its_two_largest_units(seconds: int, shown: str) -> None:
    assert run(FakeClient(cluster_status=three(n1={"uptime_ms": seconds * 1_000})), "cluster-status").stdout.count(
        shown
    )


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"reachable": False, "reason": "Connection refused"}, "n3: cannot be reached: Connection refused"),
        ({"disk_is_low": True}, "n3: its disk is nearly full"),
        ({"clock": "far"}, "n3: its clock is wrong"),
        ({"clock": "warn"}, "n3: its clock differs"),
        ({"raft": {"election_is_short": True}}, "n3: its disk is slow for the election time-out"),
        ({"peers": {"n9": {"refused": "not of this cluster"}}}, "n3: refuses n9: not of this cluster"),
        ({"peers": {"n2": {"refused": None, "reachable": False, "reason": "silence"}}}, "n3: cannot reach n2: silence"),
    ],
)
def test_cluster_status_tells_what_is_wrong_and_nothing_else(node: dict[str, Any], told: str) -> None:
    _, trouble = status(three(n3=node)).stderr.splitlines()
    assert trouble.startswith(told)


def test_without_a_majority_or_a_leader_that_comes_first() -> None:
    down = {"reachable": False, "reason": "Connection refused"}
    assert "NO MAJORITY, 1 of 3 nodes can be reached from n2" in status(three(n1=down, n3=down)).stderr
    leaderless = three()
    leaderless["cluster"]["leader"] = None
    assert "NO LEADER now" in status(leaderless).stderr


def watch(*answers: Any, output: str = "json", terminal: bool = False) -> Result:
    """Ctrl-C after as many looks as there are answers."""
    left = list(answers)

    def answer() -> Any:
        if isinstance(left[0], Exception):
            raise left.pop(0)
        return left.pop(0)

    def pause(seconds: float) -> None:
        assert seconds == 1
        if not left:
            raise KeyboardInterrupt

    client = FakeClient(cluster_status=answer)
    return run(client, "cluster-status", "--watch", "-o", output, terminal=terminal, pause=pause)


def test_watch_prints_a_line_a_look_and_bears_that_nobody_answers() -> None:
    result = watch(three(), BrokerUnavailable("no broker answers"), three(n3={"applied": 10}))
    assert [json.loads(line) for line in result.stdout.splitlines()] == [three(), three(n3={"applied": 10})]
    assert "no broker answers" in result.stderr
    assert result.exit_code == 130


def test_watch_on_a_terminal_draws_anew() -> None:
    result = watch(three(), three(), output="table", terminal=True)
    assert result.stdout.count("\x1b[H\x1b[2J") == 2
    assert result.stderr.count("n1 leads term 3") == 2
    assert watch(three(), three(), output="yaml").stdout.count("---") == 2


def test_that_a_dead_node_cannot_be_reached_is_told_once() -> None:
    lost = {"n3": {"refused": "Connection refused", "reachable": False, "reason": "Connection refused"}}
    found = three(n1={"peers": lost}, n2={"peers": lost}, n3={"reachable": False, "reason": "Connection refused"})
    assert status(found).stderr.count("Connection refused") == 1
