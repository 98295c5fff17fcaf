"""Real workers and a real broker: what is promised when processes die, tasks are cancelled, and signals come."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, Process, eventually
from tq import Retry, TaskSpec
from tq.client.blocking import Client
from tq.client.models import TaskInfo

MODULE = "tests.cluster.worker_handlers"
ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


@attrs.define
class Field:
    """A broker that runs, and workers on demand."""

    ground: Ground
    broker: Broker
    client: Client

    def worker(self, *arguments: str, name: str = "worker", module: str = MODULE) -> Process:
        environ = {"TQ_TEST_FOLDER": str(self.ground.folder)}
        worker = self.ground.worker(
            self.broker, module, "--name", name, *arguments, name=name, path=[ROOT], environ=environ
        )
        worker.start()
        return worker

    def marks(self, event: str, id: str) -> list[list[int]]:
        """[attempt, crashes, fence, pid] of each time a handler of this task has marked the event."""
        path = self.ground.folder / f"{event}-{id}"
        if not path.exists():
            return []
        return [[int(word) for word in line.split()] for line in path.read_text().splitlines()]

    def until_marked(self, event: str, id: str, worker: Process, times: int = 1) -> list[list[int]]:
        eventually(f"{event} {id}", lambda: len(self.marks(event, id)) >= times, worker, WAIT_S)
        return self.marks(event, id)

    def release(self) -> None:
        (self.ground.folder / "release").touch()

    def outcomes(self, id: str) -> list[str]:
        return [attempt.outcome for attempt in self.client.get(id).history]

    def end_of(self, id: str) -> TaskInfo:
        return self.client.wait(id, WAIT_S)


@pytest.fixture
def field(ground: Ground) -> Iterator[Field]:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Client(broker.address) as client:
        yield Field(ground, broker, client)


def test_each_kind_of_handler_does_its_work(field: Field) -> None:
    worker = field.worker("--concurrency", "8")
    types = ["echo", "thread", "noisy-process", "asyncio"]
    ids = [field.client.submit(name, name.encode()).id for name in types for _ in range(5)]
    assert [field.end_of(id).result for id in ids] == [name.encode() for name in types for _ in range(5)]
    (known,) = field.client.workers()
    assert (known.name, known.info["pid"], known.info["slots"]) == ("worker", worker.pid, 8)
    eventually("a heartbeat that counts them", lambda: field.client.workers()[0].stats.get("completed") == 20, worker)
    stats = field.client.workers()[0].stats
    assert stats["rss_bytes"] > 10_000_000
    assert stats["processes"] > 1
    assert worker.stop() == 0
    assert list(field.client.workers()) == []


def test_types_that_no_worker_has_stay_in_their_queue(field: Field) -> None:
    other = field.client.submit("nobody-has-this").id
    mine = field.client.submit("echo", b"x").id
    field.worker()
    assert field.end_of(mine).state == "completed"
    assert field.client.get(other).state == "pending"
    assert field.client.get(other).attempt == 0


def test_a_task_of_a_killed_worker_is_done_by_another_under_a_higher_fence(field: Field) -> None:
    first = field.worker(name="first")
    id = field.client.submit("hold").id
    field.until_marked("begun", id, first)
    first.kill()
    second = field.worker(name="second")
    begun = field.until_marked("begun", id, second, times=2)
    field.release()
    info = field.end_of(id)
    assert (info.state, info.attempt, info.crashes) == ("completed", 1, 1)
    assert begun[1][2] > begun[0][2]
    assert info.fence == begun[1][2]


def test_heartbeats_keep_leases_over_many_terms_even_when_a_handler_holds_the_loop(field: Field) -> None:
    worker = field.worker()
    held = field.client.submit("hold").id
    field.until_marked("begun", held, worker)
    blocking = field.client.submit("block", b"4").id  # the lease is 1.5 s
    assert field.end_of(blocking).result == b"done"
    field.release()
    for id in (held, blocking):
        info = field.end_of(id)
        assert (info.state, info.attempt, info.crashes) == ("completed", 1, 0)
        assert len(field.marks("begun", id)) == 1


def test_a_child_that_crashes_costs_its_attempt_alone(field: Field) -> None:
    worker = field.worker()
    other = field.client.submit("hold").id
    field.until_marked("begun", other, worker)
    id = field.client.submit("segfault", b"2").id
    info = field.end_of(id)
    assert (info.state, info.result, info.attempt, info.crashes) == ("completed", b"survived", 1, 2)
    assert worker.alive
    field.release()
    assert (field.end_of(other).state, field.end_of(other).crashes) == ("completed", 0)


def test_a_task_that_crashes_each_time_is_poison(field: Field) -> None:
    worker = field.worker()
    info = field.end_of(field.client.submit("segfault", b"99").id)
    assert (info.state, info.reason, info.crashes) == ("dead", "poison", 3)
    assert worker.alive


def test_a_blocked_asyncio_loop_holds_up_neither_leases_nor_other_tasks(field: Field) -> None:
    worker = field.worker()
    id = field.client.submit("block-asyncio").id
    field.until_marked("begun", id, worker)
    others = [field.client.submit(name, b"on").id for name in ("echo", "thread", "noisy-process")]
    assert [field.end_of(other).result for other in others] == [b"on"] * 3
    behind = field.client.submit("asyncio", b"behind").id
    patience(worker, 3.5)  # the lease is 1.5 s
    assert field.client.get(id).state == "running"
    field.release()
    for ended in (id, behind):
        info = field.end_of(ended)
        assert (info.state, info.attempt, info.crashes) == ("completed", 1, 0)


STOPPABLE = ["hold", "hold-async", "hold-asyncio", "hold-process"]


def test_running_tasks_are_cancelled_in_each_kind_of_executor(field: Field) -> None:
    worker = field.worker()
    ids = {name: field.client.submit(name).id for name in STOPPABLE}
    for id in ids.values():
        field.until_marked("begun", id, worker)
    begun = time.monotonic()
    for name, id in ids.items():
        assert field.client.cancel(id, grace=1 if name == "hold-process" else 30) == "cancelling"
    for id in ids.values():
        field.until_marked("stopped", id, worker)
        assert field.end_of(id).state == "cancelled"
    assert time.monotonic() - begun < 25, "the grace of those that stop was waited for"
    after = field.client.submit("echo", b"on").id
    assert field.end_of(after).result == b"on"


def test_attempts_that_run_too_long_are_stopped_and_counted(field: Field) -> None:
    worker = field.worker()
    ids = {name: field.client.submit(name, timeout=0.3, retry=Retry(max_attempts=1)).id for name in STOPPABLE}
    for name, id in ids.items():
        if name != "hold-process":  # whose child may be killed before it has begun
            field.until_marked("stopped", id, worker)
        info = field.end_of(id)
        assert (info.state, info.attempt, info.crashes) == ("dead", 1, 0)
        assert field.outcomes(id) == ["timed_out"]
    eventually("the slots are free", lambda: field.client.workers()[0].stats.get("running") == 0, worker)


def test_a_thread_that_does_not_stop_keeps_its_slot_and_is_seen(field: Field) -> None:
    worker = field.worker("--concurrency", "2")
    id = field.client.submit("deaf").id
    field.until_marked("begun", id, worker)
    assert field.client.cancel(id, grace=0.2) == "cancelling"
    assert field.end_of(id).state == "cancelled"
    eventually("it says so", lambda: "keeps its slot" in worker.tail(), worker)
    eventually("it is counted", lambda: field.client.workers()[0].stats.get("stuck") == 1, worker)
    assert field.end_of(field.client.submit("echo", b"on").id).result == b"on", "the other slot works on"


def test_a_worker_that_stood_still_is_told_that_its_leases_are_lost(field: Field) -> None:
    first = field.worker(name="first")
    id = field.client.submit("hold").id
    field.until_marked("begun", id, first)
    first.pause()
    second = field.worker(name="second")
    field.until_marked("begun", id, second, times=2)
    first.resume()
    field.until_marked("lost", id, first)
    field.release()
    info = field.end_of(id)
    begun = field.marks("begun", id)
    assert (info.state, info.crashes, info.fence) == ("completed", len(begun) - 1, begun[-1][2])
    eventually("it works on", lambda: len(field.client.workers()) == 2, first)


def test_sigterm_lets_running_tasks_end_and_claims_no_more(field: Field) -> None:
    worker = field.worker()
    running = field.client.submit("hold").id
    field.until_marked("begun", running, worker)
    worker.terminate()
    eventually("it drains", lambda: "draining" in worker.tail(), worker)
    later = field.client.submit("echo").id
    field.release()
    assert worker.wait(WAIT_S) == 0
    assert field.client.get(running).state == "completed"
    assert field.client.get(later).state == "pending"
    assert list(field.client.workers()) == []


def test_what_does_not_end_while_draining_goes_back_uncounted(field: Field) -> None:
    worker = field.worker("--drain", "0.3", "--concurrency", "8")
    ids = [field.client.submit(name).id for name in (*STOPPABLE, "deaf")]
    for id in ids:
        field.until_marked("begun", id, worker)
    worker.terminate()
    assert worker.wait(WAIT_S) == 0
    for id in ids:
        info = field.client.get(id)
        assert (info.state, info.attempt, info.crashes) == ("pending", 0, 0)


@pytest.mark.parametrize("type_", ["hold-process", "deaf", "block"])
def test_the_second_signal_quits_whatever_the_handlers_do(field: Field, type_: str) -> None:
    worker = field.worker()
    id = field.client.submit(type_, b"600").id
    field.until_marked("begun", id, worker)
    worker.terminate()
    if type_ == "block":
        patience(worker, 0.3)  # its loop cannot say that it drains
    else:
        eventually("it drains", lambda: "draining" in worker.tail(), worker)
    begun = time.monotonic()
    os.kill(worker.pid, signal.SIGINT)
    assert worker.wait(WAIT_S) == 130
    assert time.monotonic() - begun < 10
    if type_ != "block":
        eventually("given back", lambda: field.client.get(id).state == "pending", field.broker)
        assert field.client.get(id).crashes == 0


def test_children_do_not_outlive_a_killed_worker(field: Field) -> None:
    worker = field.worker()
    id = field.client.submit("hold-process").id
    ((_attempt, _crashes, _fence, pid),) = field.until_marked("begun", id, worker)
    worker.kill()
    eventually("the child is gone", lambda: not Path(f"/proc/{pid}").exists(), field.broker)


def test_a_killed_broker_comes_back_and_the_work_goes_on(field: Field) -> None:
    worker = field.worker()
    held = field.client.submit("hold").id
    field.until_marked("begun", held, worker)
    field.broker.kill()
    field.release()  # the handler ends while nobody listens
    field.broker.start_ready()
    info = field.end_of(held)
    assert (info.state, info.result, info.attempt, info.crashes) == ("completed", b"released", 1, 0)
    ids = [field.client.submit("echo", b"%d" % n).id for n in range(20)]
    assert [field.end_of(id).result for id in ids] == [b"%d" % n for n in range(20)]
    assert worker.tail().count("session opened") == 1, "the session is in the log, it outlives the broker"


def test_a_broker_that_stops_in_order_loses_nothing_either(field: Field) -> None:
    worker = field.worker("--concurrency", "16")
    ids = [item.id for item in field.client.submit_many([TaskSpec(type="thread") for _ in range(500)])]
    field.broker.stop()
    field.broker.start_ready()
    infos = [field.end_of(id) for id in ids]
    assert {info.state for info in infos} == {"completed"}
    assert {info.crashes for info in infos} == {0}
    assert worker.alive


def test_a_worker_started_before_its_broker_waits_for_it(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    worker = ground.worker(broker, "tq.samples")
    worker.start()
    eventually("it says that nobody is there", lambda: "not connected" in worker.tail(), worker)
    broker.start_ready()
    with Client(broker.address) as client:
        assert client.wait(client.submit("echo", b"hi").id, WAIT_S).result == b"hi"
        assert client.wait(client.submit("compute", b"1000").id, WAIT_S).result == b"168"
        info = client.wait(client.submit("fail", b"fatal: broken").id, WAIT_S)
        assert info.error is not None
        assert info.error[:2] == ("tq.verdicts.Fatal", "broken")
        assert "samples.py" in info.error[2]
    assert worker.stop() == 0


def test_a_worker_that_cannot_begin_says_why(ground: Ground) -> None:
    broker = ground.broker()
    cases = [
        ("no.such.module", [], "there is no module"),
        ("tq.limits", [], "no app or HANDLERS"),
        ("tq.samples", ["--queues", " , "], "no queue is named"),
        ("tq.samples", ["--log-level", "loud"], "log level 'loud'"),
    ]
    workers = [
        ground.worker(broker, module, *arguments, name=f"w{number}")
        for number, (module, arguments, _text) in enumerate(cases)
    ]
    for worker in workers:
        worker.start()
    for worker, (_module, _arguments, text) in zip(workers, cases, strict=True):
        assert worker.wait(WAIT_S) == 2
        assert text in worker.tail()


def patience(process: Process, seconds: float) -> None:
    """Time itself is what is tested."""
    end = time.monotonic() + seconds
    eventually("time passes", lambda: time.monotonic() > end, process)
