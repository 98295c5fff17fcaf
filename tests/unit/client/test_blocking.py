"""The threads and the socket of the blocking client, against a fake broker on the loopback."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
import uuid
from typing import Any

import pytest

from tests.unit.client.fake_broker import CLOSE, FakeBroker, created
from tq import Client, TaskSpec
from tq.client import shell
from tq.errors import (
    Backpressure,
    BatchRefused,
    BrokerUnavailable,
    Conflict,
    InvalidRequest,
    InvalidState,
    NotFound,
    SessionLost,
    StaleFence,
    WaitTimeout,
    to_wire,
)
from tq.protocol import messages as m

ID = bytes(range(16))
TASK: dict[str, Any] = {"id": ID, "type": "echo", "queue": "default", "priority": 150, "state": "pending"}


def error(request: Any, what: Exception) -> m.ErrorReply:
    return m.ErrorReply(request.rid, to_wire(what))  # type: ignore[arg-type]


def test_submit_gives_an_id_and_the_broker_the_task() -> None:
    with FakeBroker(created) as broker, Client(broker.address) as client:
        done = client.submit("echo", b"hello", priority=7)
        (request,) = broker.requests
        from tq.spec import parse

        spec = parse(request.specs[0])
        assert (spec.type, spec.payload, spec.priority) == ("echo", b"hello", 7)
        assert uuid.UUID(done.id).bytes == spec.id
        assert (done.outcome, client.last_index) == ("created", 10)


def test_refusals_are_raised_with_their_class() -> None:
    answers = iter(
        [
            lambda r: m.SubmitReply(r.rid, 1, [[2, 3, ID, to_wire(Conflict("taken"))]]),
            lambda r: error(r, Backpressure("full", retry_after=2)),
        ]
    )
    with FakeBroker(lambda request: next(answers)(request)) as broker, Client(broker.address) as client:
        with pytest.raises(Conflict, match="taken"):
            client.submit("echo", id=ID)
        with pytest.raises(Backpressure) as caught:
            client.submit("echo")
        assert caught.value.retry_after == 2


def test_many_threads_share_one_connection() -> None:
    with FakeBroker(created) as broker, Client(broker.address) as client:
        ids: set[str] = set()

        def submit() -> None:
            for _ in range(50):
                ids.add(client.submit("echo").id)

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(ids) == 400
        assert broker.connections == 1


def test_a_slow_request_does_not_hold_up_the_others() -> None:
    held: list[Any] = []

    def answer(request: Any) -> Any:
        if isinstance(request, m.WaitTask):
            held.append(request)
            return None
        if isinstance(request, m.GetTask):  # now the other one may go
            return [m.GetReply(request.rid, 1, TASK), m.WaitReply(held[0].rid, 1, True, {**TASK, "state": "completed"})]
        return None

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        ended: list[Any] = []
        waiter = threading.Thread(target=lambda: ended.append(client.wait(ID, 30)))
        waiter.start()
        while not held:
            time.sleep(0.001)
        assert client.get(ID).state == "pending"
        waiter.join(30)
        assert ended[0].state == "completed"


def test_a_reader_that_has_its_reply_hands_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "LINGER_MS", 60_000)  # the I/O thread does not come by chance
    held: list[Any] = []

    def answer(request: Any) -> Any:
        if isinstance(request, m.SubmitTask):
            return created(request)
        held.append(request)
        return None

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        client.submit("echo")
        callers = [threading.Thread(target=client.wait, args=(ID,)) for _ in range(3)]
        for count, caller in enumerate(callers, 1):
            caller.start()
            while len(held) < count:
                time.sleep(0.001)
        for request, caller in zip(held, callers, strict=True):  # the first one reads
            broker.push(m.WaitReply(request.rid, 1, True, {**TASK, "state": "dead"}))
            caller.join(3)  # its timer for PING would bring it after 5 s
            assert not caller.is_alive()


def test_a_lost_connection_is_made_good() -> None:
    lost: list[Any] = []

    def answer(request: Any) -> Any:
        if not lost:
            lost.append(request)
            return CLOSE
        return created(request)

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        client.submit("echo", b"once")
        first, again = broker.requests
        assert first.specs == again.specs
        assert broker.connections == 2


def test_lost_between_calls_too() -> None:
    with FakeBroker(created) as broker, Client(broker.address) as client:
        client.submit("echo")
        broker.drop()
        client.submit("echo")
        assert broker.connections == 2


def test_the_time_out_holds_for_a_silent_broker() -> None:
    with FakeBroker(lambda _request: None) as broker, Client(broker.address, timeout=0.2) as client:
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="unknown") as caught:
            client.submit("echo")
        assert 0.15 < time.monotonic() - begun < 5
        assert caught.value.detail["sent"]


def test_the_time_out_holds_without_any_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Client(f"127.0.0.1:{port}", timeout=0.2) as client, pytest.raises(BrokerUnavailable, match="cannot reach"):
        client.submit("echo")


def test_the_time_out_holds_while_another_thread_reads() -> None:
    held: list[Any] = []

    def answer(request: Any) -> Any:
        return held.append(request) if isinstance(request, m.WaitTask) else None if held else created(request)

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        client.submit("echo")
        first = threading.Thread(target=client.wait, args=(ID,))
        first.start()
        while len(broker.requests) < 2:
            time.sleep(0.001)
        with pytest.raises(BrokerUnavailable):
            client.get(ID, timeout=0.1)
        broker.push(m.WaitReply(held[0].rid, 1, True, {**TASK, "state": "dead"}))
        first.join(30)
        assert not first.is_alive()


def test_the_next_address_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"127.0.0.1:{free.getsockname()[1]}"
    with FakeBroker(created) as broker, Client([dead, broker.address]) as client:
        assert client.submit("echo").outcome == "created"


def test_large_frames_both_ways() -> None:
    def answer(request: Any) -> Any:
        return (
            m.GetReply(request.rid, 1, {**TASK, "payload": bytes(9 << 20)})
            if isinstance(request, m.GetTask)
            else created(request)
        )

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        client.submit("echo", bytes(9 << 20))
        info = client.get(ID)
        assert info.payload is not None
        assert len(info.payload) == 9 << 20


def test_close_ends_calls_and_threads() -> None:
    with FakeBroker(lambda _request: None) as broker:
        client = Client(broker.address)
        raised: list[BaseException] = []

        def call() -> None:
            try:
                client.get(ID)
            except BrokerUnavailable as gone:
                raised.append(gone)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        while len(broker.requests) < 3:
            time.sleep(0.001)
        client.close()
        client.close()
        for caller in callers:
            caller.join(10)
        assert ["closed" in str(gone) for gone in raised] == [True] * 3
        with pytest.raises(BrokerUnavailable, match="closed"):
            client.get(ID)
        assert not [thread for thread in threading.enumerate() if thread.name == "tq-client"]


def test_close_is_never_missed_by_the_thread() -> None:
    for _ in range(100):
        client = Client("127.0.0.1:1", reach=0)
        with pytest.raises(BrokerUnavailable):
            client.get(ID)
        client.close()  # joins the thread


def test_close_of_a_client_that_was_never_used() -> None:
    with Client("127.0.0.1:1"):
        pass


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_the_parent_goes_on() -> None:
    with FakeBroker(created) as broker, Client(broker.address) as client:
        client.submit("echo")

        def child(pipe: Any) -> None:
            try:
                client.submit("echo")
            except InvalidState as refused:
                pipe.send(refused.message)
            client.close()
            pipe.close()
            os._exit(0)

        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
        process.start()
        assert ours.poll(10)
        assert "fork" in ours.recv()
        process.join(10)
        assert process.exitcode == 0
        assert client.submit("echo").outcome == "created"
        assert broker.connections == 1


# ---- batches ---------------------------------------------------------------------------------------


def test_a_large_batch_is_cut_and_answered_in_order() -> None:
    def answer(request: Any) -> Any:
        items: list[Any] = [0] * len(request.specs)
        items[1] = [1, 4, ID, None]
        return m.SubmitReply(request.rid, 1, items)

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        done = client.submit_many(TaskSpec("echo", id=uuid.uuid4()) for _ in range(2_500))
        assert [len(request.specs) for request in broker.requests] == [1_000, 1_000, 500]
        assert [position for position, item in enumerate(done) if item.outcome == "duplicate"] == [1, 1001, 2001]
        assert done[1].id == str(uuid.UUID(bytes=ID))


def test_a_batch_is_cut_by_bytes() -> None:
    with FakeBroker(created) as broker, Client(broker.address) as client:
        client.submit_many([TaskSpec("echo", bytes(5 << 20))] * 5)
        assert [len(request.specs) for request in broker.requests] == [2, 2, 1]


def test_items_that_cannot_be_sent_are_told_in_their_place() -> None:
    with FakeBroker(created) as broker, Client(broker.address) as client:
        tasks = [
            TaskSpec("echo"),
            TaskSpec("echo", "text"),
            TaskSpec("echo", bytes(11 << 20)),
            TaskSpec("echo", id="x"),
        ]  # type: ignore[arg-type]
        done = client.submit_many(tasks)
        assert [item.outcome for item in done] == ["created", "invalid", "too_large", "invalid"]
        assert "payload" in str(done[1].error)
        assert len(broker.requests[0].specs) == 1


def test_failed_parts_of_a_large_batch_are_told_by_item() -> None:
    def answer(request: Any) -> Any:
        if len(request.specs) == 1_000:
            return created(request)
        return error(request, Backpressure("full"))

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        done = client.submit_many([TaskSpec("echo")] * 1_002)
        assert [item.outcome for item in done[-3:]] == ["created", "not_done", "not_done"]
        assert isinstance(done[-1].error, Backpressure)
        with pytest.raises(Backpressure):
            client.submit_many([TaskSpec("echo")] * 2)


def test_atomic_batches() -> None:
    def answer(request: Any) -> Any:
        assert request.atomic
        if len(request.specs) == 3:
            return created(request)
        refused = to_wire(Conflict("taken"))
        return m.SubmitReply(request.rid, 1, [[6, None, None, to_wire(Conflict("other"))], [2, 3, ID, refused]])

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        assert len(client.submit_many([TaskSpec("echo")] * 3, atomic=True)) == 3
        with pytest.raises(BatchRefused, match="taken") as caught:
            client.submit_many([TaskSpec("echo")] * 2, atomic=True)
        assert [item.outcome for item in caught.value.items] == ["not_done", "conflict"]
        with pytest.raises(BatchRefused, match="payload") as caught:
            client.submit_many([TaskSpec("echo"), TaskSpec("echo", "text")], atomic=True)  # type: ignore[arg-type]
        assert [item.outcome for item in caught.value.items] == ["not_done", "invalid"]
        with pytest.raises(InvalidRequest, match="1000"):
            client.submit_many([TaskSpec("echo")] * 1_001, atomic=True)


def test_all_duplicates_are_no_refusal() -> None:
    def answer(request: Any) -> Any:
        return m.SubmitReply(request.rid, 1, [[1, 2, ID, None]] * 2)

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        done = client.submit_many([TaskSpec("echo", id=ID)] * 2, atomic=True)
        assert [item.outcome for item in done] == ["duplicate"] * 2


# ---- reads and waits -------------------------------------------------------------------------------


def test_reads_ask_for_what_was_seen() -> None:
    def answer(request: Any) -> Any:
        return m.GetReply(request.rid, 44, TASK) if isinstance(request, m.GetTask) else created(request)

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        client.submit("echo")
        client.get(ID)
        client.get(ID, min_index=99)
        client.get(ID, linearizable=True)
        asked = [(r.min_index, r.linearizable) for r in broker.requests[1:]]
        assert asked == [(10, False), (99, False), (44, True)]


def test_wait_asks_again_until_the_end() -> None:
    answers = iter([False, False, True])

    def answer(request: Any) -> Any:
        ended = next(answers)
        return m.WaitReply(request.rid, 1, ended, {**TASK, "state": "dead" if ended else "running"})

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        assert client.wait(ID).state == "dead"
        assert len(broker.requests) == 3


def test_wait_ends_in_time() -> None:
    with FakeBroker(lambda _request: None) as broker, Client(broker.address) as client:
        begun = time.monotonic()
        with pytest.raises(WaitTimeout, match="goes on"):
            client.wait(ID, 0.2)
        assert time.monotonic() - begun < 5
        assert broker.requests[0].wait_ms <= 200


def test_wait_with_nothing_to_wait_says_the_state() -> None:
    with FakeBroker(lambda r: m.WaitReply(r.rid, 1, False, {**TASK, "state": "running"})) as broker:
        with Client(broker.address) as client, pytest.raises(WaitTimeout) as caught:
            client.wait(ID, 0)
        assert caught.value.detail == {"state": "running"}


def test_cancel_says_what_it_led_to_and_may_wait() -> None:
    def answer(request: Any) -> Any:
        if isinstance(request, m.WaitTask):
            return m.WaitReply(request.rid, 2, True, {**TASK, "state": "cancelled"})
        states = {ID: [3, None], bytes(16): [5, None]}
        missing = [None, to_wire(NotFound("no such task"))]
        return m.CancelReply(request.rid, 1, [states.get(id, missing) for id in request.ids])

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        assert client.cancel(ID, grace=2) == "cancelling"
        assert broker.requests[0].grace_ms == 2_000
        assert client.cancel(ID, wait=5) == "cancelled"
        assert client.cancel(bytes(16), wait=5) == "cancelled"
        with pytest.raises(NotFound):
            client.cancel(b"x" * 16)
        changes = client.cancel_many([ID, b"x" * 16])
        assert [change.state for change in changes] == ["cancelling", None]
        assert isinstance(changes[1].error, NotFound)


def test_jobs_are_asked_with_one_operation_until_finished() -> None:
    done = iter([0, 500, 700])

    def answer(request: Any) -> Any:
        count = next(done)
        return m.RetryReply(request.rid, 1, None, [request.operation, 0, count, count, count == 700])

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        told: list[int] = []
        job = client.retry_where(state="dead", queue="mail", older_than=60, progress=lambda job: told.append(job.done))
        assert (job.done, job.verb, job.finished) == (700, "retry", True)
        assert told == [0, 500, 700]
        assert len({request.operation for request in broker.requests}) == 1
        filter_ = broker.requests[0].filter
        assert (filter_["state"], filter_["queue"]) == ("dead", "mail")
        assert abs(filter_["ended_before_ms"] - (time.time() - 60) * 1000) < 60_000


def test_pages_follow_their_cursor() -> None:
    def answer(request: Any) -> Any:
        at = int(request.cursor or b"0")
        tasks = [] if at == 1 else [TASK] * min(2, request.limit)
        return m.ListReply(request.rid, 1, tasks, None if at == 3 else str(at + 1).encode())

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        assert len(list(client.list_all(state="pending"))) == 6
        broker.requests.clear()
        assert len(list(client.list_all(limit=3))) == 3
        assert [request.limit for request in broker.requests] == [3, 1, 1]


# ---- events ----------------------------------------------------------------------------------------


def row(ordinal: int) -> list[Any]:
    return [9, ordinal, 3, ID, 1_500, "default", "echo", 7, None]


def test_events_come_as_they_happen_and_over_connections() -> None:
    subscriptions: list[Any] = []

    def answer(request: Any) -> Any:
        if isinstance(request, m.Subscribe):
            subscriptions.append(request)
            return [m.SubscribeReply(request.rid, 8, True), m.Event(request.rid, [row(len(subscriptions))])]
        return m.UnsubscribeReply(request.rid)

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        with client.events(ID) as events:
            assert subscriptions[0].id == ID
            first = next(events)
            assert (first.kind, first.position, first.fence) == ("started", (9, 1), 7)
            broker.drop()
            assert next(events).position == (9, 2)
            assert subscriptions[1].after == [9, 1]
        assert list(events) == []


def test_events_end_when_nothing_comes_or_the_client_is_closed() -> None:
    with FakeBroker(lambda r: m.SubscribeReply(r.rid, 9, False)) as broker:
        client = Client(broker.address)
        events = client.events(after=(3, 0), timeout=0.05)
        assert not events.complete
        assert list(events) == []
        endless = client.events()
        client.close()
        with pytest.raises(BrokerUnavailable, match="closed"):
            next(endless)


def test_a_subscription_that_is_not_answered_is_ended() -> None:
    ended = threading.Event()

    def answer(request: Any) -> Any:
        if isinstance(request, m.Unsubscribe):
            ended.set()
        return created(request) if isinstance(request, m.SubmitTask) else None

    with FakeBroker(answer) as broker, Client(broker.address, timeout=0.2) as client:
        with pytest.raises(BrokerUnavailable):
            client.events()
        assert ended.wait(10)
        broker.drop()
        client.submit("echo", request_timeout=20)
        assert [type(request) for request in broker.requests] == [m.Subscribe, m.Unsubscribe, m.SubmitTask]


# ---- sessions --------------------------------------------------------------------------------------


class Worker:
    """Answers a session; ``reports`` and ``claims`` say how."""

    def __init__(self) -> None:
        self.reports: list[Any] = []
        self.claims: list[Any] = []

    def __call__(self, request: Any) -> Any:
        match request:
            case m.RegisterWorker():
                return m.RegisterReply(request.rid, 1, 30_000, 15_000, 30_000)
            case m.ClaimTask():
                said = self.claims.pop(0)
                return said if said is CLOSE or said is None else m.ClaimReply(request.rid, 2, said)
            case m.TaskResult():
                return m.ResultReply(request.rid, 3, [self.reports.pop(0) for _ in request.items])
            case m.Heartbeat():
                return m.HeartbeatReply(request.rid, [[ID, 7, 500]], request.tasks[:1], True)
            case m.DeregisterWorker():
                return m.DeregisterReply(request.rid, 4)
        raise AssertionError(request)


def grant(number: int, fence: int = 7) -> list[Any]:
    from tq.client.specs import encode

    return [encode(TaskSpec("echo", b"p"), bytes([number]) * 16), 1, 0, fence, 30_000, None, None]


def test_a_session_claims_reports_and_says_good_bye() -> None:
    worker = Worker()
    with FakeBroker(worker) as broker, Client(broker.address) as client:
        with client.register_worker(["echo"], name="w") as session:
            assert (session.lease, session.heartbeat_every) == (30.0, 15.0)
            worker.claims = [[grant(1), grant(2), grant(3), grant(4)]]
            one, two, three, four = session.claim(4, wait=1.5)
            assert broker.requests[-1].wait_ms == 1_500
            worker.reports = [0, 1, 0, 0]
            assert session.complete(one, b"r") == "applied"
            assert session.complete(one, b"r") == "already"
            assert session.fail(two, ValueError("bad"), permanent=True, retry_after=2) == "applied"
            error_, permanent, after_ms = broker.requests[-1].items[0][3]
            assert (error_[:2], permanent, after_ms) == (["ValueError", "bad"], True, 2_000)
            assert session.snooze(three, 0.5) == "applied"
            assert broker.requests[-1].items[0][2:] == [3, 500]
            assert list(session.held.values()) == [7]
            beat = session.heartbeat()
            assert broker.requests[-1].tasks == [[four.raw_id, 7]]
            assert (beat.cancel[0].grace, beat.drain, beat.lost[0][0]) == (0.5, True, four.id)
            assert session.held == {}
        session.close()
        assert sum(isinstance(request, m.DeregisterWorker) for request in broker.requests) == 1


def test_stale_outcomes_raise_alone_and_stand_in_batches() -> None:
    worker = Worker()
    with FakeBroker(worker) as broker, Client(broker.address) as client:
        session = client.register_worker(["echo"])
        worker.reports = [[2, 4], 0, [2, None], 1]
        with pytest.raises(StaleFence, match="completed now"):
            session.release((ID, 7))
        said = session.complete_many([((ID, 7), b""), ((ID, 8), b""), ((ID, 9), b"")])
        assert (said[0], said[2]) == ("applied", "already")
        assert isinstance(said[1], StaleFence)


def test_a_lost_claim_is_repeated_with_its_number() -> None:
    worker = Worker()
    with FakeBroker(worker) as broker, Client(broker.address) as client:
        session = client.register_worker(["echo"])
        worker.claims = [[grant(1)], CLOSE, [], None, [grant(2)], [], []]
        session.claim()
        session.claim()  # lost with its connection, sent again
        with pytest.raises(BrokerUnavailable):
            session.claim(timeout=0.1)
        session.claim()  # the one that was not answered
        session.claim()
        session.claim(seq=9)
        seqs = [request.seq for request in broker.requests if isinstance(request, m.ClaimTask)]
        assert seqs == [1, 2, 2, 3, 3, 4, 9]


def test_a_lost_session_is_told() -> None:
    def answer(request: Any) -> Any:
        if isinstance(request, m.RegisterWorker):
            return m.RegisterReply(request.rid, 1, 30_000, 15_000, 30_000)
        return error(request, SessionLost("ended"))

    with FakeBroker(answer) as broker, Client(broker.address) as client:
        session = client.register_worker(["echo"])
        with pytest.raises(SessionLost):
            session.claim()
        with pytest.raises(SessionLost):
            session.heartbeat()


def test_cancels_are_pushed_between_calls() -> None:
    worker = Worker()
    told: list[Any] = []
    heard = threading.Event()
    with FakeBroker(worker) as broker, Client(broker.address) as client:
        client.register_worker(["echo"], on_cancel=lambda cancels: (told.extend(cancels), heard.set()))
        broker.push(m.CancelRunning(broker.requests[0].session, [[ID, 7, 250]]))
        assert heard.wait(10)
        assert (told[0].fence, told[0].grace) == (7, 0.25)


def test_a_session_that_was_not_opened_hears_of_no_cancels() -> None:
    def answer(request: Any) -> Any:
        return created(request) if isinstance(request, m.SubmitTask) else error(request, Backpressure("full"))

    told: list[Any] = []
    with FakeBroker(answer) as broker, Client(broker.address) as client:
        with pytest.raises(Backpressure):
            client.register_worker(["echo"], on_cancel=told.append)
        broker.push(m.CancelRunning(broker.requests[0].session, [[ID, 7, 250]]))
        client.submit("echo")
        assert told == []


def test_the_error_of_the_block_is_not_hidden_by_a_good_bye_that_fails() -> None:
    def answer(request: Any) -> Any:
        if isinstance(request, m.RegisterWorker):
            return m.RegisterReply(request.rid, 1, 30_000, 15_000, 30_000)
        return error(request, SessionLost("ended"))

    with FakeBroker(answer) as broker, Client(broker.address) as client:

        def block(raised: Exception | None) -> None:
            with client.register_worker(["echo"]):
                if raised is not None:
                    raise raised

        with pytest.raises(KeyError, match="mine"):
            block(KeyError("mine"))
        with pytest.raises(SessionLost):
            block(None)


def test_outcomes_are_cut_into_requests_that_are_taken() -> None:
    worker = Worker()
    with FakeBroker(worker) as broker, Client(broker.address) as client:
        session = client.register_worker(["echo"])
        worker.reports = [0] * 2_504
        assert session.release_many([(ID, fence) for fence in range(2_500)]) == ["applied"] * 2_500
        assert session.complete_many([((ID, 1), bytes(5 << 20))] * 4) == ["applied"] * 4
        sizes = [len(request.items) for request in broker.requests[1:]]
        assert sizes == [1_000, 1_000, 500, 2, 2]
