"""The asynchronous client on trio and on asyncio: against a fake broker on the loopback, and on trio in virtual time."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

from tests.unit.client.fake_broker import CLOSE, FakeBroker, created
from tests.unit.client.loop_broker import LoopBroker, LoopClient
from tests.unit.client.machine_broker import MachineBroker
from tq import Client, Session, TaskSpec
from tq.client import core as c
from tq.client.asynchronous import AsyncClient, AsyncSession
from tq.errors import (
    Backpressure,
    BrokerUnavailable,
    InvalidState,
    NotFound,
    NotLeader,
    SessionLost,
    StaleFence,
    WaitTimeout,
    to_wire,
)
from tq.protocol import messages as m

ID = bytes(range(16))
TASK: dict[str, Any] = {"id": ID, "type": "echo", "queue": "default", "priority": 150, "state": "pending"}
Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function in a loop of its own, for 60 s at most."""

    def run_in_time(main: Callable[[], Awaitable[Any]]) -> Any:
        async def in_time() -> Any:
            with anyio.fail_after(60):
                return await main()

        return anyio.run(in_time, backend=request.param)

    return run_in_time


async def until(look: Callable[[], bool]) -> None:
    """Give way until the broker's threads got there."""
    with anyio.fail_after(20):
        while not look():
            await anyio.lowlevel.checkpoint()


