"""What Prometheus reads, from a real broker object on simulated disk and time; and docs/configuration.md lists it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.machine.driver import id_of
from tests.unit.raft.rig import node_on
from tq import metrics
from tq.broker.broker import Broker
from tq.config import Config
from tq.machine import commands as c
from tq.machine import queries
from tq.raft.driver import Passes
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom
from tq.spec import Spec, encode
from tq.store.memory import MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
WAY = {"reachable": True, "reason": None, "waiting_bytes": 7, "dropped": 2, "refused": None}
SESSION = b"session".ljust(16, b"-")


class Rig:
    """A broker that leads a group of one, and the commands that tests give to its log."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        disk = SimDisk()
        self.node = node_on(disk, clock=self.clock, segment_bytes=1 << 20)
        self.broker = Broker(Config(), MemoryStore(), self.node, disk, self.clock, SeededRandom(3), bytes(16))
        self._passes = Passes(
            self.node, self.broker.before_turn, self.broker.on_committed, self.broker.on_role, self.broker.on_reads
        )
        self.run()
        assert self.broker.is_serving

    def run(self) -> None:
        while self._passes.run_once():
            pass

    def do(self, command: c.Command) -> Any:
        answers: list[Any] = []
        self.broker.proposer.propose(command, 1, 100, lambda answer, _index: answers.append(answer))
        self.run()
        assert len(answers) == 1
        assert not isinstance(answers[0], Exception), answers[0]
        return answers[0]

    def submit(self, n: int, **fields: Any) -> None:
        self.do(c.Submit([encode(Spec(id=id_of(n), type="echo", payload=b"", **fields))], False))

    def claim(self, seq: int, max_n: int = 1) -> Any:
        return self.do(c.Claim(SESSION, seq, ["default"], max_n))

    def collect(self) -> list[Metric]:
        return list(self._collector().collect())

    def text(self) -> str:
        return metrics.render(self._collector()).decode()

    def _collector(self) -> metrics.BrokerCollector:
        broker = self.broker
        return metrics.BrokerCollector(broker.stats, lambda: queries.queues(broker.txn, broker.log_time_ms()))

    def value(self, sample: str, **labels: str) -> float:
        found = [
            one.value
            for family in text_string_to_metric_families(self.text())
            for one in family.samples
            if (one.name, one.labels) == (sample, labels)
        ]
        assert len(found) == 1, (sample, labels, found)
        return found[0]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_new_broker_has_all_its_metrics(rig: Rig) -> None:
    assert rig.value("tq_raft_is_leader") == 1
    assert rig.value("tq_raft_term") == rig.node.term
    assert rig.value("tq_raft_commit_index") == rig.value("tq_raft_applied_index") == rig.node.commit_index > 0
    assert rig.value("tq_raft_checkpointed_index") == 0
    assert rig.value("tq_workers") == rig.value("tq_connections") == rig.value("tq_claims_parked") == 0
    assert rig.value("tq_leases_expired_total") == rig.value("tq_stale_results_total") == 0
    assert rig.value("tq_journal_bytes") > 0
    assert rig.value("tq_disk_free_bytes") > 0
    assert rig.value("tq_disk_is_low") == 0


def test_the_other_nodes(rig: Rig) -> None:
    lost = {**WAY, "reachable": False, "refused": "another disk"}
    rig.broker.peer_statistics = lambda: {"n2": WAY, "n3": lost, "stranger": {"refused": "no member"}}
    assert [rig.value("tq_raft_peer_reachable", peer=peer) for peer in ("n2", "n3")] == [1, 0]
    assert rig.value("tq_raft_peer_waiting_bytes", peer="n2") == 7
    assert rig.value("tq_raft_peer_dropped_total", peer="n2") == 2
    assert [rig.value("tq_raft_peer_refused", peer=peer) for peer in ("n2", "n3", "stranger")] == [0, 1, 1]
    assert rig.value("tq_relayed_connections", direction="outgoing") == 0
    assert rig.value("tq_raft_elections_total") == 1
    assert rig.value("tq_clock_offset_seconds") == rig.value("tq_clock_is_wrong") == 0


def test_tasks_are_counted_by_queue_state_and_band(rig: Rig) -> None:
    rig.submit(1, priority=255)
    rig.submit(2, priority=100)
    rig.submit(3, priority=0, queue="mail")
    rig.submit(4, delay_ms=60_000, queue="mail")
    assert rig.value("tq_tasks_pending", queue="default", band="high") == 1
    assert rig.value("tq_tasks_pending", queue="default", band="normal") == 1
    assert rig.value("tq_tasks_pending", queue="default", band="low") == 0
    assert rig.value("tq_tasks_pending", queue="mail", band="low") == 1
    assert rig.value("tq_tasks_scheduled", queue="mail") == 1
    assert rig.value("tq_tasks_scheduled", queue="default") == 0
    rig.do(c.SessionOpen(SESSION, "worker", ["echo"], ["default"]))
    assert len(rig.claim(1)) == 1
    assert rig.value("tq_workers") == 1
    assert rig.value("tq_tasks_running", queue="default") == 1
    assert rig.value("tq_tasks_pending", queue="default", band="high") == 0


