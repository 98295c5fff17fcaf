"""As programs written for Celery use it, on a broker in memory."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from tq.contrib.celery import Celery, MaxRetriesExceededError
from tq.errors import (
    ConfigError,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotInHandler,
    TaskCancelled,
    TaskFailed,
    Unsupported,
    WaitTimeout,
)
from tq.testing import MemoryBroker, memory_broker

app = Celery("shop")
seen: list[Any] = []


class Busy(Exception): ...


@app.task
def add(x, y=1):
    return x + y


@app.task(bind=True, max_retries=2, default_retry_delay=60)
def flaky(self, succeeds_at):
    seen.append((self.request.retries, self.request.id, self.request.delivery_info["redelivered"]))
    if self.request.retries < succeeds_at:
        self.retry(exc=Busy("later"), countdown=10)
    return self.request.retries


@app.task(bind=True, max_retries=1, name="shop.hopeless", queue="slow")
def hopeless(self):
    self.retry()


@app.task(autoretry_for=(Busy,), dont_autoretry_for=(TimeoutError,), max_retries=3, retry_backoff=2, retry_jitter=False)
def automatic(kind):
    seen.append(kind)
    if kind == "busy" and seen.count("busy") < 3:
        raise Busy
    if kind == "broken":
        raise ValueError("broken")
    return kind


@app.task(ignore_result=True, time_limit=5, soft_time_limit=3, acks_late=True)
def quiet():
    return 1


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    seen.clear()
    with memory_broker() as broker:
        broker.run(app)
        yield broker


def test_delay_and_get(broker: MemoryBroker) -> None:
    result = add.delay(2, y=3)
    assert (result.get(timeout=10), result.state, result.ready(), result.successful(), result.failed()) == (
        5, "SUCCESS", True, True, False,
    )  # fmt: skip
    assert result.result == 5
    assert app.AsyncResult(result.id) == result
    assert app.AsyncResult(result.id).get(timeout=10) == 5
    assert app.send_task(add.name, (1,), {"y": 1}).get(timeout=10) == 2


def test_a_call_runs_here() -> None:
    assert add(1, 2) == add.run(1, 2) == 3
    with pytest.raises(NotInHandler):
        flaky(0)


def test_arguments_are_those_of_the_function(broker: MemoryBroker) -> None:
    with pytest.raises(InvalidRequest, match="argument"):
        flaky.delay()
    with pytest.raises(InvalidRequest, match="self"):
        flaky.delay(0, self=1)
    assert flaky.delay(succeeds_at=0).get(timeout=10) == 0


def test_options_of_a_submit(broker: MemoryBroker) -> None:
    broker.client.pause("default")
    at = broker.now + datetime.timedelta(hours=1)
    later = add.apply_async((1,), countdown=30, queue="other", priority=7, headers={"a": "b"}, expires=60)
    info = later.tq.status()
    assert (info.state, info.queue, info.priority, info.headers) == ("scheduled", "other", 7, {"a": "b"})
    assert later.state == "PENDING"
    assert add.apply_async((1,), eta=at).tq.status().due_at == at.timestamp()
    given = add.apply_async(kwargs={"x": 1}, task_id="0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90")
    assert given.id == "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90"
    assert app.AsyncResult("0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91").state == "PENDING"


def test_retry_by_hand(broker: MemoryBroker) -> None:
    result = flaky.delay(2)
    broker.run_until_idle()
    assert result.state == "RETRY"
    assert result.get(timeout=100) == 2
    assert [retries for retries, _id, _ in seen] == [0, 1, 2]
    assert {id for _, id, _ in seen} == {result.id}
    began = broker.now
    with pytest.raises(TaskFailed, match="Busy: later"):
        flaky.delay(5).get(timeout=1_000)
    assert 20 <= (broker.now - began).total_seconds() <= 30


def test_without_an_exception_of_its_own(broker: MemoryBroker) -> None:
    broker.worker(app, queues=["slow"])
    began = broker.now
    with pytest.raises(TaskFailed, match=MaxRetriesExceededError.__name__):
        hopeless.delay().get(timeout=1_000)
    assert 180 <= (broker.now - began).total_seconds() <= 200


def test_a_failure_is_final_unless_it_is_in_autoretry_for(broker: MemoryBroker) -> None:
    broken = automatic.delay("broken")
    with pytest.raises(TaskFailed, match="broken"):
        broken.get(timeout=10)
    assert (broken.state, broken.tq.status().attempt, seen) == ("FAILURE", 1, ["broken"])
    assert "ValueError" in str(broken.get(propagate=False))
    assert "raise ValueError" in (broken.traceback or "")
    seen.clear()
    began = broker.now
    assert automatic.delay("busy").get(timeout=1_000) == "busy"
    assert 6 <= (broker.now - began).total_seconds() < 8, "2 s and 4 s"


def test_revoke_and_forget(broker: MemoryBroker) -> None:
    result = add.apply_async((1,), countdown=60)
    with pytest.raises(InvalidState):
        result.forget()
    assert result.result is None
    with pytest.raises(WaitTimeout):
        result.get(timeout=1, propagate=False)
    result.revoke(terminate=True)
    assert (result.state, result.ready()) == ("REVOKED", True)
    assert isinstance(result.result, TaskCancelled)
    result.forget()
    assert result.state == "PENDING"


def test_a_time_limit_and_an_ignored_result(broker: MemoryBroker) -> None:
    result = quiet.delay()
    broker.run_until_done()
    broker.advance(2)
    assert result.state == "SUCCESS"
    with pytest.raises(NotFound, match="result"):
        result.get(timeout=10)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rate_limit": "10/s"}, "rate_limit='10/s'"),
        ({"serializer": "pickle"}, "serializer='pickle': it is 'json' here"),
        ({"acks_late": False}, "acks_late=False: it is True here"),
        ({"max_retries": None}, "max_retries=None"),
        ({"base": object}, "base="),
    ],
)
def test_what_is_not_here_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Unsupported) as caught:
        Celery("x").task(lambda: None, **{"name": "x", **options})
    assert named in caught.value.message


def test_nor_other_things_of_celery(broker: MemoryBroker) -> None:
    assert not hasattr(add, "chunks")
    for use in (lambda: add.s(1), lambda: app.conf, lambda: add.apply_async((1,), link=add), lambda: add.starmap([])):
        with pytest.raises(Unsupported, match=r"docs/celery\.md"):
            use()
    with pytest.raises(Unsupported, match="expires"):
        add.apply_async((1,), expires=broker.now)
    with pytest.raises(NotFound, match="no task 'nobody'"):
        app.send_task("nobody")
    with pytest.raises(ConfigError, match="brokers of its own"):
        Celery("x", broker="redis://localhost")
    with pytest.raises(ConfigError, match="leave it out"):
        Celery("x", backend="rpc://")