# ---- one surface -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocking", "awaited"), [(Client, AsyncClient), (Session, AsyncSession)])
def test_both_clients_have_the_same_verbs_with_the_same_arguments(blocking: type, awaited: type) -> None:
    def public(cls: type) -> dict[str, Any]:
        found = {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
        return {name: inspect.signature(value).parameters for name, value in found.items() if callable(value)}

    ours, theirs = public(blocking), public(awaited)
    assert list(ours) == list(theirs)
    for name, parameters in ours.items():
        assert list(parameters.values()) == list(theirs[name].values()), name
    facts = {name for name in dir(blocking) if isinstance(getattr(blocking, name), property)}
    assert facts == {name for name in dir(awaited) if isinstance(getattr(awaited, name), property)}
    assert inspect.signature(blocking) == inspect.signature(awaited) or blocking is Session


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_verbs_show_their_arguments_and_words(client: Any) -> None:
    assert str(inspect.signature(client.wait)).startswith(
        "(self, id: 'TaskId', timeout: 'float | None' = None, *, min_index"
    )
    assert inspect.signature(client.wait).return_annotation == "TaskInfo"
    assert client.wait.__name__ == "wait"
    for name in dir(client):
        if not name.startswith("_"):
            assert getattr(client, name).__doc__, name


def test_the_blocking_client_does_not_load_the_loops() -> None:
    code = "import sys, tq, tq.client.blocking; tq.Client; print([n for n in ('anyio', 'trio', 'asyncio') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# ---- calls -----------------------------------------------------------------------------------------


def test_the_whole_life_of_a_task(run: Run) -> None:
    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            task = await client.submit("echo", b"p", priority=7, tags=["t"])
            async with client.register_worker(["echo"], name="w1") as session:
                assert (session.name, session.lease) == ("w1", 30.0)
                (grant,) = await session.claim(5)
                assert (grant.id, grant.payload) == (task.id, b"p")
                assert session.held == {task.id: grant.fence}
                assert (await client.get(task.id)).worker == "w1"
                assert await session.complete(grant, b"r") == "applied"
                with pytest.raises(StaleFence):
                    await session.fail((task.id, grant.fence - 1), "late")
            assert (await client.wait(task.id, 5)).result == b"r"
            assert [item.outcome for item in await client.submit_many([TaskSpec("echo")] * 3)] == ["created"] * 3
            assert len([info async for info in client.list_all(state="pending")]) == 3
            assert (await client.list(limit=2)).cursor is not None
            assert [queue.name for queue in await client.queues()] == ["default"]
            assert (await client.purge_where(state="completed")).done == 1
            with pytest.raises(NotFound):
                await client.get(task.id)
            assert client.last_index > 0
            assert client.cluster_id is not None

    with FakeBroker(MachineBroker()) as broker:
        run(main)


def test_refusals_are_raised_with_their_class(run: Run) -> None:
    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            with pytest.raises(Backpressure) as caught:
                await client.submit("echo")
            assert caught.value.retry_after == 2

    with FakeBroker(lambda r: m.ErrorReply(r.rid, to_wire(Backpressure("full", retry_after=2)))) as broker:
        run(main)


def test_many_tasks_share_one_connection(run: Run) -> None:
    async def main() -> None:
        ids: set[str] = set()

        async def submit() -> None:
            for _ in range(20):
                ids.add((await client.submit("echo")).id)

        async with AsyncClient(broker.address) as client, anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(submit)
        assert len(ids) == 1_000

    with FakeBroker(created) as broker:
        run(main)
        assert broker.connections == 1


def test_a_slow_request_does_not_hold_up_the_others(run: Run) -> None:
    held: list[Any] = []

    def answer(request: Any) -> Any:
        if isinstance(request, m.WaitTask):
            held.append(request)
            return None
        return [m.GetReply(request.rid, 1, TASK), m.WaitReply(held[0].rid, 1, True, {**TASK, "state": "completed"})]

    async def main() -> None:
        states: list[str] = []

        async def wait() -> None:
            states.append((await client.wait(ID, 30)).state)

        async with AsyncClient(broker.address) as client, anyio.create_task_group() as group:
            group.start_soon(wait)
            await until(lambda: bool(held))
            states.append((await client.get(ID)).state)
        assert states == ["pending", "completed"]

    with FakeBroker(answer) as broker:
        run(main)


def test_a_lost_connection_is_made_good(run: Run) -> None:
    lost: list[Any] = []

    def answer(request: Any) -> Any:
        if not lost:
            lost.append(request)
            return CLOSE
        return created(request)

    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            await client.submit("echo", b"once")
            first, again = broker.requests
            assert first.specs == again.specs
            broker.drop()
            await client.submit("echo")

    with FakeBroker(answer) as broker:
        run(main)
        assert broker.connections == 3


def test_the_next_address_is_tried(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"127.0.0.1:{free.getsockname()[1]}"

    async def main() -> None:
        async with AsyncClient([dead, broker.address]) as client:
            assert (await client.submit("echo")).outcome == "created"
        async with AsyncClient(["no-such-host.invalid", broker.address]) as client:
            assert (await client.submit("echo")).outcome == "created"
        async with AsyncClient(dead, reach=0) as client:
            with pytest.raises(BrokerUnavailable, match="refused"):
                await client.submit("echo")

    with FakeBroker(created) as broker:
        run(main)


def test_large_frames_both_ways(run: Run) -> None:
    def answer(request: Any) -> Any:
        large = {**TASK, "payload": bytes(9 << 20)}
        return m.GetReply(request.rid, 1, large) if isinstance(request, m.GetTask) else created(request)

    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            await client.submit("echo", bytes(9 << 20))
            info = await client.get(ID)
            assert info.payload == bytes(9 << 20)
            items = await client.submit_many([TaskSpec("echo", bytes(5 << 20))] * 5)
            assert [item.outcome for item in items] == ["created"] * 5

    with FakeBroker(answer) as broker:
        run(main)


# ---- cancellation ----------------------------------------------------------------------------------


def test_cancelled_calls_leave_nothing_behind(run: Run) -> None:
    """More of them than may be in flight: were they not forgotten, the last call would never be sent."""
    count = c.IN_FLIGHT_MAX + 200

    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            await client.submit("echo")
            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(client.get, ID)
                await until(lambda: len(broker.requests) == 1 + c.IN_FLIGHT_MAX)
                group.cancel_scope.cancel()
            for request in broker.requests[1:11]:
                broker.push(m.GetReply(request.rid, 77, TASK))  # too late: nobody wants it
            assert (await client.submit("echo", request_timeout=20)).outcome == "created"
            assert client.last_index == 77
        assert sum(isinstance(request, m.GetTask) for request in broker.requests) == c.IN_FLIGHT_MAX

    with FakeBroker(lambda request: created(request) if isinstance(request, m.SubmitTask) else None) as broker:
        run(main)
        assert broker.connections == 1


def test_a_cancelled_batch_is_not_sent_again(run: Run) -> None:
    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.submit_many, [TaskSpec("echo", id=uuid.uuid4())] * 4_500)
                await until(lambda: len(broker.requests) == 4)
                group.cancel_scope.cancel()
            broker.drop()
            assert (await client.submit("echo")).outcome == "created"
        assert [len(request.specs) for request in broker.requests] == [1_000] * 4 + [1]

    with FakeBroker(lambda request: created(request) if len(request.specs) == 1 else None) as broker:
        run(main)


def test_a_large_request_that_is_cancelled_does_not_break_the_connection(run: Run) -> None:
    """Its first half is on the way, and the broker reads nothing: the rest must follow before anything else."""
    goes_on = threading.Event()

    def answer(request: Any) -> Any:
        if isinstance(request, m.GetTask):
            goes_on.wait(20)
            return m.GetReply(request.rid, 1, TASK)
        return created(request)

    async def main() -> None:
        async with AsyncClient(broker.address) as client, anyio.create_task_group() as group:
            group.start_soon(client.get, ID)
            await until(lambda: bool(broker.requests))
            with anyio.move_on_after(0.05) as scope:
                await client.submit("echo", bytes(9 << 20))
            assert scope.cancelled_caught
            goes_on.set()
            assert (await client.submit("echo", b"next")).outcome == "created"
        assert [len(request.specs[0]) > 1_000 for request in broker.requests[1:]] == [True, False]

    with FakeBroker(answer) as broker:
        run(main)
        assert broker.connections == 1


def test_a_cancelled_subscription_is_ended(run: Run) -> None:
    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.events().__aenter__)
                await until(lambda: bool(broker.requests))
                group.cancel_scope.cancel()
            await until(lambda: len(broker.requests) == 2)
            broker.drop()
            await client.submit("echo")
        assert [type(request) for request in broker.requests] == [m.Subscribe, m.Unsubscribe, m.SubmitTask]

    with FakeBroker(lambda request: created(request) if isinstance(request, m.SubmitTask) else None) as broker:
        run(main)


