"""The client's verbs against the real state machine: both ends must mean the same by every field."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from tests.unit.client.fake_broker import FakeBroker
from tests.unit.client.machine_broker import MachineBroker
from tq import Client, Retry, Session, TaskSpec, Unique, limits
from tq.errors import (
    BatchRefused,
    Conflict,
    InvalidRequest,
    InvalidState,
    NotFound,
    PayloadTooLarge,
    SessionLost,
    StaleFence,
)


@pytest.fixture
def client() -> Iterator[Client]:
    with FakeBroker(MachineBroker()) as broker, Client(broker.address) as client:
        yield client


@pytest.fixture
def session(client: Client) -> Session:
    return client.register_worker(["echo"], queues=["default", "mail"], name="w1")


def test_the_whole_life_of_a_task(client: Client, session: Session) -> None:
    task = client.submit("echo", b"p", priority=7, tags=["t"], headers={"h": "v"}, timeout=9, deadline=60)
    assert (task.outcome, task.state) == ("created", "pending")
    (grant,) = session.claim(5)
    assert (grant.id, grant.payload, grant.priority, grant.attempt, grant.timeout) == (task.id, b"p", 7, 1, 9.0)
    assert grant.deadline is not None
    assert abs(grant.deadline - time.time() - 60) < 10
    running = client.get(task.id)
    assert (running.state, running.worker, running.fence) == ("running", "w1", grant.fence)
    assert session.complete(grant, b"r", content_type="text/plain") == "applied"
    assert session.complete(grant, b"r", content_type="text/plain") == "already"
    info = client.wait(task.id, 5)
    assert (info.state, info.result, info.result_content_type, info.payload) == ("completed", b"r", "text/plain", None)
    info = client.get(task.id)
    assert (info.payload, info.tags, info.headers, info.more) == (b"p", ("t",), {"h": "v"}, {})
    assert [attempt.outcome for attempt in info.history] == ["completed"]
    assert info.created_at is not None
    assert info.ended_at is not None
    assert abs(info.created_at - time.time()) < 60
    assert info.created_at <= info.ended_at
    assert session.held == {}


def test_failures_with_their_errors(client: Client, session: Session) -> None:
    task = client.submit("echo", retry=Retry(max_attempts=2, backoff_base=0, jitter=0))
    (first,) = session.claim()
    try:
        raise ValueError("bad address")
    except ValueError as error:
        session.fail(first, error, retry_after=100)
    info = client.get(task.id)
    assert info.state == "scheduled"
    assert info.due_at is not None
    assert abs(info.due_at - time.time() - 100) < 30
    assert info.error is not None
    assert info.error[:2] == ("ValueError", "bad address")
    assert "test_failures_with_their_errors" in info.error[2]
    with pytest.raises(StaleFence):
        session.complete(first)
    client.cancel(task.id)
    client.retry(task.id)
    (again,) = session.claim()
    session.fail(again, "no use", permanent=True)
    info = client.get(task.id)
    assert (info.state, info.reason) == ("dead", "permanent")
    assert {attempt.outcome for attempt in info.history} == {"failed", "stale"}
    assert "no use" in client.explain(task.id).why


def test_giving_back(client: Client, session: Session) -> None:
    client.submit_many([TaskSpec("echo") for _ in range(3)])
    one, two, three = session.claim(3)
    assert session.release(one) == "applied"
    assert session.snooze(two, 50) == "applied"
    assert client.get(one.id).state == "pending"
    assert (client.get(two.id).state, client.get(two.id).snoozes) == ("scheduled", 1)
    session.close()
    assert (client.get(three.id).state, client.get(three.id).attempt, client.get(three.id).crashes) == ("pending", 0, 0)
    with pytest.raises(SessionLost):
        session.claim()


def test_a_repeated_claim_gives_what_is_still_held(client: Client, session: Session) -> None:
    client.submit_many([TaskSpec("echo") for _ in range(2)])
    one, two = session.claim(2, seq=5)
    session.complete(one)
    assert [grant.fence for grant in session.claim(2, seq=5)] == [two.fence]
    assert session.claim(2) == []  # number 6


def test_identity(client: Client) -> None:
    key = uuid.uuid4()
    assert client.submit("echo", b"a", id=key, delay=60).outcome == "created"
    again = client.submit("echo", b"a", id=key, delay=60)
    assert (again.outcome, again.state, again.id) == ("duplicate", "scheduled", str(key))
    with pytest.raises(Conflict):
        client.submit("echo", b"b", id=key)
    first = client.submit("echo", unique=Unique("u", during="pending"))
    assert client.submit("echo", b"other", unique="u").id == first.id
    kept = client.submit("echo", idempotency_key="k")
    assert client.submit("echo", idempotency_key="k").id == kept.id


def test_batches(client: Client) -> None:
    key = uuid.uuid4()
    good, bad = TaskSpec("echo", id=key), TaskSpec("echo", priority=999)
    done = client.submit_many([good, bad, good, TaskSpec("echo", bytes(10 * 2**20 + 1))])
    assert [item.outcome for item in done] == ["created", "invalid", "duplicate", "too_large"]
    assert isinstance(done[1].error, InvalidRequest)
    assert done[1].error.detail["field"] == "priority"
    assert isinstance(done[3].error, PayloadTooLarge)
    assert len(client.submit_many([good], atomic=True)) == 1
    with pytest.raises(BatchRefused) as caught:
        client.submit_many([TaskSpec("echo"), bad], atomic=True)
    assert [item.outcome for item in caught.value.items] == ["not_done", "invalid"]


def test_cancel(client: Client, session: Session) -> None:
    waiting = client.submit("echo", queue="mail")
    assert client.cancel(waiting.id) == "cancelled"
    running = client.submit("echo")
    (grant,) = session.claim()
    assert client.cancel(running.id, grace=5) == "cancelling"
    assert client.get(running.id).cancelling
    assert session.cancelled(grant) == "applied"
    assert client.cancel(running.id) == "cancelled"
    with pytest.raises(NotFound):
        client.cancel(uuid.uuid4())


def test_retry_and_purge(client: Client, session: Session) -> None:
    task = client.submit("echo")
    with pytest.raises(InvalidState):
        client.retry(task.id)
    with pytest.raises(InvalidState):
        client.purge(task.id)
    client.cancel(task.id)
    assert client.retry(task.id, delay=60) == "scheduled"
    client.cancel(task.id)
    assert client.purge(task.id) == "cancelled"
    with pytest.raises(NotFound) as caught:
        client.get(task.id)
    assert caught.value.detail["purged"]


def test_jobs_lists_and_queues(client: Client, session: Session) -> None:
    ids = [client.submit("echo", queue="mail", tags=["x"]).id for _ in range(7)]
    client.cancel_many(ids)
    assert {task.id for task in client.list_all(state="cancelled", queue="mail", tag="x")} == set(ids)
    assert list(client.list_all(state="dead")) == []
    job = client.retry_where(state="cancelled", queue="mail", limit=5)
    assert (job.done, job.finished, job.verb) == (5, True, "retry")
    (queue,) = [queue for queue in client.queues() if queue.name == "mail"]
    assert (queue.pending_total, queue.cancelled, queue.more) == (5, 2, {})
    assert queue.oldest_ready_at is not None
    assert client.purge_where(state="cancelled", older_than=3600).done == 0
    assert client.purge_where(state="cancelled").done == 2
    page = client.list(limit=3)
    assert len(page.tasks) == 3
    assert page.cursor is not None


def test_a_page_is_filled_from_replies_that_are_short(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker looks at few tasks for one reply; the client asks on."""
    monkeypatch.setattr(limits, "LIST_HEADERS_MAX", 3)
    ids = [client.submit("echo", tags=["x"] if n % 5 == 0 else []).id for n in range(20)]
    page = client.list(tag="x", limit=3)
    assert [task.id for task in page.tasks] == ids[15::-5][:3]
    assert page.cursor is not None
    assert [task.id for task in client.list(tag="x", cursor=page.cursor).tasks] == ids[:1]
    oldest_first = client.list(tag="x", limit=2, oldest_first=True)
    assert [task.id for task in oldest_first.tasks] == ids[0:10:5]
    assert [task.id for task in client.list_all(tag="x", oldest_first=True, limit=3)] == ids[0:15:5]


