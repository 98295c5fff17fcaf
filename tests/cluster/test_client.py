"""The client against a real broker: what is promised of connections, retries, pushes, batches, errors and sizes."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, Wire, eventually, free_ports
from tq import Client, TaskSpec, limits
from tq.client.specs import Retry, Unique
from tq.errors import (
    Backpressure,
    BatchRefused,
    BrokerUnavailable,
    Conflict,
    InvalidRequest,
    InvalidState,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    SessionLost,
    StaleFence,
    TqError,
    WaitTimeout,
)
from tq.protocol import messages as m
from tq.spec import Spec, encode

NOW = Retry(max_attempts=3, backoff_base=0.01)


def new_id() -> str:
    return str(uuid.uuid4())


# ---- one connection --------------------------------------------------------------------------------


def test_many_threads_share_one_connection_and_do_not_wait_for_each_other(
    shared_broker: Broker, client: Client, queue: str
) -> None:
    connections = client.stats()["connections"]
    slow = client.submit("t", queue=queue)
    with ThreadPoolExecutor(9) as pool:
        waiting = pool.submit(client.wait, slow.id, 20)  # parked at the broker, in flight all the time
        submitted = list(pool.map(lambda n: client.submit("t", b"%d" % n, queue=queue), range(200)))
        payloads = list(pool.map(lambda task: client.get(task.id).payload, submitted))
        assert payloads == [b"%d" % n for n in range(200)]
        assert not waiting.done()
        assert client.stats()["connections"] == connections
        with client.register_worker(["t"], [queue]) as session:
            first = session.claim()[0]
            session.complete(first, b"end")
            assert waiting.result(5).result == b"end"


def test_waiting_costs_no_requests(client: Client, queue: str, shared_broker: Broker) -> None:
    task = client.submit("t", queue=queue)
    with client.register_worker(["t"], [queue]) as session, Client(shared_broker.address) as other:
        grant = session.claim()[0]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(other.wait, task.id, 20)
            eventually("the wait is parked", lambda: client.stats()["waits"] == 1, shared_broker)
            before = client.stats()["requests"]
            with pytest.raises(TimeoutError):
                waiting.result(1.0)
            assert client.stats()["requests"] == before + 1, "only our own question came in"
            began = time.perf_counter()
            session.complete(grant)
            waiting.result(5)
            assert time.perf_counter() - began < 1.0


def test_a_task_that_becomes_ready_wakes_a_parked_claim(client: Client, queue: str, shared_broker: Broker) -> None:
    with Client(shared_broker.address) as worker, worker.register_worker(["t"], [queue]) as session:
        with ThreadPoolExecutor(1) as pool:
            claim = pool.submit(session.claim, 5, 20)
            eventually("the claim is parked", lambda: client.stats()["claims_parked"] == 1, shared_broker)
            client.submit("t", b"x", queue=queue)
            (grant,) = claim.result(5)
        assert grant.spec.payload == b"x"


def test_resuming_a_queue_wakes_a_parked_claim(client: Client, queue: str, shared_broker: Broker) -> None:
    client.pause(queue, "a test")
    session = client.register_worker(["t"], [queue])
    with Client(shared_broker.address) as other, ThreadPoolExecutor(1) as pool:
        claim = pool.submit(session.claim, 5, 20)
        eventually("the claim is parked", lambda: other.stats()["claims_parked"] == 1, shared_broker)
        task = other.submit("t", queue=queue)
        assert "is paused by" in other.explain(task.id).why
        assert other.stats()["claims_parked"] == 1
        began = time.perf_counter()
        other.resume(queue)
        assert [grant.id for grant in claim.result(5)] == [task.id]
        assert time.perf_counter() - began < 1.0
    session.close()


def test_settings_of_a_queue_outlive_a_kill_of_the_broker(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Client(broker.address) as client:
        given = client.set_queue("mail", max_length=1, retry=Retry(max_attempts=2))
        paused = client.pause("mail", "a test", by="ana").paused
        client.submit("t", queue="mail")
        broker.kill()
        broker.start_ready()
        (row,) = client.queues()
        assert row.settings.paused == paused
        assert (row.settings.max_length, row.settings.retry) == (given.max_length, given.retry)
        with pytest.raises(QueueFull):
            client.submit("t", queue="mail")
        with client.register_worker(["t"], ["mail"]) as session:
            assert session.claim() == []
            client.resume("mail")
            assert len(session.claim()) == 1


def test_a_parked_claim_dies_with_its_connection(ground: Ground) -> None:
    broker = ground.broker()  # long leases: its session outlives it
    broker.start_ready()
    session = uuid.uuid4().bytes
    with Client(broker.address) as client:
        with Wire(broker.address) as wire:
            wire.send(m.RegisterWorker(1, session, "w", ["t"], ["q"], {}))
            wire.receive(1)
            wire.send(m.ClaimTask(2, session, 1, ["q"], 5, 30_000))
            eventually("the claim is parked", lambda: client.stats()["claims_parked"] == 1, broker)
        eventually("it died", lambda: client.stats()["claims_parked"] == 0, broker, timeout=10)
        task = client.submit("t", queue="q")
        assert client.get(task.id).state == "pending"
        assert len(client.workers()) == 1


def test_reads_of_another_client_see_what_this_one_wrote(shared_broker: Broker, client: Client, queue: str) -> None:
    with Client(shared_broker.address) as other:
        for _ in range(50):
            task = client.submit("t", queue=queue)
            info = other.get(task.id, min_index=client.last_index)
            assert info.index >= client.last_index
            assert other.last_index >= info.index


# ---- the broker goes away --------------------------------------------------------------------------


def test_calls_outlive_a_kill_of_the_broker_and_nothing_is_done_twice(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    ids = [new_id() for _ in range(400)]
    with Client(broker.address) as client, Client(broker.address) as other, ThreadPoolExecutor(9) as pool:
        parked = other.register_worker(["late"], ["q"])
        claim = pool.submit(parked.claim, 1, 25)
        half = threading.Event()

        def submit(number: int) -> str:
            if number == 100:
                half.set()
            return client.submit("t", b"%d" % number, id=ids[number], queue="q").outcome

        outcomes = [pool.submit(submit, number) for number in range(400)]
        assert half.wait(20)
        broker.kill()
        broker.start_ready()
        said = [outcome.result(25) for outcome in outcomes]
        assert set(said) <= {"created", "duplicate"}
        assert {uuid.UUID(task.id) for task in client.list_all(queue="q")} == {uuid.UUID(key) for key in ids}
        # The claim that was parked when the broker died is parked again, under its number.
        late = client.submit("late", queue="q")
        assert [grant.id for grant in claim.result(25)] == [late.id]
        parked.close()


def test_a_session_goes_on_over_a_restart(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Client(broker.address) as client:
        session = client.register_worker(["t"], ["q"])
        client.submit_many([TaskSpec("t", queue="q"), TaskSpec("t", queue="q")])
        first, second = session.claim(2)
        broker.kill()
        broker.start_ready()
        assert session.heartbeat().lost == ()
        assert session.complete(first, b"1") == "applied"
        assert session.complete(first, b"1") == "already"
        broker.kill()
        broker.start_ready()
        assert session.complete(first, b"1") == "already"
        assert session.fail(second, "no", permanent=True) == "applied"
        assert [client.get(task.id).state for task in (first, second)] == ["completed", "dead"]


def test_events_go_on_over_a_restart(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Client(broker.address) as client, client.events(timeout=20) as events:
        before = client.submit("t", queue="q")
        assert next(events).kind == "created"
        broker.kill()
        broker.start_ready()
        after = client.submit("t", queue="q")
        seen = next(events)
        assert (seen.kind, seen.id) == ("created", after.id) != ("created", before.id)


def test_without_a_broker_calls_fail_in_time_and_say_so() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with Client(address, reach=0.5) as client:
        began = time.perf_counter()
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1") as caught:
            client.submit("t")
        assert time.perf_counter() - began < 3
        assert caught.value.retryable


# ---- events ----------------------------------------------------------------------------------------


def test_the_events_of_a_task_tell_its_life_in_order(client: Client, queue: str) -> None:
    other = client.submit("u", queue=queue)
    key = new_id()
    with client.events(key, timeout=10) as events, client.register_worker(["t"], [queue]) as session:
        client.submit("t", id=key, queue=queue, retry=NOW)
        first = session.claim()[0]
        session.fail(first, ValueError("no"))
        (again,) = session.claim(1, 10)
        session.complete(again, b"yes")
        kinds, places = [], []
        for event in events:
            assert (event.id, event.queue, event.type) == (key, queue, "t")
            kinds.append(event.kind)
            places.append((event.index, event.ordinal))
            if event.kind == "completed":
                break
    assert kinds == ["created", "started", "failed", "scheduled", "ready", "started", "completed"]
    assert places == sorted(set(places))
    assert client.get(other.id).state == "pending"


# ---- batches ---------------------------------------------------------------------------------------


def test_a_large_batch_is_answered_item_by_item_in_order(client: Client, queue: str) -> None:
    specs = [TaskSpec("t", b"%d" % n, queue=queue, id=new_id()) for n in range(2_500)]
    specs[7] = TaskSpec("t", priority=999, queue=queue)
    specs[1_700] = TaskSpec("t", b"other", queue=queue, id=specs[3].id)
    items = client.submit_many(specs)
    assert [item.outcome for item in items[:7]] == ["created"] * 7
    assert items[7].outcome == "invalid"
    assert isinstance(items[7].error, InvalidRequest)
    assert items[1_700].outcome == "conflict"
    assert [item.id for item in items[1_701:]] == [spec.id for spec in specs[1_701:]]
    assert sum(item.outcome == "created" for item in items) == 2_498
    again = client.submit_many(specs[:7])
    assert [item.outcome for item in again] == ["duplicate"] * 7


def test_an_atomic_batch_is_all_or_nothing(client: Client, queue: str) -> None:
    taken = client.submit("t", b"1", queue=queue, id=new_id())
    innocent = new_id()
    specs = [TaskSpec("t", id=innocent, queue=queue), TaskSpec("t", b"2", id=taken.id, queue=queue)]
    with pytest.raises(BatchRefused) as caught:
        client.submit_many(specs, atomic=True)
    assert [item.outcome for item in caught.value.items] == ["not_done", "conflict"]
    with pytest.raises(NotFound):
        client.get(innocent)
    assert [item.outcome for item in client.submit_many(specs[:1] * 2, atomic=True)] == ["created", "duplicate"]


def test_outcomes_in_a_batch_are_judged_one_by_one(client: Client, queue: str) -> None:
    client.submit_many([TaskSpec("t", queue=queue) for _ in range(3)])
    with client.register_worker(["t"], [queue]) as session:
        first, second, third = session.claim(3)
        session.release(second)
        said = session.complete_many([(first, b"1"), (second, b"2"), (third, b"3")])
        assert said[0] == said[2] == "applied"
        assert isinstance(said[1], StaleFence)
        assert [client.get(grant.id).state for grant in (first, second, third)] == ["completed", "pending", "completed"]


# ---- errors ----------------------------------------------------------------------------------------


def test_errors_have_types_and_say_what_is_wrong(client: Client, queue: str, shared_broker: Broker) -> None:
    def refused(kind: type[TqError], call: object, *arguments: object, **more: object) -> TqError:
        assert callable(call)
        with pytest.raises(kind) as caught:
            call(*arguments, **more)
        assert caught.value.code
        return caught.value

    unknown = new_id()
    assert refused(NotFound, client.get, unknown).detail == {"purged": False}
    refused(NotFound, client.cancel, unknown)
    refused(NotFound, client.wait, unknown, 1)
    refused(InvalidRequest, client.get, "not an id")
    error = refused(InvalidRequest, client.submit, "t", priority=256, queue=queue)
    assert error.detail["field"] == "priority"
    assert error.detail["value"] == "256"
    task = client.submit("t", b"1", queue=queue)
    refused(Conflict, client.submit, "t", b"2", queue=queue, id=task.id)
    refused(WaitTimeout, client.wait, task.id, 0.05)
    refused(InvalidState, client.purge, task.id)
    refused(InvalidState, client.retry, task.id)
    session = client.register_worker(["t"], [queue])
    grant = session.claim()[0]
    refused(StaleFence, session.complete, (grant.id, grant.fence - 1))
    session.complete(grant)
    refused(InvalidState, client.retry, task.id)
    assert client.purge(task.id) == "completed"
    assert refused(NotFound, client.get, task.id).detail == {"purged": True}
    other = Client(shared_broker.address)
    other.close()
    refused(BrokerUnavailable, other.get, task.id)
    session.close()
    refused(SessionLost, session.claim)


def test_keys_name_one_task(client: Client, queue: str) -> None:
    first = client.submit("t", b"1", queue=queue, idempotency_key=f"{queue}/1")
    again = client.submit("t", b"1", queue=queue, idempotency_key=f"{queue}/1")
    assert (again.outcome, again.id, again.state) == ("duplicate", first.id, "pending")
    with pytest.raises(Conflict):
        client.submit("t", b"2", queue=queue, idempotency_key=f"{queue}/1")
    holder = client.submit("u", queue=queue, unique=Unique(queue, during="pending"))
    assert client.submit("u", queue=queue, unique=Unique(queue, during="pending")).id == holder.id
    with client.register_worker(["u"], [queue]) as session:
        session.claim()
        assert client.submit("u", queue=queue, unique=Unique(queue, during="pending")).outcome == "created"


# ---- sizes and overload ----------------------------------------------------------------------------


def test_ten_megabytes_in_and_ten_out(client: Client, queue: str) -> None:
    payload = b"p" * limits.PAYLOAD_BYTES_MAX
    result = b"r" * limits.RESULT_BYTES_MAX
    task = client.submit("t", payload, queue=queue)
    with client.register_worker(["t"], [queue]) as session:
        grant = session.claim()[0]
        assert grant.spec.payload == payload
        assert session.complete(grant, result) == "applied"
        with pytest.raises(PayloadTooLarge) as caught:
            session.complete(grant, result + b"r")
        assert caught.value.detail["bound"] == limits.RESULT_BYTES_MAX
    assert client.wait(task.id, 5).result == result
    assert client.get(task.id, parts=1).payload == payload
    assert client.get(task.id, parts=2).result == result
    with pytest.raises(PayloadTooLarge) as caught:
        client.submit("t", payload + b"p", queue=queue)
    assert caught.value.detail["bound"] == limits.PAYLOAD_BYTES_MAX


def test_claims_of_large_tasks_are_cut_to_what_a_frame_takes(client: Client, queue: str) -> None:
    payload = b"p" * (4 * limits.MIB)
    ids = [client.submit("t", payload, queue=queue).id for _ in range(5)]
    with client.register_worker(["t"], [queue]) as session:
        claimed: list[str] = []
        while len(claimed) < 5:
            grants = session.claim(5)
            assert 1 <= len(grants) <= 3
            claimed += [grant.id for grant in grants]
            session.complete_many([(grant, payload) for grant in grants])
    assert claimed == ids


def test_too_many_requests_are_refused_and_each_is_answered(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    wires = [Wire(broker.address) for _ in range(45)]
    count = limits.REQUESTS_IN_FLIGHT_MAX - 100
    broker.pause()  # so that all of them are there when it looks
    ids = {}
    for number, wire in enumerate(wires):
        for rid in range(1, count + 1):
            ids[number, rid] = uuid.uuid4().bytes
        wire.send(*(m.SubmitTask(rid, [encode(Spec(ids[number, rid], "t", b""))]) for rid in range(1, count + 1)))
    broker.resume()
    created, refused = set(), set()
    for number, wire in enumerate(wires):
        with wire:
            for reply in wire.receive(count):
                if isinstance(reply, m.ErrorReply):
                    assert reply.error[0] == Backpressure.code
                    refused.add(ids[number, reply.rid])
                else:
                    created.add(ids[number, reply.rid])
    assert len(created) + len(refused) == 45 * count
    assert refused, "more than the broker holds was sent at once"
    assert len(created) >= limits.PROPOSER_QUEUE_COMMANDS_MAX
    with Client(broker.address) as client:
        found = {uuid.UUID(task.id).bytes for task in client.list_all()}
    assert found == created


def test_a_full_broker_refuses_connections_and_the_client_comes_back(ground: Ground) -> None:
    broker = ground.broker({**SHORT_LEASES, "limits": {"connections_max": 1, "disk_free_min_bytes": 0}})
    broker.start_ready()
    with Client(broker.address) as first:
        first.submit("t", queue="q")
        with Client(broker.address, timeout=20) as second, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.submit, "t", queue="q")
            with pytest.raises(TimeoutError):
                waiting.result(0.7)
            assert first.stats()["connections"] == 1
            first.close()
            assert waiting.result(15).outcome == "created"
        with Client(broker.address, timeout=0.5) as third:
            assert third.stats()["connections"] == 1


def test_a_reader_of_events_that_does_not_read_is_cut_off_and_told(ground: Ground) -> None:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    with Wire(broker.address, receive_bytes=64 * limits.KIB) as slow, Client(broker.address) as client:
        slow.send(m.Subscribe(1, None, None))
        slow.receive(1)
        assert client.stats()["subscriptions"] == 1
        tag = "x" * limits.NAME_CHARS_MAX  # in each event as the name of the queue
        for _ in range(200):
            client.submit_many([TaskSpec("t", queue=tag) for _ in range(1_000)])
            if client.stats()["subscriptions"] == 0:
                break
        assert client.stats()["subscriptions"] == 0
        events = slow.receive(1)
        while not events[-1].last:
            events = slow.receive(1)
        assert client.stats()["connections"] == 2, "the connection itself goes on"