# ---- the end ---------------------------------------------------------------------------------------


def test_close_ends_calls(run: Run) -> None:
    async def main() -> None:
        said: list[str] = []

        async def call(verb: Callable[[], Awaitable[Any]]) -> None:
            with pytest.raises(BrokerUnavailable) as caught:
                await verb()
            said.append(str(caught.value))

        async with AsyncClient(broker.address) as client, anyio.create_task_group() as group:
            events = await client.events()
            for verb in (lambda: client.get(ID), lambda: client.wait(ID), events.__anext__):
                group.start_soon(call, verb)
            await until(lambda: len(broker.requests) == 3)
            await client.close()
            await client.close()
        await call(lambda: client.get(ID))
        assert said == ["this client is closed"] * 4

    with FakeBroker(lambda r: m.SubscribeReply(r.rid, 9, True) if isinstance(r, m.Subscribe) else None) as broker:
        run(main)


def test_leaving_the_block_ends_calls_of_other_tasks(run: Run) -> None:
    async def main() -> None:
        said: list[str] = []

        async def call(client: AsyncClient) -> None:
            with pytest.raises(BrokerUnavailable, match="closed"):
                await client.get(ID)
            said.append("ended")

        async with anyio.create_task_group() as group, AsyncClient(broker.address) as client:
            group.start_soon(call, client)
            await until(lambda: bool(broker.requests))
        assert said == ["ended"]

    with FakeBroker(lambda _request: None) as broker:
        run(main)


def test_the_error_of_the_block_comes_out_as_it_is(run: Run) -> None:
    async def main() -> None:
        async def block() -> None:
            async with AsyncClient(broker.address) as client:
                await client.submit("echo")
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await block()

    with FakeBroker(created) as broker:
        run(main)


def test_a_client_is_used_inside_of_its_block_and_once(run: Run) -> None:
    async def main() -> None:
        client = AsyncClient("127.0.0.1:1")
        with pytest.raises(InvalidState, match="async with"):
            await client.get(ID)
        async with client:
            pass
        with pytest.raises(InvalidState, match="make a new"):
            async with client:
                pass

    run(main)


# ---- events ----------------------------------------------------------------------------------------


def row(ordinal: int) -> list[Any]:
    return [9, ordinal, 3, ID, 1_500, "default", "echo", 7, None]


class Feed:
    """Each subscription gets one event, whose ordinal is its number."""

    def __init__(self) -> None:
        self.subscriptions: list[m.Subscribe] = []

    def __call__(self, request: Any) -> Any:
        if isinstance(request, m.Subscribe):
            self.subscriptions.append(request)
            return [m.SubscribeReply(request.rid, 8, True), m.Event(request.rid, [row(len(self.subscriptions))])]
        return m.UnsubscribeReply(request.rid) if isinstance(request, m.Unsubscribe) else created(request)


