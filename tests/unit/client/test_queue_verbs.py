"""Pause, resume and settings of queues: what is asked for, what comes back, and what is there then."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.client.fake_broker import FakeBroker
from tests.unit.client.machine_broker import MachineBroker
from tests.unit.client.rig import Rig, Talk
from tq import Client, Retry, TaskSpec
from tq.client import records
from tq.client.models import QueueInfo, QueueSettings
from tq.client.verbs import Verbs
from tq.errors import BatchRefused, InvalidRequest, QueueFull, Unsupported
from tq.protocol import messages as m


@pytest.fixture
def client() -> Iterator[Client]:
    with FakeBroker(MachineBroker()) as broker, Client(broker.address) as client:
        yield client


def asked(verb: str, *args: Any, **kwargs: Any) -> Any:
    """The one request that a verb makes."""
    rig = Rig()
    verbs = Verbs(rig.core, rig.clock, rig.random, 1_000)
    talk = Talk(getattr(verbs, verb)(*args, **kwargs), lambda request: m.SetQueueReply(request.rid, 1, {}), rig.clock)
    assert talk.run() == QueueSettings()
    (request,) = talk.requests
    assert isinstance(request, m.SetQueue)
    return request


def test_what_is_asked_for() -> None:
    request = asked("pause", "mail", "deploy", by="ana")
    assert (request.queue, request.by, request.changes) == ("mail", "ana", {"paused": True, "reason": "deploy"})
    assert len(request.operation) == 16
    assert asked("resume", "mail").changes == {"paused": False}
    assert asked("resume", "mail").by == "unknown"
    assert asked("set_queue", "mail").changes == {}


def test_seconds_become_milliseconds_and_none_is_the_default_again() -> None:
    retry = Retry(max_attempts=3, backoff_base=0.5, factor=1.5, cap=9, jitter=0.1)
    request = asked(
        "set_queue", "mail", max_length=5, timeout=1.5, expires_in=2, result_ttl=None, retry=retry, finished_keep=0, dead_keep=None
    )  # fmt: skip
    assert request.changes == {
        "max_length": 5, "timeout_ms": 1_500, "expires_in_ms": 2_000, "result_ttl_ms": None, "finished_keep_ms": 0,
        "dead_keep_ms": None, "retry": [3, 500, 1_500, 9_000, 100],
    }  # fmt: skip
    assert asked("set_queue", "mail", retry=None, max_length=None).changes == {"retry": None, "max_length": None}


def test_what_is_no_number_is_refused_before_it_is_sent() -> None:
    for field in ("timeout", "expires_in", "result_ttl", "finished_keep", "dead_keep"):
        with pytest.raises(InvalidRequest, match=field):
            asked("set_queue", "mail", **{field: "soon"})


def test_pause_and_resume(client: Client) -> None:
    session = client.register_worker(["echo"], queues=["mail"])
    task = client.submit("echo", queue="mail")
    settings = client.pause("mail", "deploy", by="ana")
    assert settings.paused is not None
    assert (settings.paused.by, settings.paused.reason) == ("ana", "deploy")
    assert abs(settings.paused.since - time.time()) < 60
    assert session.claim() == []
    assert "queue 'mail' is paused by ana" in client.explain(task.id).why
    assert client.resume("mail") == QueueSettings()
    assert [grant.id for grant in session.claim()] == [task.id]


def test_who_asks_is_the_user_unless_another_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = client.pause("mail").paused
    assert paused is not None
    assert paused.by.endswith("@" + socket.gethostname())
    monkeypatch.setenv("LOGNAME", "ana")
    with Client("127.0.0.1:1") as other:
        assert other._verbs.who == f"ana@{socket.gethostname()}"


def test_settings_come_back_as_they_were_given(client: Client) -> None:
    retry = Retry(max_attempts=3, backoff_base=0.5)
    given = client.set_queue(
        "mail", max_length=2, timeout=1.5, expires_in=60, result_ttl=0, retry=retry, finished_keep=3_600
    )
    assert given == QueueSettings(
        max_length=2, timeout=1.5, expires_in=60, result_ttl=0, retry=retry, finished_keep=3_600
    )
    client.submit("echo", queue="mail", delay=60)
    (queue,) = client.queues()
    assert queue.settings == given
    assert (queue.length, queue.scheduled, queue.pending_total) == (1, 1, 0)
    assert client.set_queue("mail", max_length=None).max_length is None
    assert client.set_queue("mail").timeout == 1.5


def test_a_full_queue_raises_or_is_told_by_item(client: Client) -> None:
    client.set_queue("mail", max_length=1)
    first = client.submit("echo", queue="mail", idempotency_key="k")
    with pytest.raises(QueueFull, match="'mail' is full, 1 of 1") as error:
        client.submit("echo", queue="mail")
    assert error.value.retryable
    assert error.value.retry_after == 1.0
    assert error.value.detail == {"queue": "mail", "length": 1, "max_length": 1}
    again, refused, other = client.submit_many(
        [TaskSpec("echo", queue="mail", idempotency_key="k"), TaskSpec("echo", queue="mail"), TaskSpec("echo")]
    )
    assert (again.outcome, again.id) == ("duplicate", first.id)
    assert refused.outcome == "queue_full"
    assert isinstance(refused.error, QueueFull)
    assert other.outcome == "created"
    with pytest.raises(BatchRefused) as batch:
        client.submit_many([TaskSpec("echo"), TaskSpec("echo", queue="mail")], atomic=True)
    assert [item.outcome for item in batch.value.items] == ["not_done", "queue_full"]


def test_a_retry_that_is_named_is_not_the_queue_s_whatever_it_says(client: Client) -> None:
    client.set_queue("mail", retry=Retry(max_attempts=1), timeout=9)
    said = client.submit("echo", queue="mail", retry=Retry())
    unsaid = client.submit("echo", queue="mail", tags=["t"])
    assert (client.get(said.id).attempts_max, client.get(unsaid.id).attempts_max) == (5, 1)
    assert client.get(said.id).timeout == client.get(unsaid.id).timeout == 9


@pytest.mark.parametrize("later", [{"rate": "100/s"}, {"concurrency": 8}, {"rate": None}])
def test_what_comes_later_is_refused_by_name(client: Client, later: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=next(iter(later))):
        client.set_queue("mail", max_length=5, **later)
    assert client.queues() == []


def test_settings_of_a_later_broker_are_kept(client: Client) -> None:
    assert records.queue_settings({"max_length": 1, "colour": "red"}) == QueueSettings(
        max_length=1, more={"colour": "red"}
    )
    assert records.queue_info({"name": "mail"}) == QueueInfo("mail"), "one of an earlier broker has none"