def test_settings_of_queues(rig: Rig) -> None:
    rig.submit(1)
    rig.do(c.QueueSet(b"operation-------", "mail", "ana", [["paused", True], ["max_length", 7]]))
    assert [rig.value("tq_queue_paused", queue=queue) for queue in ("default", "mail")] == [0, 1]
    assert rig.value("tq_queue_max_length", queue="mail") == 7
    assert 'tq_queue_max_length{queue="default"}' not in rig.text()
    assert "queue_paused" not in [event for _, event, _ in rig.broker.stats()["events"]], "no task was changed"


def test_events_leases_and_stale_outcomes_are_counted(rig: Rig) -> None:
    rig.submit(1)
    rig.do(c.SessionOpen(SESSION, "worker", ["echo"], ["default"]))
    ((_spec, _attempt, _crashes, fence, *_),) = rig.claim(1)
    rig.do(c.LeasesExpire([[id_of(1), fence]]))
    assert rig.value("tq_stale_results_total") == 0
    rig.do(c.Report(SESSION, [[id_of(1), fence, int(c.Outcome.COMPLETE), ["", b""]]], 0))
    assert rig.value("tq_leases_expired_total") == 1
    assert rig.value("tq_stale_results_total") == 1
    assert rig.value("tq_tasks_total", queue="default", event="crashed") == 1
    assert rig.value("tq_tasks_total", queue="default", event="created") == 1
    assert rig.value("tq_tasks_total", queue="default", event="started") == 1


def test_the_oldest_ready_task_ages_while_nothing_happens(rig: Rig) -> None:
    rig.submit(1)
    assert rig.value("tq_queue_oldest_ready_seconds", queue="default") == 0
    rig.clock.advance_ms(2_500)  # no entry is written in this time
    assert rig.value("tq_queue_oldest_ready_seconds", queue="default") == 2.5


def test_log_and_checkpoints(rig: Rig) -> None:
    entries, commands = rig.value("tq_log_entries_total"), rig.value("tq_log_commands_total")
    done: list[object] = []
    for n in (1, 2, 3):
        spec = encode(Spec(id=id_of(n), type="echo", payload=b""))
        rig.broker.proposer.propose(c.Submit([spec], False), 1, 100, lambda answer, _index: done.append(answer))
    rig.run()
    assert len(done) == 3
    assert rig.value("tq_log_entries_total") == entries + 1
    assert rig.value("tq_log_commands_total") == commands + 3
    rig.broker.checkpoint()
    assert rig.value("tq_raft_checkpointed_index") == rig.value("tq_raft_applied_index")
    assert rig.value("tq_checkpoint_seconds") >= 0


def test_durations_are_in_seconds(rig: Rig) -> None:
    stats = rig.broker.stats()
    stats["raft"]["sync_p99_ms"] = 4.0
    stats["applier"]["checkpoint_last_ms"] = 30.0
    families = {family.name: family for family in metrics.BrokerCollector(lambda: stats, list).collect()}
    assert families["tq_raft_fsync_seconds"].samples[0].value == 0.004
    assert families["tq_checkpoint_seconds"].samples[0].value == 0.03


def test_names_of_queues_cannot_break_the_text(rig: Rig) -> None:
    rig.submit(1, queue='a"b\\c')
    assert rig.value("tq_tasks_pending", queue='a"b\\c', band="normal") == 1


def test_nothing_is_kept_between_two_readings(rig: Rig) -> None:
    rig.submit(1)
    assert rig.text() == rig.text()


def test_each_metric_has_help_and_a_unit_that_prometheus_knows(rig: Rig) -> None:
    for family in rig.collect():
        assert family.name.startswith("tq_")
        assert family.documentation
        assert "_ms" not in family.name


def test_the_page_lists_each_metric_and_no_other(rig: Rig) -> None:
    rig.broker.peer_statistics = lambda: {"n2": WAY}
    rig.do(c.QueueSet(b"operation-------", "default", "ana", [["max_length", 7]]))  # so that labels are there
    rig.submit(1)
    shown = re.findall(r"^\| `(tq_\w+)` \| (.*?) \| (.+) \|$", PAGE, re.MULTILINE)
    real = []
    for family in rig.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels})
        real.append((name, ", ".join(f"`{label}`" for label in labels), family.documentation))
    assert sorted((name, ", ".join(sorted(labels.split(", "))), text) for name, labels, text in shown) == sorted(real)
