"""One suite for the clients: blocking, on trio, on asyncio; against one real broker, and a cluster whose leader dies."""

from __future__ import annotations

import asyncio
import functools
import re
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, eventually, free_ports, start_all
from tq import AsyncClient, Client, ClientMiddleware, Events, Session, TaskSpec, limits
from tq.client.session import completed, released
from tq.client.specs import Retry, Unique
from tq.errors import (
    Backpressure,
    BatchRefused,
    BrokerUnavailable,
    Conflict,
    DiskFull,
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

KINDS = ["blocking", "trio", "asyncio"]
SCENARIO_SECONDS_MAX = 60
LATE_SECONDS = 2.0  # a call may come back so much behind its time-out, on a busy machine
NOW = Retry(max_attempts=3, backoff_base=0.01)


# ---- the three clients, used alike -------------------------------------------------------------------


class InThreads:
    """A blocking client, session or iterator over events, used as the asynchronous one: each call has a thread."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, name)
        if not callable(value):
            return value
        if name == "list_all":
            return functools.partial(_each, value)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await in_thread(value, *args, **kwargs)
            return InThreads(result) if isinstance(result, (Session, Events)) else result

        return call

    def __aiter__(self) -> InThreads:
        return self

    async def __anext__(self) -> Any:
        found = await in_thread(next, self._blocking, None)
        if found is None:
            raise StopAsyncIteration
        return found


async def in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    bound = functools.partial(call, *args, **kwargs)
    return await anyio.to_thread.run_sync(bound, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


async def _each(list_all: Callable[..., Iterator[Any]], **filter: Any) -> AsyncIterator[Any]:
    for found in await in_thread(lambda: list(list_all(**filter))):
        yield found


class Kind:
    """One of the three. ``run`` gives a scenario a loop, ``client`` gives it clients."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, scenario: Callable[..., Awaitable[None]], *args: Any) -> None:
        async def in_time() -> None:
            with anyio.fail_after(SCENARIO_SECONDS_MAX):
                await scenario(*args)

        anyio.run(in_time, backend="trio" if self.name == "trio" else "asyncio")

    @asynccontextmanager
    async def client(self, brokers: str | Sequence[str], **options: Any) -> AsyncIterator[AsyncClient]:
        if self.name != "blocking":
            async with AsyncClient(brokers, **options) as client:
                yield client
            return
        blocking = Client(brokers, **options)
        try:
            yield InThreads(blocking)  # type: ignore[misc]  # plays it
        finally:
            blocking.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground("tq-clients-") as ground:
        yield ground


@pytest.fixture(scope="module")
def broker(ground: Ground) -> Broker:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    return broker


@pytest.fixture(scope="module")
def nodes(ground: Ground) -> list[Broker]:
    nodes = ground.brokers(3, {**SHORT_LEASES, "cluster": {"profile": "fast"}})
    start_all(nodes)
    return nodes


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """That no other test has."""
    return request.node.name[:100]


def new_id() -> str:
    return str(uuid.uuid4())


class Background:
    """A call in a task of ``group``; ``result`` waits for it."""

    def __init__(self, group: Any, call: Callable[[], Awaitable[Any]]) -> None:
        self._call = call
        self._value: Any = None
        self._error: TqError | None = None
        self._ended = anyio.Event()
        group.start_soon(self._run)

    async def _run(self) -> None:
        try:
            self._value = await self._call()
        except TqError as error:
            self._error = error
        self._ended.set()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def result(self) -> Any:
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._value


async def parked(client: AsyncClient, what: str, count: int) -> None:
    """Until the broker says so many wait."""
    while (await client.stats())[what] != count:
        await anyio.lowlevel.checkpoint()


# ---- verbs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cls"), [("client", Client), ("session", Session)])
def test_each_verb_is_in_the_suite(name: str, cls: type) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    verbs = [verb for verb in dir(cls) if not verb.startswith("_") and callable(getattr(cls, verb))]
    assert len(verbs) > 10
    assert [verb for verb in verbs if not re.search(rf"\b(?:{name}|other|one|two)\.{verb}\b", text)] == []


def test_the_life_of_a_task(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address, name="suite") as client:
            task = await client.submit("t", b"p", queue=queue, priority=7, tags=["x"], headers={"h": "v"}, retry=NOW)
            assert (task.outcome, task.state) == ("created", "pending")
            assert (await client.submit("t", b"p", queue=queue, id=new_id(), delay=60)).state == "scheduled"
            session = await client.register_worker(["t"], [queue], name=f"w-{queue}")
            (first,) = await session.claim(5)
            assert (first.id, first.payload, first.headers, first.attempt) == (task.id, b"p", {"h": "v"}, 1)
            assert session.held == {task.id: first.fence}
            beat = await session.heartbeat(stats={"n": 1})
            assert (beat.lost, beat.cancel) == ((), ())
            assert [worker.running for worker in await client.workers() if worker.name == session.name] == [1]
            assert await session.fail(first, ValueError("no")) == "applied"
            (again,) = await session.claim(1, 10)
            assert await session.release(again) == "applied"
            (again,) = await session.claim(1, 10)
            assert await session.snooze(again, 0.01) == "applied"
            (last,) = await session.claim(1, 10)
            assert await session.complete(last, b"r", content_type="text/plain") == "applied"
            assert await session.complete(last, b"r", content_type="text/plain") == "already"
            info = await client.wait(task.id, 5)
            assert (info.state, info.result, info.result_content_type) == ("completed", b"r", "text/plain")
            info = await client.get(task.id, linearizable=True)
            assert [one.outcome for one in info.history] == ["failed", "released", "snoozed", "completed"]
            assert (await client.explain(task.id)).facts["state"] == "completed"
            await session.close()
            with pytest.raises(SessionLost):
                await session.claim()
            assert (await client.stats())["requests"] > 0
            assert (await client.cluster_status())["nodes"]
            assert client.cluster_id is not None

    kind.run(scenario)


def test_cancel_retry_purge_and_lists(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            ids = [item.id for item in await client.submit_many([TaskSpec("t", queue=queue) for _ in range(7)])]
            assert await client.cancel(ids[0]) == "cancelled"
            assert await client.retry(ids[0]) == "pending"
            session = await client.register_worker(["t"], [queue])
            (running,) = await session.claim()
            assert await client.cancel(running.id, grace=30) == "cancelling"
            assert [request.id for request in (await session.heartbeat()).cancel] == [running.id]
            assert await session.cancelled(running) == "applied"
            assert await client.cancel(running.id, wait=5) == "cancelled"
            changed = await client.cancel_many([*ids, new_id()])
            assert [one.state for one in changed] == ["cancelled"] * 7 + [None]
            assert isinstance(changed[7].error, NotFound)
            assert len((await client.list(queue=queue, limit=3)).tasks) == 3
            assert {task.id async for task in client.list_all(state="cancelled", queue=queue)} == set(ids)
            assert [one.state for one in await client.retry_many(ids[:2])] == ["pending"] * 2
            told: list[int] = []
            job = await client.retry_where(
                queue=queue, state="cancelled", limit=2, progress=lambda j: told.append(j.done)
            )
            assert (job.done, job.finished, told[-1]) == (2, True, 2)
            (row,) = [row for row in await client.queues() if row.name == queue]
            assert (row.pending_total, row.cancelled) == (4, 3)
            assert (await client.purge_where(queue=queue, state="cancelled", limit=2)).done == 2
            await client.cancel_many(ids)
            ids = [task.id async for task in client.list_all(queue=queue)]
            assert [one.state for one in await client.purge_many(ids[1:])] == ["cancelled"] * 4
            assert await client.purge(ids[0]) == "cancelled"
            with pytest.raises(NotFound):
                await client.get(ids[0])
            await session.close()

    kind.run(scenario)


def test_batches_of_outcomes(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            await client.submit_many([TaskSpec("t", queue=queue) for _ in range(6)])
            session = await client.register_worker(["t"], [queue])
            one, two, three, four, five, six = await session.claim(6)
            assert await session.release_many([one]) == ["applied"]
            said = await session.complete_many([(one, b""), (two, b"2")])
            assert isinstance(said[0], StaleFence)
            assert said[1] == "applied"
            assert await session.fail_many([(three, "no")], permanent=True) == ["applied"]
            assert await session.snooze_many([(four, 60)]) == ["applied"]
            await client.cancel(five.id, grace=60)
            assert await session.cancelled_many([five]) == ["applied"]
            states = [(await client.get(grant.id)).state for grant in (one, two, three, four, five, six)]
            assert states == ["pending", "completed", "dead", "scheduled", "cancelled", "running"]
            await session.close()
            assert (await client.get(six.id)).state == "pending"

    kind.run(scenario)


def test_batches_of_tasks(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            specs = [TaskSpec("t", b"%d" % n, queue=queue, id=new_id()) for n in range(2_500)]
            specs[7] = TaskSpec("t", priority=999, queue=queue)
            specs[1_700] = TaskSpec("t", b"other", queue=queue, id=specs[3].id)
            items = await client.submit_many(iter(specs))
            assert [position for position, item in enumerate(items) if item.outcome != "created"] == [7, 1_700]
            assert (items[7].outcome, items[1_700].outcome) == ("invalid", "conflict")
            assert [item.outcome for item in await client.submit_many(specs[:3])] == ["duplicate"] * 3
            with pytest.raises(BatchRefused) as caught:
                await client.submit_many([TaskSpec("t", queue=queue), specs[1_700]], atomic=True)
            assert [item.outcome for item in caught.value.items] == ["not_done", "conflict"]
            assert await client.submit_many([]) == []

    kind.run(scenario)


def test_errors_have_types(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:

            async def refused(expected: type[TqError], call: Callable[..., Any], *args: Any, **kwargs: Any) -> TqError:
                with pytest.raises(expected) as caught:
                    await call(*args, **kwargs)
                return caught.value

            unknown = new_id()
            for verb in (client.get, client.wait, client.cancel, client.retry, client.purge, client.explain):
                await refused(NotFound, verb, unknown)
                await refused(InvalidRequest, verb, "not an id")
            error = await refused(InvalidRequest, client.submit, "t", priority=256, queue=queue)
            assert (error.detail["field"], error.detail["value"]) == ("priority", "256")
            await refused(InvalidRequest, client.submit, "t", payload="text")
            await refused(TypeError, client.submit, "t", colour="red")  # type: ignore[type-var]
            await refused(PayloadTooLarge, client.submit, "t", bytes(limits.PAYLOAD_BYTES_MAX + 1))
            task = await client.submit("t", b"1", queue=queue)
            await refused(Conflict, client.submit, "t", b"2", queue=queue, id=task.id)
            await refused(WaitTimeout, client.wait, task.id, 0.05)
            await refused(InvalidState, client.purge, task.id)
            await refused(InvalidState, client.retry, task.id)
            session = await client.register_worker(["t"], [queue])
            (grant,) = await session.claim()
            await refused(StaleFence, session.complete, (grant.id, grant.fence - 1))
            await refused(InvalidRequest, session.complete, "what?")
            await session.complete(grant)
            assert await client.purge(task.id) == "completed"
            assert (await refused(NotFound, client.get, task.id)).detail == {"purged": True}
            await refused(InvalidRequest, client.register_worker, "t")
            await session.close()

    kind.run(scenario)


def test_queues_are_paused_and_bounded(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client, anyio.create_task_group() as group:
            paused = await client.pause(queue, "repairs", by="ann")
            assert paused.paused is not None
            assert (paused.paused.by, paused.paused.reason) == ("ann", "repairs")
            spec = TaskSpec("t", queue=queue)
            await client.submit_spec(spec)
            session = await client.register_worker(["t"], [queue])
            assert await session.claim() == []
            claim = Background(group, lambda: session.claim(1, 20))
            await parked(client, "claims_parked", 1)
            assert (await client.resume(queue)).paused is None
            (grant,) = await claim.result()
            await session.release(grant)
            assert (await client.set_queue(queue, max_length=1)).max_length == 1
            with pytest.raises(QueueFull):
                await client.submit_spec(spec)
            assert [item.outcome for item in await client.submit_many([spec])] == ["queue_full"]
            await session.close()

    kind.run(scenario)


def test_progress_checkpoints_and_mixed_reports(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            first, second = await client.submit_many([TaskSpec("t", queue=queue) for _ in range(2)])
            session = await client.register_worker(["t"], [queue])
            one, two = await session.claim(2)
            await session.progress(one, 3, total=4, note="nearly")
            progress = (await client.get(first.id, linearizable=True)).progress
            assert progress is not None
            assert (progress.done, progress.total, progress.note) == (3, 4, "nearly")
            assert await session.checkpoint(one, b"so far") == "applied"
            items = [released(one), completed(two, b"r", "text/plain"), released((two.id, two.fence - 1))]
            said = await session.report_many(items)
            assert said[:2] == ["applied"] * 2
            assert isinstance(said[2], StaleFence)
            (again,) = await session.claim()
            assert (again.id, again.checkpoint) == (first.id, b"so far")
            assert (await client.get(second.id)).result == b"r"
            await session.close()

    kind.run(scenario)


def test_keys_name_one_task(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            first = await client.submit("t", b"1", queue=queue, idempotency_key=queue)
            again = await client.submit("t", b"1", queue=queue, idempotency_key=queue)
            assert (again.outcome, again.id) == ("duplicate", first.id)
            holder = await client.submit("u", queue=queue, unique=Unique(queue, during="pending"))
            assert (await client.submit("u", queue=queue, unique=Unique(queue, during="pending"))).id == holder.id

    kind.run(scenario)


def test_middleware(kind: Kind, broker: Broker, queue: str) -> None:
    class Tag(ClientMiddleware):
        def before_submit(self, spec: TaskSpec) -> TaskSpec:
            return TaskSpec(spec.type, spec.payload, queue=spec.queue, tags=["seen"])

    async def scenario() -> None:
        async with kind.client(broker.address, middleware=[Tag()]) as client:
            task = await client.submit("t", queue=queue)
            assert (await client.get(task.id)).tags == ("seen",)

    kind.run(scenario)


# ---- waiting ---------------------------------------------------------------------------------------


def test_waits_claims_and_events_are_pushed(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with (
            kind.client(broker.address) as client,
            kind.client(broker.address) as other,
            anyio.create_task_group() as group,
        ):
            key = new_id()
            events = await other.events(key, timeout=10)
            session = await other.register_worker(["t"], [queue])
            claim = Background(group, lambda: session.claim(5, 20))
            await parked(client, "claims_parked", 1)
            task = await client.submit("t", b"x", queue=queue, id=key)
            (grant,) = await claim.result()
            waiting = Background(group, lambda: other.wait(task.id, 20))
            await parked(client, "waits", 1)
            began = time.monotonic()
            await session.complete(grant, b"end")
            assert (await waiting.result()).result == b"end"
            assert time.monotonic() - began < 1
            kinds = []
            async for event in events:
                assert event.id == key
                kinds.append(event.kind)
                if event.kind == "completed":
                    break
            assert kinds == ["created", "started", "completed"]
            assert events.complete
            await events.close()
            assert [event async for event in events] == []
            await session.close()

    kind.run(scenario)


def test_many_calls_at_once_share_one_connection(kind: Kind, broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            connections = (await client.stats())["connections"]
            slow = await client.submit("slow", queue=queue)
            payloads: list[bytes | None] = []

            async def one(number: int) -> None:
                task = await client.submit("t", b"%d" % number, queue=queue)
                payloads.append((await client.get(task.id, parts=1)).payload)

            async with anyio.create_task_group() as group:
                waiting = Background(group, lambda: client.wait(slow.id, 20))
                async with anyio.create_task_group() as many:
                    for number in range(100):
                        many.start_soon(one, number)
                assert not waiting.has_ended
                assert (await client.stats())["connections"] == connections
                await client.cancel(slow.id)
                assert (await waiting.result()).state == "cancelled"
            assert sorted(payloads) == sorted(b"%d" % number for number in range(100))

    kind.run(scenario)


def test_time_outs_of_asyncio_itself_cancel_calls(broker: Broker, queue: str) -> None:
    async def scenario() -> None:
        async with AsyncClient(broker.address) as client:
            task = await client.submit("t", queue=queue)
            waiting = asyncio.create_task(client.wait(task.id))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait(task.id), 0.1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.wait(task.id)
            ended = asyncio.create_task(client.wait(task.id))
            await parked(client, "waits", 2)  # the broker has let go what was cancelled
            ended.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ended
            await client.cancel(task.id)
            assert (await waiting).state == "cancelled"
            results = await asyncio.gather(*(client.get(task.id) for _ in range(20)))
            assert len(results) == 20

    asyncio.run(scenario())


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_cancelled_calls_are_forgotten(backend: str, broker: Broker, queue: str) -> None:
    kind = Kind(backend)

    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            task = await client.submit("t", queue=queue)
            session = await client.register_worker(["t"], ["other"])
            connections = (await client.stats())["connections"]
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(client.wait, task.id, 20)
                group.start_soon(session.claim, 1, 20)
                await parked(client, "waits", 50)
                await parked(client, "claims_parked", 1)
                group.cancel_scope.cancel()
            await parked(client, "waits", 0)
            await parked(client, "claims_parked", 0)
            assert (await client.cancel(task.id)) == "cancelled"
            assert (await client.wait(task.id, 5)).state == "cancelled"
            assert (await client.stats())["connections"] == connections
            await session.close()

    kind.run(scenario)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_cancelled_claim_takes_no_task_from_the_next_one(backend: str, broker: Broker, queue: str) -> None:
    kind = Kind(backend)

    async def scenario() -> None:
        async with kind.client(broker.address) as client, anyio.create_task_group() as group:
            session = await client.register_worker(["t"], [queue])
            for is_parked in (False, True):
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as claims:
                        claims.start_soon(session.claim, 1, 20)
                        await parked(client, "claims_parked", 1)
                        scope.cancel()
                again = Background(group, lambda: session.claim(1, 20))
                if is_parked:
                    await client.stats()  # the claim was there before
                task = await client.submit("t", queue=queue)
                (grant,) = await again.result()
                assert grant.id == task.id
                assert await session.complete(grant) == "applied"
            await session.close()

    kind.run(scenario)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_what_a_cancelled_claim_was_granted_goes_back(backend: str, broker: Broker, queue: str) -> None:
    """Cancelled at any moment: before it is sent, parked, in the log, or when the grant is on its way or here."""
    kind = Kind(backend)

    async def scenario() -> None:
        async with kind.client(broker.address) as client, kind.client(broker.address) as other:
            session = await client.register_worker(["t"], [queue])
            task = None
            for turns in [*range(12), 40, 100]:
                async with anyio.create_task_group() as group:
                    group.start_soon(session.claim, 1, 20)
                    if task is None:
                        await parked(other, "claims_parked", 1)
                        task = await other.submit("t", queue=queue)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                held = dict(session.held)
                assert len(held) <= 1
                if held:  # it was granted before it was cancelled
                    assert await session.release((task.id, held[task.id])) == "applied"
                while (found := await other.get(task.id)).state != "pending":
                    await anyio.lowlevel.checkpoint()
                assert (found.attempt, found.crashes) == (0, 0)
            await session.close()

    kind.run(scenario)


def test_a_call_that_is_interrupted_is_given_up(broker: Broker, queue: str) -> None:
    """Ctrl-C in a blocking call."""
    with Client(broker.address) as client, Client(broker.address) as other:
        task = other.submit("t", queue=queue)
        interrupting = threading.Thread(target=_interrupt_when_parked, args=(broker, other))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            client.wait(task.id)
        interrupting.join()
        eventually("the wait is let go", lambda: other.stats()["waits"] == 0, broker)
        assert client.cancel(task.id) == "cancelled"


def _interrupt_when_parked(broker: Broker, client: Client) -> None:
    eventually("the wait is parked", lambda: client.stats()["waits"] == 1, broker)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


# ---- brokers that cannot ---------------------------------------------------------------------------


def test_without_a_broker_calls_fail_in_time(kind: Kind) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"

    async def scenario() -> None:
        async def fails(call: Callable[[], Awaitable[Any]]) -> None:
            began = time.monotonic()
            error: Any = None
            try:
                (item, *_) = await call()
                error = item.error
            except BrokerUnavailable as raised:
                error = raised
            assert isinstance(error, BrokerUnavailable)
            assert address in error.message
            assert error.retryable
            assert 0.4 < time.monotonic() - began < 0.5 + LATE_SECONDS

        async with (
            kind.client(address, timeout=0.5) as client,
            kind.client(address, reach=0.5) as reaching,
            anyio.create_task_group() as group,
        ):
            group.start_soon(fails, lambda: client.submit("t"))
            group.start_soon(fails, lambda: client.register_worker(["t"]))
            group.start_soon(fails, lambda: client.events())
            group.start_soon(fails, lambda: client.stats(timeout=0.45))
            group.start_soon(fails, lambda: reaching.wait(new_id()))
            group.start_soon(fails, lambda: reaching.submit_many([TaskSpec("t")] * 1_500))

    kind.run(scenario)


def test_a_closed_client_says_so(kind: Kind, broker: Broker) -> None:
    async def scenario() -> None:
        async with kind.client(broker.address) as client:
            await client.stats()
            async with anyio.create_task_group() as group:
                task = await client.submit("t", queue="closed")
                waiting = Background(group, lambda: client.wait(task.id))
                async with kind.client(broker.address) as other:
                    await parked(other, "waits", 1)
                await client.close()
                with pytest.raises(BrokerUnavailable, match="closed"):
                    await waiting.result()
            with pytest.raises(BrokerUnavailable, match="closed"):
                await client.get(task.id)

    kind.run(scenario)


@pytest.fixture(scope="module")
def full_broker(ground: Ground) -> Broker:
    broker = ground.broker({"limits": {"disk_free_min_bytes": 1 << 60}}, name="full")
    broker.start_ready()
    return broker


def test_overload_is_told_and_not_retried(kind: Kind, full_broker: Broker) -> None:
    async def scenario() -> None:
        async with kind.client(full_broker.address) as client:
            for call in (lambda: client.submit("t"), lambda: client.submit_many([TaskSpec("t")])):
                began = time.monotonic()
                with pytest.raises(DiskFull) as caught:
                    await call()
                assert isinstance(caught.value, Backpressure)
                assert caught.value.retryable
                assert caught.value.retry_after
                assert time.monotonic() - began < LATE_SECONDS

    kind.run(scenario)


# ---- a cluster -------------------------------------------------------------------------------------


def leader_of(nodes: list[Broker]) -> Broker:
    found: list[Broker] = []

    def look() -> bool:
        found[:] = [node for node in nodes if node.alive and node.leads()]
        return len(found) == 1

    eventually("one node leads", look, next(node for node in nodes if node.alive))
    return found[0]


def test_who_wrote_reads_it_at_any_node(kind: Kind, nodes: list[Broker], queue: str) -> None:
    async def scenario() -> None:
        async with (
            kind.client(nodes[0].address) as writer,
            kind.client(nodes[1].address) as one,
            kind.client(nodes[2].address) as two,
        ):
            for number in range(20):
                task = await writer.submit("t", b"%d" % number, queue=queue)
                index = writer.last_index
                for reader in (one, two):
                    info = await reader.get(task.id, min_index=index)
                    assert info.index >= index
                    assert reader.last_index >= index
            assert len((await one.list(queue=queue, min_index=writer.last_index)).tasks) == 20
            (row,) = [row for row in await two.queues(min_index=writer.last_index) if row.name == queue]
            assert row.pending_total == 20

    kind.run(scenario)


def test_all_goes_on_when_another_node_is_told_to_lead(kind: Kind, nodes: list[Broker], queue: str) -> None:
    for node in nodes:
        if not node.alive:
            node.start_ready()
    leader = leader_of(nodes)

    async def scenario() -> None:
        outcomes: list[str] = []

        async def submit() -> None:
            for _ in range(10):
                outcomes.append((await client.submit("t", queue=queue)).outcome)

        async with kind.client([node.address for node in nodes]) as client, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(submit)
            assert await client.transfer_leadership() != leader.name
            with pytest.raises(InvalidRequest):
                await client.transfer_leadership("nobody")
            with pytest.raises(InvalidRequest, match="runs"):
                await client.replace_node(leader.name, None)
        assert outcomes == ["created"] * 50

    kind.run(scenario)


def test_all_goes_on_when_the_leader_dies(kind: Kind, nodes: list[Broker], queue: str) -> None:
    """Submits, a wait, a parked claim, events and a session; half of it at a follower, half at whom the client finds."""
    for node in nodes:
        if not node.alive:
            node.start_ready()
    leader = leader_of(nodes)
    follower = next(node for node in nodes if node is not leader)
    addresses = [leader.address, *(node.address for node in nodes if node is not leader)]

    async def scenario() -> None:
        outcomes: dict[str, str] = {}

        async def submit(number: int) -> None:
            key = new_id()
            outcomes[key] = (await client.submit("t", b"%d" % number, queue=queue, id=key)).outcome

        async with (
            kind.client(addresses) as client,
            kind.client(follower.address) as other,
            anyio.create_task_group() as group,
        ):
            first = await client.submit("first", queue=queue)
            events = await other.events(timeout=10)
            session = await other.register_worker(["first", "late"], [queue])
            (held,) = await session.claim()
            waiting = Background(group, lambda: client.wait(first.id, 50))
            claim = Background(group, lambda: session.claim(1, 50))
            async with anyio.create_task_group() as many:
                for number in range(150):
                    many.start_soon(submit, number)
                    if number == 75:
                        await in_thread(leader.kill)
            assert len(outcomes) == 150
            assert set(outcomes.values()) <= {"created", "duplicate"}
            assert {task.id async for task in client.list_all(queue=queue, type="t")} == set(outcomes)
            late = await client.submit("late", queue=queue)
            (grant,) = await claim.result()
            assert grant.id == late.id
            assert await session.complete(held, b"end") == "applied"
            assert (await waiting.result()).result == b"end"
            seen: list[str] = []
            async for event in events:
                # Its node may have heard of the first task after it was asked for events.
                if event.queue == queue and event.kind == "created" and event.id != first.id:
                    seen.append(event.id)
                if event.kind == "completed" and event.id == first.id:
                    break
            assert events.complete
            assert sorted(seen) == sorted([*outcomes, late.id])
            assert (await client.get(first.id, linearizable=True)).state == "completed"
            await session.close()
            await events.close()

    kind.run(scenario)
    leader.start_ready()
