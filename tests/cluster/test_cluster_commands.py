"""``make cluster`` and its kin, as a user types them: start, look, break, stop. On free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import perf_counter

import psutil
import pytest

from cluster import spec
from cluster.up import Cluster, Node
from tests.cluster.processes import ROOT, free_ports, tq
from tq import Client
from tq.errors import ConfigError

SECONDS_MAX = 60.0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A description of three nodes; whatever of it still runs at the end is killed."""
    path = tmp_path / "three.toml"
    path.write_text(description(free_ports(9)))
    yield path
    cluster = Cluster(spec.read(path))
    for managed in (*cluster.nodes, cluster.carrier):
        managed.signal(signal.SIGKILL)


def description(ports: list[int]) -> str:
    nodes = [
        f'[[nodes]]\nid = "n{number + 1}"\nlisten = "127.0.0.1:{ports[3 * number]}"\n'
        f'peer_listen = "127.0.0.1:{ports[3 * number + 1]}"\nmetrics_listen = "127.0.0.1:{ports[3 * number + 2]}"\n'
        for number in range(len(ports) // 3)
    ]
    settings = 'cluster = { profile = "fast" }\nlimits = { disk_free_min_bytes = 0 }'
    return f'folder = "data"\n[settings]\n{settings}\n' + "".join(nodes)


def run(module: str, file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"cluster.{module}", "--file", str(file), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip


def done(module: str, file: Path, *arguments: str) -> str:
    result = run(module, file, *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def eventually(what: str, look: object) -> None:
    end = perf_counter() + SECONDS_MAX
    while not look():  # type: ignore[operator]
        assert perf_counter() < end, what
        Event().wait(0.05)


def nodes_of(file: Path) -> list[Node]:
    return Cluster(spec.read(file)).nodes


def test_up_break_and_down(file: Path) -> None:
    """In the background: a leader is there when it returns, a killed node is started by a second one, down ends all."""
    said = done("up", file, "--background")
    cluster = Cluster(spec.read(file))
    assert re.search(r"n\d leads", said)
    assert cluster.spec.addresses in said
    with Client(cluster.spec.addresses) as client:
        task = client.submit("echo", b"kept")
    pids = {node.name: node.pid for node in cluster.nodes}

    assert "killed with -9" in done("faults", file, "kill", "leader")
    killed = next(node for node in cluster.nodes if node.pid is None)
    again = done("up", file, "--background")
    assert f"{killed.name} started" in again
    assert again.count("ran already") == 2
    assert {node.name for node in cluster.nodes if node.pid == pids[node.name]} == set(pids) - {killed.name}

    assert "paused" in done("faults", file, "pause", "n1")
    assert psutil.Process(cluster.nodes[0].pid).status() == psutil.STATUS_STOPPED
    assert "stopped n1, n2, n3" in done("up", file, "--down")  # also the one that stands still
    assert all(node.pid is None for node in cluster.nodes)
    assert "nothing runs" in done("up", file, "--down")

    done("up", file, "--background")
    with Client(cluster.spec.addresses) as client:
        assert client.get(task.id).state == "pending"


def test_foreground_follows_the_logs_until_ctrl_c(file: Path) -> None:
    out = file.with_name("out.txt")
    with out.open("wb") as sink:
        shell = subprocess.Popen([sys.executable, "-m", "cluster.up", "--file", str(file)], cwd=ROOT, stdout=sink)
    try:
        eventually("it is up", lambda: "Ctrl-C stops" in out.read_text() or shell.poll() is not None)
        second = run("up", file)
        assert second.returncode == 1
        assert "it runs already" in second.stderr
        assert "make cluster-down" in second.stderr
        done("faults", file, "kill", "n2")
        eventually("its end is told", lambda: "cluster | n2 has ended, the others go on" in out.read_text())
        done("faults", file, "start", "n2")
        eventually("it is back", lambda: out.read_text().count("cluster | n2 is back") == 1)
        eventually("it serves", lambda: nodes_of(file)[1].role() is not None)
        shell.send_signal(signal.SIGINT)
        assert shell.wait(SECONDS_MAX) == 0
    finally:
        shell.kill()
    assert all(node.pid is None for node in nodes_of(file))
    lines = out.read_text().splitlines()
    assert all(re.match(r"(n[123]|cluster) \| ", line) for line in lines)
    for node in ("n1", "n2", "n3"):  # also what they said last
        assert any(line.startswith(f"{node} | ") and "stopped" in line for line in lines), node


def test_a_port_that_is_taken_is_named_and_nothing_is_left(file: Path) -> None:
    taken = spec.read(file).nodes[2].listen
    host, _, port = taken.rpartition(":")
    with socket.create_server((host, int(port))):
        background, foreground = run("up", file, "--background"), run("up", file)
    for result in (background, foreground):
        assert result.returncode == 1
        assert "n3 ended at its start" in result.stderr
        assert taken in result.stdout + result.stderr
    assert all(node.pid is None for node in nodes_of(file))


def test_a_node_that_is_cut_off_leads_no_more_and_comes_back(file: Path) -> None:
    done("up", file, "--background", "--links")
    cluster = Cluster(spec.read(file))
    leader = cluster.node("leader")
    rest = [node for node in cluster.nodes if node is not leader]
    done("faults", file, "cut", leader.name)
    eventually("another leads", lambda: "leader" in [node.role() for node in rest])
    eventually("the old one has noticed", lambda: leader.role() is None)
    with Client(",".join(node.spec.listen for node in rest)) as client:
        assert client.submit("echo", b"x").outcome == "created"
    done("faults", file, "heal", leader.name)
    eventually("it follows", lambda: leader.role() == "follower")


def test_a_leader_that_is_stopped_hands_over_first(file: Path) -> None:
    done("up", file, "--background")
    cluster = Cluster(spec.read(file))
    leader = cluster.node("leader")
    with Client(cluster.spec.addresses) as client:
        term = client.cluster_status()["cluster"]["term"]
        done("faults", file, "stop", leader.name)
        assert client.submit("echo", b"x").outcome == "created"
        shown = client.cluster_status()["cluster"]
    log = leader.log.read_text()
    handed = re.search(r"hands leadership over .*to=(n\d)", log)
    assert handed, log
    assert (shown["leader"], shown["term"]) == (handed.group(1), term + 1)  # nobody's time ran out
    assert "stopped" in log[handed.end() :]


def test_what_cannot_be_done_is_told(file: Path) -> None:
    done("up", file, "--background")
    assert "make cluster LINKS=1" in run("faults", file, "cut", "n1").stderr
    assert "there is no node n9; there are n1, n2, n3" in run("faults", file, "kill", "n9").stderr
    assert "runs already" in run("faults", file, "start", "n1").stderr
    done("faults", file, "stop", "n1")
    assert "does not run" in run("faults", file, "pause", "n1").stderr


def test_a_pid_that_came_again_is_left_alone(file: Path) -> None:
    cluster = Cluster(spec.read(file))
    cluster.spec.folder.mkdir()
    (cluster.spec.folder / "n1.pid").write_text(f"{os.getpid()}\n")
    assert cluster.nodes[0].pid is None
    assert not cluster.nodes[0].signal(0)


def test_status_is_told_by_any_node_also_with_one_down(file: Path) -> None:
    done("up", file, "--background")
    cluster = spec.read(file)
    done("faults", file, "kill", "n3")
    for node in cluster.nodes[:2]:
        result = tq("cluster-status", "--output", "json", brokers=node.listen)
        assert result.returncode == 0, result.stderr
        shown = json.loads(result.stdout)
        assert [one["reachable"] for one in shown["nodes"]] == [True, True, False]
        assert shown["may_lose"] == 0


# ---- the description ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("folder = 'data'", "nodes: describe each"),
        ("folder = 'data'\nnode = 1", "node is not a key"),
        ("nodes = [{}]", "folder: name one"),
        ("folder = 'data'\nnodes = [{id = 'n1'}]", "nodes: each has id, listen"),
        ("folder = [", "cannot read"),
    ],
)
def test_a_description_that_cannot_be_used(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        spec.read(path)


def test_two_nodes_are_refused_as_a_broker_refuses_them(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(description(free_ports(6)))
    with pytest.raises(ConfigError, match="a cluster has 1, 3, 5 or 7"):
        spec.write(spec.read(path))


def test_writing_again_keeps_the_secret(file: Path) -> None:
    cluster = spec.read(file)
    spec.write(cluster)
    secret = (cluster.folder / spec.SECRET).read_text()
    assert (cluster.folder / spec.SECRET).stat().st_mode & 0o077 == 0
    spec.write(cluster)
    assert (cluster.folder / spec.SECRET).read_text() == secret


def test_three_toml_has_the_known_ports() -> None:
    nodes = spec.read(spec.THREE).nodes
    assert [node.listen for node in nodes] == ["127.0.0.1:7379", "127.0.0.1:7389", "127.0.0.1:7399"]
    assert [node.peer_listen for node in nodes] == ["127.0.0.1:7380", "127.0.0.1:7390", "127.0.0.1:7400"]
    assert [node.metrics_listen for node in nodes] == ["127.0.0.1:9091", "127.0.0.1:9092", "127.0.0.1:9093"]