def test_events_come_as_they_happen_and_over_connections(run: Run) -> None:
    feed = Feed()

    async def main() -> None:
        async with AsyncClient(broker.address) as client, client.events(ID) as events:
            assert feed.subscriptions[0].id == ID
            first = await anext(events)
            assert (first.kind, first.position, events.complete) == ("started", (9, 1), True)
            broker.drop()
            async for event in events:
                assert event.position == (9, 2)
                break
            assert feed.subscriptions[1].after == [9, 1]
            await events.close()
            assert [event async for event in events] == []
            await until(lambda: isinstance(broker.requests[-1], m.Unsubscribe))

    with FakeBroker(feed) as broker:
        run(main)


def test_events_end_when_nothing_comes(run: Run) -> None:
    feed = Feed()

    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            assert [event.position async for event in client.events(after=(3, 0), timeout=0.5)] == [(9, 1)]
            assert feed.subscriptions[0].after == [3, 0]

    with FakeBroker(feed) as broker:
        run(main)


# ---- sessions --------------------------------------------------------------------------------------


class Worker:
    """Answers a session that holds nothing."""

    def __call__(self, request: Any) -> Any:
        match request:
            case m.RegisterWorker():
                return m.RegisterReply(request.rid, 1, 30_000, 15_000, 30_000)
            case m.DeregisterWorker():
                return m.DeregisterReply(request.rid, 4)
        return None


def test_a_session_may_be_awaited_and_closed(run: Run) -> None:
    async def main() -> None:
        async with AsyncClient(broker.address) as client:
            session = await client.register_worker(["echo"])
            await session.close()
            await session.close()
        assert [type(request) for request in broker.requests] == [m.RegisterWorker, m.DeregisterWorker]

    with FakeBroker(Worker()) as broker:
        run(main)


def test_a_session_that_is_cancelled_says_good_bye_all_the_same(run: Run) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with (
                AsyncClient(broker.address) as client,
                client.register_worker(["echo"]) as session,
                anyio.create_task_group() as group,
            ):
                group.start_soon(session.claim, 1, 30)
                await until(lambda: len(broker.requests) == 2)
                scope.cancel()
        assert scope.cancelled_caught
        await until(lambda: isinstance(broker.requests[-1], m.DeregisterWorker))

    with FakeBroker(Worker()) as broker:
        run(main)


def test_the_error_of_the_block_is_not_hidden_by_a_good_bye_that_fails(run: Run) -> None:
    def answer(request: Any) -> Any:
        if isinstance(request, m.RegisterWorker):
            return m.RegisterReply(request.rid, 1, 30_000, 15_000, 30_000)
        return m.ErrorReply(request.rid, to_wire(SessionLost("ended")))

    async def main() -> None:
        async with AsyncClient(broker.address) as client:

            async def block(error: Exception | None) -> None:
                async with client.register_worker(["echo"]):
                    if error is not None:
                        raise error

            with pytest.raises(KeyError, match="mine"):
                await block(KeyError("mine"))
            with pytest.raises(SessionLost):
                await block(None)

    with FakeBroker(answer) as broker:
        run(main)


def test_cancels_are_pushed(run: Run) -> None:
    async def main() -> None:
        told: list[Any] = []
        heard = anyio.Event()
        async with AsyncClient(broker.address) as client:
            await client.register_worker(["echo"], on_cancel=lambda cancels: (told.extend(cancels), heard.set()))
            broker.push(m.CancelRunning(broker.requests[0].session, [[ID, 7, 250]]))
            await heard.wait()
        assert (told[0].fence, told[0].grace) == (7, 0.25)

    with FakeBroker(Worker()) as broker:
        run(main)


# ---- in virtual time -------------------------------------------------------------------------------


async def test_the_time_out_holds_to_the_millisecond(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, lambda _request: None)
        async with LoopClient(broker) as client:
            with pytest.raises(BrokerUnavailable, match="unknown") as caught:
                await client.submit("echo")
            assert caught.value.detail["sent"]
            assert 30 <= trio.current_time() < 30.01
            with pytest.raises(BrokerUnavailable):
                await client.get(ID, timeout=0.5)
            assert trio.current_time() < 30.52


async def test_a_silent_broker_is_asked_and_left(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, lambda request: created(request) if broker.connections > 1 else None, pongs=False)
        async with LoopClient(broker) as client:
            assert (await client.submit("echo")).outcome == "created"
            seconds = (c.PING_MS + c.DEAD_MS) / 1000
            assert seconds <= trio.current_time() < seconds + 0.1
            assert broker.connections == 2


