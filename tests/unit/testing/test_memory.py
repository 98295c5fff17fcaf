"""``memory_broker`` and ``inline``: a whole broker, and tasks that run when they are submitted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from tests.unit.testing.handlers import Book, handlers
from tq import (
    App,
    Fatal,
    InvalidRequest,
    Retry,
    Snooze,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    WaitTimeout,
    current,
    resource,
)
from tq.testing import inline, memory, memory_broker

RAN: list[Any] = []
app = App(worker_middleware=[])


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@dataclass
class Point:
    x: int
    y: int = 0


@app.task
def double(point: Point) -> Point:
    RAN.append(("double", point, current().attempt))
    return Point(point.x * 2, point.y * 2)


@app.task(queue="other", retry=Retry(max_attempts=3, backoff_base=100))
def broken(text: str) -> None:
    RAN.append(("broken", current().attempt))
    raise ValueError(text)


@app.task
def hopeless() -> None:
    RAN.append("hopeless")
    raise Fatal("no use")


@app.task
def sleepy(times: int) -> int:
    RAN.append("sleepy")
    if len(RAN) <= times:
        raise Snooze(60)
    return len(RAN)


@app.task
def parent(number: int) -> str:
    RAN.append("parent begins")
    handles = [double.submit(Point(at)) for at in range(number)]
    RAN.append("parent ends")
    return ",".join(handle.id for handle in handles)


@app.task
def resubmits() -> None:
    RAN.append("resubmits")
    resubmits.submit()


@app.task
def waits_for_child() -> int:
    return double.submit(Point(21)).result(timeout=10).x


@app.task
async def anapper(seconds: float) -> str:
    RAN.append("begins")
    await trio.sleep(seconds)
    child = await double.asubmit(Point(1))
    RAN.append("submitted")
    point = await child.aresult(timeout=10)
    return f"{point.x}"


@app.task(runtime="asyncio")
async def adozer(seconds: float) -> str:
    await asyncio.sleep(seconds)
    child = await double.asubmit(Point(2))
    point = await child.aresult(timeout=10)
    return f"{point.x}"


def make_lamp() -> Iterator[str]:
    RAN.append("lamp on")
    yield "lamp"
    RAN.append("lamp off")


app.resources["lamp"] = make_lamp


@app.task(executor="process")
def lit(lamp: str = resource("lamp")) -> str:
    return lamp


# ---- a broker alone ----------------------------------------------------------------------------------------------


def test_a_whole_broker() -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        submitted = broker.client.submit("echo", b"hello", priority=200, tags=["a"])
        info = broker.client.wait(submitted.id, 5)
        assert (info.state, info.result, info.priority, list(info.tags)) == ("completed", b"hello", 200, ["a"])
        assert [row.outcome for row in info.history] == ["completed"]
        assert [task.id for task in broker.client.list(state="completed").tasks] == [submitted.id]
        assert broker.client.stats()["tasks"]["completed"] == 1
        [worker] = broker.client.workers()
        assert worker.name == "worker-1"
        assert broker.client.cluster_status()


def test_an_app_on_it() -> None:
    with memory_broker() as broker:
        broker.run(app)
        assert double.submit(Point(4, 5)).result() == Point(8, 10)
        assert waits_for_child.submit().result() == 42
        assert anapper.submit(30.0).result() == "2"
        assert adozer.submit(30.0).result() == "4"
        assert lit.submit().result() == "lamp"
        with pytest.raises(TaskFailed, match="too bad"):
            broken.submit("too bad").result()
    assert RAN[0] == "lamp on"
    assert RAN[-1] == "lamp off"


def test_the_app_is_its_own_again_afterwards() -> None:
    mine = App("127.0.0.1:1", reach=0.01, timeout=0.02)
    with memory_broker() as broker:
        broker.use(mine)
        assert mine.client is broker.client
    assert mine.client is not broker.client
    mine.close()


def test_backoff_and_delay_are_kept_by_the_virtual_clock() -> None:
    with memory_broker() as broker:
        broker.run(app)
        began = broker.now
        handle = broken.options(delay=1_000).submit("no")
        broker.run_until_done()
        waited = (broker.now - began).total_seconds()
        assert 1_000 + 100 * 0.8 + 200 * 0.8 <= waited <= 1_000 + 100 * 1.2 + 200 * 1.2 + 1
        assert handle.status().attempt == 3


def test_expiry_and_cancel() -> None:
    with memory_broker() as broker:
        broker.use(app)
        late = double.options(expires_in=60).submit(Point(1))
        gone = double.submit(Point(2))
        assert gone.cancel() == "cancelled"
        broker.advance(61)
        broker.worker(app)
        broker.run_until_done()
        with pytest.raises(TaskExpired):
            late.result()
        with pytest.raises(TaskCancelled):
            gone.result()
        assert RAN == ["lamp on"]


def test_without_a_worker_a_wait_ends() -> None:
    with memory_broker() as broker:
        broker.use(app)
        handle = double.submit(Point(1))
        began = broker.now
        with pytest.raises(WaitTimeout, match="has not ended within 20 s"):
            handle.result(timeout=20)
        assert (broker.now - began).total_seconds() == pytest.approx(20, abs=1)
        with pytest.raises(WaitTimeout, match=r"nothing is going to: .* Is there a worker"):
            handle.result()


# ---- inline ------------------------------------------------------------------------------------------------------


def test_a_task_has_run_when_submit_returns() -> None:
    with inline(app):
        handle = double.submit(Point(3))
        assert RAN[1:] == [("double", Point(3), 1)]
        assert handle.status().state == "completed"
        assert handle.result() == Point(6)


def test_arguments_and_results_go_through_the_codec() -> None:
    with inline(app):
        with pytest.raises(InvalidRequest, match="point"):
            double.submit(object())  # type: ignore[arg-type]
        handles = double.submit_many([(Point(1),), {"point": Point(2)}])
        assert [handle.result().x for handle in handles] == [2, 4]


def test_retries_and_snoozes_pass_at_once() -> None:
    with inline(app) as simulation:
        began = simulation.now
        handle = broken.submit("no")
        assert [line for line in RAN if line[0] == "broken"] == [("broken", 1), ("broken", 2), ("broken", 3)]
        with pytest.raises(TaskFailed, match="no") as caught:
            handle.result()
        assert "ValueError" in str(caught.value)
        assert (simulation.now - began).total_seconds() > 200
        RAN.clear()
        assert sleepy.submit(3).result() == 4
        RAN.clear()
        with pytest.raises(TaskFailed, match="no use"):
            hopeless.submit().result()
        assert RAN == ["hopeless"]


def test_what_a_handler_submits_runs_when_it_has_ended() -> None:
    with inline(app):
        ids = parent.submit(2).result().split(",")
        assert RAN[1:3] == ["parent begins", "parent ends"]
        assert sorted(line[1].x for line in RAN[3:]) == [0, 1]
        assert all(app.handle(id).status().state == "completed" for id in ids)


def test_a_handler_may_wait_for_what_it_submits() -> None:
    with inline(app):
        assert waits_for_child.submit().result() == 42
        assert anapper.submit(1.0).result() == "2"
        assert adozer.submit(1.0).result() == "4"


def test_a_delayed_task_runs_at_once() -> None:
    with inline(app):
        assert double.options(delay=86_400).submit(Point(1)).result() == Point(2)


def test_tasks_without_end_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "INLINE_RUNS_MAX", 50)
    with inline(app):
        handle = resubmits.submit()
        assert handle.status().state == "completed"
        runs = RAN.count("resubmits")
        assert 45 < runs < 60
        assert handle.status().state == "completed"
        assert RAN.count("resubmits") == runs, "a look brings no work"


def test_a_unique_task_is_one() -> None:
    with inline(app):
        first = double.options(unique="p").submit(Point(1))
        second = double.options(unique="p").submit(Point(1))
        assert second.outcome == "created", "the first has ended already"
        assert first.id != second.id


async def test_a_test_may_be_a_coroutine_on_trio() -> None:
    with memory_broker() as broker:
        broker.run(app)
        handle = await double.asubmit(Point(3))
        assert await handle.aresult() == Point(6)
        assert (await handle.astatus()).state == "completed"
        nap = await anapper.asubmit(10.0)
        assert await nap.aresult(timeout=60) == "2"
    with inline(app):
        many = await double.asubmit_many([(Point(1),), (Point(2),)])
        assert [(await one.aresult()).x for one in many] == [2, 4]


def test_a_test_may_be_a_coroutine_on_asyncio() -> None:
    async def main() -> None:
        with memory_broker() as broker:
            broker.run(app)
            handle = await adozer.asubmit(10.0)
            assert await handle.aresult(timeout=60) == "4"

    asyncio.run(main())


def test_client_middleware_still_applies() -> None:
    with memory_broker() as broker:
        client = broker.new_client(timeout=5)
        submitted = client.submit("echo")
        assert broker.client.get(submitted.id).type == "echo"
