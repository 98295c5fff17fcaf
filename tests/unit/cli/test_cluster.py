"""tq cluster-status and tq cluster: the nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.fake import NOW, FakeClient, run
from tq.errors import BrokerUnavailable, InvalidRequest


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
        "1.5 GiB", "1.2 ms", "-12 ms", "1h1m", "0"
    )  # fmt: skip
    assert result.stderr == "cluster tq (c1): n1 leads term 3; may lose 1 more node\n"
    assert json.loads(status(three(), "-o", "json").stdout) == three()


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"reachable": False, "reason": "Connection refused"}, "n3: cannot be reached: Connection refused"),
        ({"joining": True}, "n3: is being rebuilt and has no vote yet"),
        ({"disk_is_low": True}, "n3: its disk is nearly full"),
        (
            {"snapshot_refused": "4 bytes are free"},
            "n3: needs a snapshot and has no room for it, so it stays behind: 4 b",
        ),
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


def test_a_long_id_is_shortened_for_people_alone() -> None:
    found = three()
    found["cluster"]["id"] = "dd0475bdafb71eb92507061e3c395912"
    assert status(found).stderr.startswith("cluster tq (dd0475bd…): n1 leads")
    assert json.loads(status(found, "-o", "json").stdout) == found


def test_without_a_majority_or_a_leader_that_comes_first() -> None:
    down = {"reachable": False, "reason": "Connection refused"}
    assert "NO MAJORITY, 1 of 3 nodes can be reached from n2" in status(three(n1=down, n3=down)).stderr
    leaderless = three()
    leaderless["cluster"]["leader"] = None
    assert "NO LEADER now" in status(leaderless).stderr


def test_that_a_dead_node_cannot_be_reached_is_told_once() -> None:
    lost = {"n3": {"refused": "Connection refused", "reachable": False, "reason": "Connection refused"}}
    found = three(n1={"peers": lost}, n2={"peers": lost}, n3={"reachable": False, "reason": "Connection refused"})
    assert status(found).stderr.count("Connection refused") == 1


# ---- on a terminal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_breaks_in_a_terminal(width: int) -> None:
    result = run(FakeClient(cluster_status=three()), "cluster-status", terminal=True, size=(width, 24))
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["n1", "leader"], ["n2", "follower"], ["n3", "follower"]]
    assert max(map(len, lines)) <= width
    assert ("no room for" in result.stderr) == (width < 200)


def test_a_node_that_is_down_has_that_for_a_role() -> None:
    down = {"id": "n3", "reachable": False, "reason": "Connection refused", "role": None}
    result = run(FakeClient(cluster_status=three(n3=down)), "cluster-status", terminal=True)
    assert result.stdout.splitlines()[3].split()[:2] == ["n3", "down"]


# ---- wait-ready -----------------------------------------------------------------------------------------


def wait_ready(*answers: Any, args: tuple[str, ...] = ()) -> tuple[Result, list[float]]:
    """Time passes with the pauses. The last answer stays."""
    left, paused = list(answers), []

    def answer() -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    client = FakeClient(cluster_status=answer)
    result = run(client, "cluster", "wait-ready", *args, pause=paused.append, now=lambda: NOW + sum(paused))
    return result, paused


def test_wait_ready_waits_for_a_leader_and_for_all_nodes() -> None:
    leaderless = three()
    leaderless["cluster"]["leader"] = None
    lagging, down = three(n2={"lag": 7}), three(n3={"reachable": False})
    result, paused = wait_ready(
        BrokerUnavailable("no broker answers"), leaderless, lagging, down, three(), args=("-v",)
    )
    assert (result.exit_code, len(paused)) == (0, 4)
    assert result.stderr.splitlines() == [
        "no broker answers",
        "no node leads",
        "2 of 3 nodes are there and up to date; not n2",
        "2 of 3 nodes are there and up to date; not n3",
        "cluster tq (c1): n1 leads term 3; may lose 1 more node",
    ]


def test_wait_ready_says_what_is_missing_when_the_time_is_over() -> None:
    result, paused = wait_ready(three(n3={"reachable": False}), args=("--within", "5s"))
    assert result.exit_code == 1
    assert "not ready within 5s: 2 of 3 nodes are there and up to date; not n3" in result.stderr
    assert 5 <= sum(paused) < 6


def test_wait_ready_is_content_with_fewer_nodes_if_asked() -> None:
    result, paused = wait_ready(three(n3={"reachable": False}), args=("--nodes", "2", "-o", "json"))
    assert (result.exit_code, paused) == (0, [])
    assert json.loads(result.stdout)["cluster"]["leader"] == "n1"


def test_a_cluster_that_is_not_formed_says_for_whom_it_waits() -> None:
    waits = "n1 waits for n2 (Connection refused) to form the cluster"
    me = {"id": "n1", "role": "waiting", "reachable": True, "waits": waits}
    found = {
        "cluster": {"id": None, "name": "tq", "leader": None, "term": None, "answered_by": "n1", "waits": waits},
        "may_lose": 0,
        "nodes": [me, {"id": "n2", "reachable": False, "reason": "Connection refused"}],
    }
    assert run(FakeClient(cluster_status=found), "cluster-status").stderr.splitlines() == [
        f"cluster tq: NOT FORMED yet, so it accepts nothing: {waits}",
        "n2: cannot be reached: Connection refused",
    ]
    result, _paused = wait_ready(found, args=("--within", "1s"))
    assert f"not ready within 1s: {waits}" in result.stderr


def test_transfer_says_who_leads() -> None:
    client = FakeClient()
    result = run(client, "cluster", "transfer", "n2")
    assert (result.exit_code, result.stderr) == (0, "n2 leads now\n")
    assert client.asked == [("transfer_leadership", ("n2",), {})]
    assert run(FakeClient(), "cluster", "transfer").stderr == "n2 leads now\n"
    assert json.loads(run(FakeClient(), "cluster", "transfer", "-o", "json").stdout) == {"leader": "n2"}


def test_transfer_fails_when_another_node_leads_or_none_can() -> None:
    result = run(FakeClient(), "cluster", "transfer", "n3")
    assert result.exit_code == 1
    assert "n2 leads now, not n3: an election came in between" in result.stderr
    refused = InvalidRequest("n3 cannot lead now: its clock is wrong")
    result = run(FakeClient(transfer_leadership=refused), "cluster", "transfer", "n3")
    assert result.exit_code != 0
    assert "its clock is wrong" in result.stderr