async def test_not_now_is_asked_again_soon(autojump_clock: trio.testing.MockClock) -> None:
    def answer(request: Any) -> Any:
        if len(broker.requests) < 4:
            return m.ErrorReply(request.rid, to_wire(NotLeader("an election is under way", retry_after=0.2)))
        return created(request)

    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, answer)
        async with LoopClient(broker) as client:
            assert (await client.submit("echo")).outcome == "created"
            assert 0.3 <= trio.current_time() <= 0.7
            assert broker.connections == 1


async def test_the_shortest_time_out_ends_first(autojump_clock: trio.testing.MockClock) -> None:
    ends: list[float] = []

    async def get(client: LoopClient, timeout: float) -> None:
        with pytest.raises(BrokerUnavailable):
            await client.get(ID, timeout=timeout)
        ends.append(round(trio.current_time(), 2))

    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, lambda _request: None)
        async with LoopClient(broker) as client, trio.open_nursery() as callers:
            for timeout in (3, 1, 2, 0.5, 0):
                callers.start_soon(get, client, timeout)
                await trio.testing.wait_all_tasks_blocked()
    assert ends == [0, 0.5, 1, 2, 3]


async def test_callers_that_are_answered_together_ask_again_at_once(autojump_clock: trio.testing.MockClock) -> None:
    held: list[Any] = []

    def answer(request: Any) -> Any:
        held.append(request)
        if len(held) == 20:
            broker.push(*(m.GetReply(one.rid, 1, TASK) for one in held))
            held.clear()

    async def twice(client: LoopClient) -> None:
        await client.get(ID)
        await client.get(ID)

    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, answer)
        async with LoopClient(broker) as client, trio.open_nursery() as callers:
            for _ in range(20):
                callers.start_soon(twice, client)
        assert len(broker.requests) == 40
        assert trio.current_time() < 0.01


async def test_a_connection_that_does_not_come_about_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, created)
        broker.hangs = ["a"]
        async with LoopClient(broker, "a,b") as client:
            await client.submit("echo")
            assert c.CONNECT_MS / 1000 <= trio.current_time() < c.CONNECT_MS / 1000 + 0.1


async def test_who_connects_is_closed_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, created)
        broker.hangs = ["a"]
        async with LoopClient(broker, "a") as client:
            with trio.move_on_after(1):
                await client.submit("echo")
        assert trio.current_time() < 1.01


async def test_it_tries_less_often_the_longer_nobody_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, created)
        broker.refuses = ["a"]
        async with LoopClient(broker, "a", reach=60) as client:
            with pytest.raises(BrokerUnavailable, match="cannot reach a"):
                await client.submit("echo", request_timeout=100)
            assert 60 <= trio.current_time() < 60.01
            assert 30 < broker.tried < 80


async def test_wait_asks_again_until_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, lambda r: m.WaitReply(r.rid, 1, r.wait_ms == 0, {**TASK, "state": "running"}))
        async with LoopClient(broker) as client:
            broker.delay_s = 10
            with pytest.raises(WaitTimeout):
                await client.wait(ID, 35)
            assert trio.current_time() <= 35.01
            assert len(broker.requests) == 4


async def test_a_job_is_asked_for_now_and_then(autojump_clock: trio.testing.MockClock) -> None:
    def answer(request: Any) -> Any:
        return m.PurgeReply(request.rid, 1, None, [request.operation, 1, 0, 0, trio.current_time() > 20])

    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, answer)
        async with LoopClient(broker) as client:
            assert (await client.purge_where(state="dead")).finished
            assert 20 < trio.current_time() < 21.1
            assert len({request.operation for request in broker.requests}) == 1
            assert len(broker.requests) < 40


async def test_a_slow_reader_of_events_is_told(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        broker = LoopBroker(nursery, lambda r: m.SubscribeReply(r.rid, 1, True) if isinstance(r, m.Subscribe) else None)
        async with LoopClient(broker) as client, client.events() as events:
            (request,) = broker.requests
            for first in range(0, 30_000, 500):
                broker.push(m.Event(request.rid, [[9, first + n, *row(0)[2:]] for n in range(500)]))
                await trio.testing.wait_all_tasks_blocked()
            seen: list[Any] = []

            async def read() -> None:
                async for event in events:
                    seen.append(event.ordinal)

            with pytest.raises(Backpressure, match="after="):
                await read()
            assert seen == list(range(len(seen)))
            assert len(seen) >= 1_000