def test_a_page_whose_time_is_short_is_one_reply(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_HEADERS_MAX", 3)
    for _ in range(9):
        client.submit("echo")
    page = client.list(tag="x", timeout=4)
    assert (page.tasks, page.cursor is None) == ([], False)


def test_a_list_takes_every_word_of_a_filter(client: Client, session: Session) -> None:
    task = client.submit("echo", queue="default")
    (grant,) = session.claim()
    session.fail(grant, ValueError("no"), permanent=True)
    for given in (
        {"state": "failed"},
        {"state": ["dead", "expired"]},
        {"id_prefix": task.id[:13]},
        {"worker": session.name},
        {"worker": session.id},
        {"error": ValueError},
        {"created_since": 0, "created_until": 1 << 33},
        {"ended_since": 0.5, "ended_until": 1 << 33},
    ):
        assert [found.id for found in client.list(type="echo", **given).tasks] == [task.id], given
    for given in ({"state": "live"}, {"error": KeyError}, {"worker": "nobody"}, {"ended_until": 1}):
        assert client.list(type="echo", **given).tasks == [], given
    with pytest.raises(InvalidRequest, match="state"):
        client.list(state="gone")
    assert client.retry_where(error="ValueError", worker=session.name).done == 1


def test_an_attempt_keeps_something_for_the_next_one(client: Client, session: Session) -> None:
    task = client.submit("echo")
    (grant,) = session.claim()
    assert grant.checkpoint is None
    assert session.checkpoint(grant, b"half") == "applied"
    assert session.checkpoint((task.id, grant.fence), bytearray(b"more")) == "applied"
    assert client.get(task.id).checkpoint_bytes == 4
    session.release(grant)
    with pytest.raises(StaleFence, match="pending now"):
        session.checkpoint(grant, b"late")
    (again,) = session.claim()
    assert again.checkpoint == b"more"
    assert session.checkpoint(again, None) == "applied"
    assert client.get(task.id).checkpoint_bytes is None
    with pytest.raises(PayloadTooLarge, match="65536"):
        session.checkpoint(again, bytes(limits.CHECKPOINT_BYTES_MAX + 1))
    with pytest.raises(InvalidRequest, match="data"):
        session.checkpoint(again, "text")  # type: ignore[arg-type]


def test_explain(client: Client) -> None:
    task = client.submit("echo", delay=60)
    found = client.explain(task.id)
    assert "scheduled" in found.why
    assert found.facts["id"] == task.id
    assert found.facts["history"] == []
    assert found.facts["due_in"] <= 60
