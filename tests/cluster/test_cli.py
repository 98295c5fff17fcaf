"""Each command against a real broker with a real worker: what is printed where, and how it exits."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, Process, ProcessFailed, eventually, free_ports, tq
from tq import Client, TaskSpec
from tq.bench.processes import TQ
from tq.cli.base import REACH_SECONDS
from tq.cli.main import new_app
from tq.client.specs import Retry


@pytest.fixture(scope="module")
def worker(shared_ground: Ground, shared_broker: Broker) -> Iterator[Process]:
    """Runs the samples from the queues ``default`` and ``work``."""
    worker = shared_ground.worker(
        shared_broker, "tq.samples", "--queues", "default,work", "--concurrency", "2", "--name", "w1"
    )
    worker.start()
    with Client(shared_broker.address) as client:
        eventually("the worker registers", lambda: bool(client.workers()), worker)
    yield worker
    assert worker.stop() == 0, worker.tail()


@pytest.fixture
def run(shared_broker: Broker, worker: Process) -> Any:
    def run(*arguments: str, text: str = "") -> Any:
        return tq(*arguments, brokers=shared_broker.address, text=text)

    return run


def table(text: str) -> list[dict[str, str]]:
    """What a pipe gets for a table: lines with tabs under a line of names."""
    return list(csv.DictReader(io.StringIO(text), dialect="excel-tab"))


# ---- submit, status, list --------------------------------------------------------------------------


def test_submit_and_wait_prints_the_result_alone(run: Any) -> None:
    done = run("submit", "--type", "echo", "--payload", "hello", "--wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
    done = run("submit", "--type", "compute", "--payload", "100", "--wait", "--output", "json")
    info = json.loads(done.stdout)
    assert (info["state"], info["result"]) == ("completed", {"text": "25"})
    assert info["fence"].isdigit()


def test_submit_reads_files_and_pipes(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_text("from a file")
    assert run("submit", "-t", "echo", "-p", f"@{file}", "--wait").stdout == "from a file"
    assert run("submit", "-t", "echo", "-p", "-", "--wait", text="from a pipe").stdout == "from a pipe"


def test_submit_tells_a_failure_by_its_exit_code(run: Any) -> None:
    done = run("submit", "-t", "fail", "-p", "fatal: no luck", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is dead (permanent)" in done.stderr
    assert "no luck" in done.stderr
    done = run("submit", "-t", "sleep", "-p", "5", "--wait-timeout", "0.1")
    assert done.returncode == 1
    assert "has not ended" in done.stderr


def test_submit_twice_under_one_id(run: Any) -> None:
    key = str(uuid.uuid4())
    first = run("submit", "-t", "nobody", "--id", key)
    assert (first.returncode, first.stdout, first.stderr) == (0, f"{key}\n", "")
    again = run("submit", "-t", "nobody", "--id", key, "-o", "json")
    assert (again.returncode, json.loads(again.stdout)["outcome"]) == (0, "duplicate")
    other = run("submit", "-t", "nobody", "--id", key, "-p", "other")
    assert (other.returncode, other.stdout) == (1, "")
    assert "other content" in other.stderr


def test_status_in_every_form(run: Any, client: Client) -> None:
    task = client.submit("fail", b"fatal: told", queue="work", tags=["blue"], headers={"from": "test"})
    client.wait(task.id, 20)
    plain = run("status", task.id)
    rows = dict(line.split("\t", 1) for line in plain.stdout.splitlines() if not line.startswith((" ", "past")))
    assert (rows["state"], rows["reason"], rows["tags"], rows["queue"]) == ("dead", "permanent", "blue", "work")
    assert "told" in rows["error"]
    as_json = json.loads(run("status", task.id, "-o", "json").stdout)
    as_yaml = yaml.safe_load(run("status", task.id, "-o", "yaml").stdout)
    assert as_json == as_yaml
    assert as_json["history"][0]["outcome"] == "failed"
    assert as_json["history"][0]["worker"] == "w1"
    assert as_json["headers"] == {"from": "test"}
    missing = run("status", str(uuid.uuid4()))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no task" in missing.stderr
    assert run("status", "nonsense").returncode == 2


def test_status_watched_to_the_end(run: Any) -> None:
    key = run("submit", "-t", "sleep", "-p", "1", "-q", "work").stdout.strip()
    watched = run("status", key, "--watch", "-o", "json")
    states = [json.loads(line)["state"] for line in watched.stdout.splitlines()]
    assert states[-1] == "completed"
    assert set(states) <= {"pending", "running", "completed"}


def test_list_filters(run: Any, client: Client, queue: str) -> None:
    items = client.submit_many([TaskSpec("nobody", queue=queue, tags=[f"tag{n}"]) for n in range(5)])
    ids = [item.id for item in reversed(items)]  # the newest first
    listed = run("list", "--queue", queue)
    assert [row["id"] for row in table(listed.stdout)] == ids
    assert [row["id"] for row in json.loads(run("list", "-q", queue, "--tag", "tag4", "-o", "json").stdout)] == [ids[0]]
    limited = run("list", "-q", queue, "--limit", "2", "-o", "yaml")
    assert [row["id"] for row in yaml.safe_load(limited.stdout)] == ids[:2]
    assert "the first 2" in limited.stderr
    assert json.loads(run("list", "-q", queue, "--state", "dead", "-o", "json").stdout) == []
    assert run("list", "--state", "limbo").returncode == 2


# ---- cancel, retry, purge --------------------------------------------------------------------------


def test_cancel_waiting_and_running(run: Any, client: Client, queue: str) -> None:
    waiting = client.submit("nobody", queue=queue).id
    running = client.submit("sleep", b"30", queue="work", priority=255).id
    with client.events(running, timeout=20) as events:
        while client.get(running).state != "running":
            next(events)
    done = run("cancel", waiting, running, "--wait", "10", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert {row["id"]: row["state"] for row in json.loads(done.stdout)} == {waiting: "cancelled", running: "cancelled"}
    unknown = str(uuid.uuid4())
    partly = run("cancel", waiting, unknown)
    assert partly.returncode == 1
    assert unknown in partly.stderr
    assert [row["id"] for row in table(partly.stdout)] == [waiting]


def test_retry_by_id_and_by_filter(run: Any, client: Client, queue: str) -> None:
    ids = [client.submit("nobody", queue=queue).id for _ in range(3)]
    client.cancel_many(ids)
    assert run("retry", ids[0]).returncode == 0
    assert client.get(ids[0]).state == "pending"
    assert run("retry", ids[0]).returncode == 1
    tried = run("retry", "--state", "cancelled", "--queue", queue, "--dry-run")
    assert "would retry 2 tasks" in tried.stderr
    assert client.get(ids[1]).state == "cancelled"
    asked = run("retry", "--state", "cancelled", "--queue", queue)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    done = run("retry", "--state", "cancelled", "--queue", queue, "--yes", "--delay", "60", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["done"]) == (0, 2)
    assert [client.get(key).state for key in ids] == ["pending", "scheduled", "scheduled"]
    assert run("retry").returncode == 2
    assert run("retry", ids[0], "--state", "dead").returncode == 2


def test_purge_by_id_and_by_filter(run: Any, client: Client, queue: str) -> None:
    ids = [client.submit("nobody", queue=queue).id for _ in range(4)]
    client.cancel_many(ids[:3])
    assert run("purge", ids[0]).returncode == 2, "nobody was asked"
    assert run("purge", ids[0], "--yes").returncode == 0
    gone = run("status", ids[0])
    assert gone.returncode == 1
    assert "purged" in gone.stderr
    assert run("purge", ids[3], "--yes").returncode == 1, "it waits"
    done = run("purge", "--queue", queue, "--yes", "--limit", "1")
    assert (done.returncode, done.stdout) == (0, "purged 1 task\n")
    assert run("purge", "--queue", queue, "--yes").stdout == "purged 1 task\n"
    assert [info.id for info in client.list_all(queue=queue)] == [ids[3]]


# ---- looking ---------------------------------------------------------------------------------------


def test_explain_and_events(run: Any, client: Client, queue: str) -> None:
    task = client.submit("nobody", queue=queue)
    why = run("explain", task.id)
    assert why.returncode == 0
    assert "no worker" in why.stdout
    client.cancel(task.id)
    happened = run("events", task.id, "--after", "0.0", "--limit", "2", "-o", "json")
    assert [json.loads(line)["kind"] for line in happened.stdout.splitlines()] == ["created", "cancelled"]
    assert run("events", "--after", "x").returncode == 2


def explained(address: str, id: str) -> str:
    """In this process: each program would take longer to start than to run."""
    result = CliRunner().invoke(new_app(), ["explain", id, "--brokers", address])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_explain_in_every_state(shared_broker: Broker, worker: Process, client: Client, queue: str) -> None:
    later, again = Retry(backoff_base=600), Retry(max_attempts=1)
    client.pause(f"{queue}-paused", reason="the provider is down")
    running = client.submit("sleep", b"60", queue="work", priority=255).id
    cancelled = client.submit("nobody", queue=queue).id
    client.cancel(cancelled)
    wanted = {
        running: ("running on w1", f"tq cancel {running}"),
        cancelled: ("cancelled", "tq retry"),
        client.submit("nobody", queue=queue).id: ("no worker is connected", f"tq worker MODULE --queues {queue}"),
        client.submit("echo", queue=queue, delay=600).id: ("asked to start later", "runs by itself"),
        client.submit("send", queue=f"{queue}-paused").id: ("the provider is down", f"tq queues resume {queue}-paused"),
        client.submit("fail", b"no luck", retry=later).id: ("the next one waits", "attempt 1 failed on w1"),
        client.submit("fail", b"no luck", retry=again).id: ("its only attempt failed", "Failed: no luck"),
        client.submit("fail", b"fatal: never").id: ("no retry can help", "mend what it says first"),
        client.submit("echo").id: ("completed by w1", "shows its result"),
        client.submit("nobody", queue=queue, expires_in=0.2).id: ("expired", "runs it after all"),
        client.submit("nobody", queue=queue, deadline=0.2).id: ("dead: its deadline", "begins the deadline anew"),
    }
    live = {"pending", "running", "scheduled"}
    rest = [id for id in wanted if id != running]
    eventually("it runs", lambda: client.get(running).state == "running", worker)
    eventually(
        "all others are where they stay",
        lambda: sum(client.get(id).state in live and not client.get(id).history for id in rest) == 3,
        worker,
    )
    try:
        for id, words in wanted.items():
            said = explained(shared_broker.address, id)
            assert all(word in said for word in words), said
            assert "next: " in said
    finally:
        client.cancel(running, wait=20)


def test_explain_while_a_cancel_waits_for_its_handler(ground: Ground) -> None:
    """A handler that hears nothing: the grace has to end it."""
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Client(broker.address) as client, client.register_worker(["deaf"]) as session:
        id = client.submit("deaf").id
        assert len(session.claim(1, 5)) == 1
        assert client.cancel(id, grace=30) == "cancelling"
        said = explained(broker.address, id)
    assert "a cancel was asked for" in said
    assert "when the grace is over" in said


def test_events_go_on_when_a_broker_is_back(ground: Ground) -> None:
    """Away for longer than a command looks for a broker, killed with -9 while nobody else is there."""
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    argv = [*TQ, "events", "--kind", "created", "--output", "json", "--brokers", broker.address]
    events = ground.process("events", argv)
    events.start()

    def seen() -> int:
        return events.log.read_text().count('"kind": "created"')

    with Client(broker.address) as client:

        def more_than(count: int) -> bool:
            client.submit("nobody")  # again and again: nobody tells when a tail has begun
            return seen() > count

        eventually("one is heard", lambda: more_than(0), events)
        broker.kill()
        with pytest.raises(ProcessFailed):
            events.wait(REACH_SECONDS + 1)  # it is still there
        broker.start_ready()
        before = seen()
        eventually("one is heard again", lambda: more_than(before), events)
    os.kill(events.pid, signal.SIGINT)
    assert events.wait(10) == 130


def test_workers_stats_queue_depth_and_cluster_status(run: Any, client: Client, queue: str) -> None:
    client.submit_many([TaskSpec("nobody", queue=queue, priority=priority) for priority in (5, 150, 150, 250)])
    (worker,) = table(run("workers").stdout)
    assert (worker["name"], worker["queues"], worker["types"]) == ("w1", "default,work", "compute,echo,fail,sleep")
    assert json.loads(run("workers", "-o", "json").stdout)[0]["name"] == "w1"
    stats = json.loads(run("stats", "-o", "json").stdout)
    assert stats["workers"] == 1
    assert "workers\t1" in run("stats").stdout
    depth = {row["name"]: row for row in table(run("queue-depth").stdout)}[queue]
    assert (depth["high"], depth["normal"], depth["low"], depth["pending_total"]) == ("1", "2", "1", "4")
    found = yaml.safe_load(run("queue-depth", "-o", "yaml").stdout)
    assert {row["name"]: row for row in found}[queue]["pending_total"] == 4
    status = json.loads(run("cluster-status", "-o", "json").stdout)
    assert status["may_lose"] == 0
    assert status["nodes"][0]["role"] == "leader"
    assert status["nodes"][0]["applied"] <= status["nodes"][0]["commit"]


# ---- the worker ------------------------------------------------------------------------------------


def test_a_worker_drains_on_sigterm(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    worker = ground.worker(broker, "tq.samples", "--concurrency", "2")
    worker.start()
    with Client(broker.address) as client:
        ids = [client.submit("sleep", b"1").id for _ in range(3)]
        eventually("two run", lambda: sum(queue.running for queue in client.queues()) == 2, worker)
        worker.terminate()
        assert worker.wait(20) == 0
        assert [client.get(key).state for key in ids] == ["completed", "completed", "pending"]
        assert client.workers() == []


def test_a_worker_that_is_killed_gives_its_tasks_to_another(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    first = ground.worker(broker, "tq.samples", name="first")
    first.start()
    with Client(broker.address) as client:
        task = client.submit("sleep", b"2", retry=Retry(max_attempts=1))
        eventually("it runs", lambda: client.get(task.id).state == "running", first)
        first.kill()
        second = ground.worker(broker, "tq.samples", name="second")
        second.start()
        info = client.wait(task.id, 20)
        assert (info.state, info.attempt, info.crashes) == ("completed", 1, 1)
        assert [row.outcome for row in info.history] == ["crashed", "completed"]
        assert second.stop() == 0


def test_a_worker_without_handlers_says_so() -> None:
    missing = tq("worker", "no.such.module")
    assert missing.returncode == 2
    assert "there is no module 'no.such.module'" in missing.stderr
    assert "Traceback" not in missing.stderr


# ---- configuration, help, exit codes ---------------------------------------------------------------


def test_config_check_and_show(tmp_path: Path) -> None:
    file = tmp_path / "n1.toml"
    file.write_text('[node]\nid = "a"\nlisten = "127.0.0.1:7999"\n')
    assert tq("config", "check", "--config", str(file)).returncode == 0
    shown = json.loads(tq("config", "show", "--config", str(file), "-o", "json", TQ_NODE__ID="b").stdout)
    by_key = {row["key"]: (row["value"], row["origin"]) for row in shown}
    assert by_key["node.id"] == ("b", "TQ_NODE__ID")
    assert by_key["node.listen"] == ("127.0.0.1:7999", "file")
    assert by_key["leases.lease_ms"] == (30_000, "default")
    file.write_text("[leases]\nlease_msec = 5\n[limits]\nconnections_max = 0\n")
    wrong = tq("config", "check", "--config", str(file))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "lease_ms" in wrong.stderr
    assert "connections_max" in wrong.stderr, "all that is wrong is said at once"
    broker = tq("broker", "--config", str(file))
    assert broker.returncode == 2
    assert "lease_ms" in broker.stderr


def test_without_a_broker_the_exit_code_is_3() -> None:
    done = tq("stats", brokers=f"127.0.0.1:{free_ports(1)[0]}")
    assert (done.returncode, done.stdout) == (3, "")
    assert "tq broker --config FILE" in done.stderr
    assert "Traceback" not in done.stderr


def test_usage_is_2_and_help_lists_the_commands() -> None:
    assert tq("submit").returncode == 2
    assert tq("dance").returncode == 2
    assert tq("--version").stdout.startswith("tq ")
    commands = re.findall(r"^  ([a-z-]+) ", tq("--help").stdout.split("Commands:")[1], re.MULTILINE)
    assert set(commands) >= {
        "broker", "worker", "submit", "status", "list", "cancel", "retry", "purge", "workers", "stats", "queue-depth",
        "bench", "config", "explain", "events", "cluster-status",
    }  # fmt: skip
    assert "Example: tq submit" in tq("submit", "--help").stdout
