"""The broker as a process: how it starts, what it refuses, how it stops, and what is left of it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, Wire, eventually, free_ports
from tq import Client, TaskSpec, limits
from tq.errors import BrokerUnavailable, DiskFull, NotFound
from tq.protocol import messages as m
from tq.spec import Spec, encode

JSON_LOGS = {**SHORT_LEASES, "log": {"format": "json", "level": "info"}}
METRICS = {
    "tq_tasks", "tq_tasks_pending", "tq_tasks_running", "tq_queue_oldest_ready_seconds", "tq_raft_term",
    "tq_raft_is_leader", "tq_raft_commit_index", "tq_raft_applied_index", "tq_raft_fsync_seconds", "tq_workers",
    "tq_leases_expired", "tq_stale_results", "tq_disk_free_bytes", "tq_connections",
}  # fmt: skip


def said(broker: Broker) -> list[dict[str, Any]]:
    """Its log, which must be JSON to the last line."""
    return [json.loads(line) for line in broker.log.read_text().splitlines()]


def event(broker: Broker, name: str) -> dict[str, Any]:
    """The last one of this name."""
    return [row for row in said(broker) if row["event"] == name][-1]


# ---- stop and start --------------------------------------------------------------------------------


def test_sigterm_ends_it_with_everything_in_the_store(ground: Ground) -> None:
    broker = ground.broker({**JSON_LOGS, "storage": {"checkpoint_ms": 10_000}})
    broker.start_ready()
    with Client(broker.address) as client:
        ids = [item.id for item in client.submit_many([TaskSpec("t", queue="q") for _ in range(500)])]
        cluster = client.cluster_id
        assert broker.stop() == 0
        stopped = event(broker, "stopped")["applied"]
        broker.start_ready()
        assert event(broker, "starts")["applied"] == stopped, "nothing is left to apply from the journal"
        assert [client.get(key).state for key in ids[::100]] == ["pending"] * 5
        assert client.cluster_id == cluster
        # What it applied since is what a leader writes when it begins.
        assert client.stats()["applier"]["entries"] <= 3


def test_a_stopping_broker_says_goaway_and_answers_what_it_was_asked(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    ids = {rid: uuid.uuid4().bytes for rid in range(10, 910)}
    session = uuid.uuid4().bytes
    with Wire(broker.address) as wire, Wire(broker.address) as worker:
        worker.send(m.RegisterWorker(1, session, "w", ["none"], ["q"], {}))
        worker.receive(1)
        worker.send(m.ClaimTask(2, session, 1, ["q"], 1, 20_000))
        wire.send(*(m.SubmitTask(rid, [encode(Spec(id, "t", b"x"))]) for rid, id in ids.items()))
        first = wire.receive(1)[0]
        broker.terminate()
        replies = [first, *wire.rest()]
        parked = worker.rest()
    assert broker.wait(20) == 0
    assert any(isinstance(reply, m.GoAway) for reply in replies)
    answers = [reply for reply in replies if not isinstance(reply, m.GoAway)]
    assert {reply.rid for reply in answers} == set(ids), "each was answered, once"
    assert len(answers) == len(ids)
    refused = {reply.rid for reply in answers if isinstance(reply, m.ErrorReply)}
    assert all(reply.error[0] == BrokerUnavailable.code for reply in answers if reply.rid in refused)
    assert [type(message) for message in parked] == [m.GoAway, m.ClaimReply]
    broker.start_ready()
    with Client(broker.address) as client:
        found = {uuid.UUID(task.id).bytes for task in client.list_all()}
    assert found == {id for rid, id in ids.items() if rid not in refused}


def test_a_stopping_broker_waits_for_who_reads_slowly_and_is_not_ready_meanwhile(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    payload = b"p" * (8 * limits.MIB)
    with Client(broker.address) as client, Wire(broker.address, receive_bytes=64 * limits.KIB) as slow:
        key = uuid.UUID(client.submit("t", payload, queue="q").id).bytes
        slow.send(m.GetTask(1, key, 1, 0, False), m.GetTask(2, key, 1, 0, False))
        slow.socket.recv(1, socket.MSG_PEEK)  # the first answer is on its way
        broker.terminate()
        eventually("it is not ready any more", lambda: broker.http("/health/ready")[0] == 503, broker, timeout=8)
        assert broker.http("/health/live")[0] == 200
        replies = slow.rest()
    assert broker.wait(20) == 0
    assert [reply.task["payload"] for reply in replies if isinstance(reply, m.GetReply)] == [payload, payload]


def test_what_was_acknowledged_is_there_after_each_kill(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    acknowledged: list[str] = []
    last_indexes = []
    for _ in range(3):
        enough = threading.Event()

        def submit(enough: threading.Event = enough) -> None:
            with Client(broker.address, reach=0.1, timeout=0.5) as client:
                for number in range(100_000):
                    try:
                        acknowledged.append(client.submit("t", b"%d" % number, queue="q").id)
                    except BrokerUnavailable:
                        return
                    if number == 300:
                        enough.set()

        thread = threading.Thread(target=submit)
        thread.start()
        assert enough.wait(30), broker.tail()
        broker.kill()
        thread.join()
        broker.start_ready()
        with Client(broker.address) as client:
            found = {task.id for task in client.list_all(queue="q")}
            last_indexes.append(client.last_index)
        assert set(acknowledged) <= found
        assert len(found) - len(set(acknowledged)) <= 3, "at most the one in flight at each kill is unknown"
    assert last_indexes == sorted(last_indexes)


# ---- refusals --------------------------------------------------------------------------------------


def refused(ground: Ground, settings: dict[str, dict[str, Any]], name: str = "second") -> tuple[int, str]:
    """Exit code and words of a broker that must not start."""
    broker = ground.broker(settings, name)
    broker.start()
    return broker.wait(20), broker.log.read_text()


def test_a_second_broker_on_the_same_folder_is_refused_and_the_first_goes_on(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    code, text = refused(ground, {"node": {"data_dir": str(broker.data)}})
    assert code == 1
    assert "another broker runs on it" in text
    assert str(broker.data) in text
    assert "Traceback" not in text
    with Client(broker.address) as client:
        assert client.submit("t").outcome == "created"


@pytest.mark.parametrize("field", ["listen", "metrics_listen"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.7"])
def test_an_address_that_others_can_reach_is_refused(ground: Ground, field: str, host: str) -> None:
    code, text = refused(ground, {"node": {field: f"{host}:{free_ports(1)[0]}"}})
    assert code == 2
    assert field in text
    assert "authentication" in text
    assert "127.0.0.1" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("field", ["listen", "metrics_listen"])
def test_a_port_in_use_is_named(ground: Ground, field: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = refused(ground, {"node": {field: address}})
    assert code == 1
    assert f"node.{field}" in text
    assert address in text
    assert "Address already in use" in text
    assert "Traceback" not in text


def test_a_folder_that_cannot_be_used_is_named(ground: Ground, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    code, text = refused(ground, {"node": {"data_dir": str(file)}})
    assert code == 1
    assert str(file) in text
    assert "Traceback" not in text


def test_the_folder_of_another_node_is_refused(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    assert broker.stop() == 0
    code, text = refused(ground, {"node": {"data_dir": str(broker.data)}})
    assert code == 1
    assert 'belongs to "broker"' in text
    assert "Traceback" not in text


def test_damage_in_the_journal_stops_the_start(ground: Ground) -> None:
    broker = ground.broker({**SHORT_LEASES, "storage": {"checkpoint_ms": 10_000}})
    broker.start_ready()
    with Client(broker.address) as client:
        for _ in range(20):
            client.submit("t", b"some payload")
    broker.kill()
    (segment,) = [path for path in broker.data.rglob("*") if path.is_file() and b"some payload" in path.read_bytes()]
    data = bytearray(segment.read_bytes())
    data[data.index(b"some payload")] ^= 1
    segment.write_bytes(data)
    broker.start()
    assert broker.wait(20) == 1
    text = broker.log.read_text().split("serves")[-1]
    assert segment.name in text
    assert "Traceback" not in text


# ---- hostile peers ---------------------------------------------------------------------------------


def test_bytes_that_are_no_protocol_end_their_connection_and_no_other(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    host, _, port = broker.address.rpartition(":")
    with Client(broker.address) as client, Wire(broker.address) as wire:
        client.submit("t")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x00\x00\x00\x00", os.urandom(4_096)):
            with socket.create_connection((host, int(port)), 15) as peer:
                peer.sendall(garbage)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65_536):
                    pass
        wire.socket.sendall(b"\x00\x00\x00\x05\x7fhello")
        assert isinstance(wire.rest()[-1], m.ErrorReply)
        assert client.submit("t").outcome == "created"
        eventually("they are gone", lambda: client.stats()["connections"] == 1, broker)


# ---- room on the disk ------------------------------------------------------------------------------


def test_below_the_watermark_submissions_are_refused_and_all_else_goes_on(ground: Ground) -> None:
    first = ground.broker(SHORT_LEASES)
    first.start_ready()
    with Client(first.address) as client:
        ids = [item.id for item in client.submit_many([TaskSpec("t", b"x", queue="q") for _ in range(4)])]
    assert first.stop() == 0
    node = {"id": first.name, "data_dir": str(first.data)}
    settings = {**SHORT_LEASES, "limits": {"disk_free_min_bytes": 1 << 59}, "node": node}
    low = ground.broker(settings, "low")
    low.start_ready()
    with Client(low.address) as client:
        with pytest.raises(DiskFull, match="disk_free_min_bytes") as caught:
            client.submit("t", queue="q")
        assert caught.value.retryable
        assert caught.value.retry_after
        with client.register_worker(["t"], ["q"]) as session:
            done, failed = session.claim(2)
            assert session.complete(done, b"1") == "applied"
            assert session.fail(failed, "no", permanent=True) == "applied"
        assert client.get(ids[0]).state == "completed"
        assert client.retry(ids[1]) == "pending"
        assert client.cancel(ids[2]) == "cancelled"
        assert client.purge_where(state="completed").done == 1
        with pytest.raises(NotFound):
            client.get(ids[0])
    samples = scraped(low)
    assert samples["tq_disk_is_low", ()] == 1
    assert low.ready(), "workers can go on"


# ---- looking at it ---------------------------------------------------------------------------------


def scraped(broker: Broker) -> dict[tuple[str, tuple[str, ...]], float]:
    status, text = broker.http("/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} >= METRICS
    return {
        (sample.name, tuple(value for _name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_follow_what_happens(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Client(broker.address) as client:
        client.submit_many([TaskSpec("t", queue="q", priority=priority) for priority in (10, 150, 150, 250)])
        session = client.register_worker(["t"], ["q"])
        first, second = session.claim(2)
        session.complete(first)
        now = scraped(broker)
        assert now["tq_tasks_total", ("created", "q")] == 4
        assert now["tq_tasks_total", ("completed", "q")] == 1
        assert now["tq_tasks_pending", ("low", "q")] == 1
        assert now["tq_tasks_pending", ("normal", "q")] == 1
        assert now["tq_tasks_pending", ("high", "q")] == 0
        assert now["tq_tasks_running", ("q",)] == 1
        assert now["tq_queue_oldest_ready_seconds", ("q",)] >= 0
        assert now["tq_workers", ()] == 1
        assert now["tq_raft_is_leader", ()] == 1
        assert now["tq_raft_applied_index", ()] == now["tq_raft_commit_index", ()] == client.last_index
        eventually("its lease runs out", lambda: scraped(broker)["tq_leases_expired_total", ()] == 1, broker)
        assert isinstance(session.complete_many([(second, b"")])[0], Exception)
        assert scraped(broker)["tq_stale_results_total", ()] == 1


def test_health_pages(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    status, text = broker.http("/health/live")
    assert (status, json.loads(text)) == (200, {"live": True})
    status, text = broker.http("/health/ready")
    assert (status, json.loads(text)) == (200, {"ready": True, "role": "leader", "leader": "broker"})
    status, text = broker.http("/metrics/")
    assert status == 404
    assert "/health/ready" in text
    connection = http.client.HTTPConnection(broker.metrics_address, timeout=5)
    connection.request("POST", "/metrics")
    assert connection.getresponse().status == 405
    connection.close()
    host, _, port = broker.metrics_address.rpartition(":")
    with socket.create_connection((host, int(port)), 15) as peer:
        peer.sendall(b"\x16\x03\x01 not HTTP\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4_096):
            pass
    assert broker.http("/health/live")[0] == 200


def test_json_logs_have_context_in_each_line(ground: Ground) -> None:
    broker = ground.broker(JSON_LOGS)
    broker.start_ready()
    assert broker.stop() == 0
    rows = said(broker)
    assert [row["event"] for row in rows] == ["starts", "leads", "serves", "stops", "stopped"]
    assert all(row["node"] == "broker" and row["level"] == "info" and row["timestamp"].endswith("Z") for row in rows)
    assert rows[0]["listen"] == broker.address
