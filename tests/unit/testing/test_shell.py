"""The client of a simulated world: each verb as ever, and waits that let the time go by."""

from __future__ import annotations

import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import BrokerUnavailable, ClientMiddleware, Conflict, NotFound, Retry, StaleFence, TaskSpec, WaitTimeout
from tq.client.steps import T, Verb
from tq.testing import MemoryBroker, cluster, memory_broker


def test_each_verb_is_there() -> None:
    with memory_broker() as broker:
        client = broker.client
        broker.worker(handlers(Book()))
        one = client.submit("echo", b"1", idempotency_key="k")
        assert client.submit("echo", b"1", idempotency_key="k").id == one.id
        with pytest.raises(Conflict):
            client.submit("echo", b"2", idempotency_key="k")
        many = client.submit_many([TaskSpec("echo", str(number).encode()) for number in range(1_200)])
        assert {item.outcome for item in many} == {"created"}
        broker.run_until_idle()
        assert client.wait(one.id, 5).result == b"1"
        assert client.get(one.id, linearizable=True).state == "completed"
        assert client.explain(one.id).why
        assert len(list(client.list_all(state="completed"))) == 1_201
        dead = client.submit("fail", b"", retry=Retry(max_attempts=1))
        broker.run_until_idle()
        assert client.retry_where(state="dead").done == 1
        broker.run_until_idle()
        assert client.retry(dead.id) == "pending"
        broker.run_until_idle()
        assert client.purge(dead.id) == "dead"
        with pytest.raises(NotFound):
            client.get(dead.id)
        assert client.purge_where(state="completed").done == 1_201
        assert client.queues() is not None
        assert client.last_index > 0
        assert client.cluster_id


def test_a_wait_ends_at_its_virtual_time() -> None:
    with memory_broker() as broker:
        submitted = broker.client.submit("echo")
        began = broker.now
        with pytest.raises(WaitTimeout, match="has not ended within 300 s"):
            broker.client.wait(submitted.id, 300)
        assert 299 < (broker.now - began).total_seconds() < 302


def test_a_wait_without_end_ends_where_nothing_can_happen() -> None:
    with memory_broker() as broker:
        submitted = broker.client.submit("echo")
        with pytest.raises(WaitTimeout, match="Is there a worker for this type and queue"):
            broker.client.wait(submitted.id)


@pytest.mark.parametrize("delay", [100, 10_000])
def test_a_wait_without_end_waits_for_what_is_due_later(delay: int) -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        submitted = broker.client.submit("echo", b"x", delay=delay)
        assert broker.client.wait(submitted.id).result == b"x"


def test_events_are_heard() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        with broker.client.events(timeout=5) as events:
            submitted = broker.client.submit("nap", b"60")
            seen = [event.kind for event in events]
            assert seen == ["created", "started"], "the next one is behind the time-out"
            broker.advance(60)
            assert [event.kind for event in events] == ["completed"]
        with broker.client.events(submitted.id) as events:
            assert list(events) == [], "without a time-out it ends where nothing can happen"


def test_a_session_of_the_test_itself() -> None:
    with memory_broker(lease=10) as broker:
        client = broker.client
        session = client.register_worker(["echo"])
        submitted = client.submit("echo", b"x")
        [grant] = session.claim(wait=5)
        assert grant.spec.payload == b"x"
        broker.advance(4)
        session.heartbeat()
        broker.advance(8)
        assert client.get(submitted.id).state == "running", "its lease was renewed"
        broker.advance(8)
        assert client.get(submitted.id).state == "pending", "nobody has renewed it"
        with pytest.raises(StaleFence):
            session.complete(grant, b"late")
        other = client.register_worker(["echo"])
        [again] = other.claim(wait=5)
        assert (again.crashes, again.fence > grant.fence) == (1, True)
        assert other.complete(again, b"y") == "applied"
        assert client.wait(submitted.id, 5).result == b"y"
        other.close()


def test_a_claim_waits() -> None:
    with memory_broker() as broker:
        session = broker.client.register_worker(["echo"])
        broker.client.submit("echo", delay=20)
        began = broker.now
        assert len(session.claim(wait=60)) == 1
        assert 19 < (broker.now - began).total_seconds() < 22
        assert session.claim(wait=0) == []


def test_a_client_that_finds_nobody_says_so() -> None:
    with cluster(3) as nodes:
        for name in nodes.nodes:
            nodes.kill(name)
        began = nodes.now
        with pytest.raises(BrokerUnavailable):
            nodes.client.stats(timeout=7)
        assert 6 < (nodes.now - began).total_seconds() < 8
        for name in nodes.nodes:
            nodes.restart(name)
        assert nodes.client.submit("echo").outcome == "created"


def test_another_client_with_middleware() -> None:
    class Traced(ClientMiddleware):
        def before_submit(self, spec: TaskSpec) -> TaskSpec:
            verbs.append("before")
            return spec

        def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
            verbs.append(verb)
            return (yield from steps)

    verbs: list[str] = []
    with memory_broker() as broker:
        client = broker.new_client(middleware=[Traced()], timeout=3)
        client.submit("echo")
        client.stats()
        assert verbs == ["submit", "before", "stats"]


def test_a_closed_client_is_closed() -> None:
    with memory_broker() as broker:
        client = broker.new_client()
        client.submit("echo")
        client.close()
        client.close()
        with pytest.raises(BrokerUnavailable, match="closed"):
            client.submit("echo")


def test_large_payloads_pass() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        payload = b"x" * 900_000
        submitted = [broker.client.submit("echo", payload) for _ in range(3)]
        assert [broker.client.wait(one.id, 10).result for one in submitted] == [payload] * 3


def jobs_of(broker: MemoryBroker) -> int:
    return int(broker.client.stats()["connections"])


def test_connections_end_with_their_owners() -> None:
    with memory_broker() as broker:
        client = broker.new_client()
        client.stats()
        worker = broker.worker(handlers(Book()))
        broker.advance(1)
        before = jobs_of(broker)
        client.close()
        worker.stop()
        broker.advance(1)
        assert jobs_of(broker) == before - 3
