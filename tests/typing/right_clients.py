"""What type checkers know of the clients, whose methods are made from the verbs. Checked by test_typing.py, never run."""

from __future__ import annotations

from typing import Any, assert_type

from tq import AsyncClient, Client, ClientMiddleware, Priority, Submitted, TaskSpec
from tq.client.models import Changed, Grant, Job, Page, QueueInfo, QueueSettings, TaskEvent, TaskInfo


class Tenant(ClientMiddleware):
    def before_submit(self, spec: TaskSpec) -> TaskSpec:
        return spec


def blocking() -> None:
    with Client(["a:1"], timeout=5, middleware=[Tenant()]) as client:
        assert_type(client.submit("t", b"", priority=Priority.HIGH, tags=["a"], request_timeout=5), Submitted)
        assert_type(client.submit_many([TaskSpec("t")], atomic=True), list[Submitted])
        assert_type(client.get("x", linearizable=True), TaskInfo)
        assert_type(client.wait("x", 5), TaskInfo)
        assert_type(client.cancel("x", wait=5), str)
        assert_type(client.cancel_many(["x"]), list[Changed])
        assert_type(client.list(state=["dead"], limit=5), Page)
        assert_type(client.retry_where(state="dead"), Job)
        assert_type(client.queues(), list[QueueInfo])
        assert_type(client.pause("q", reason="why"), QueueSettings)
        assert_type(client.stats(), dict[str, Any])
        for info in client.list_all(tag="a"):
            assert_type(info, TaskInfo)
        for event in client.events(timeout=5):
            assert_type(event, TaskEvent)
        with client.register_worker(["t"]) as session:
            assert_type(session.claim(5, wait=30), list[Grant])
            session.complete(session.claim()[0], b"r")
            session.complete(("x", 7))


async def awaited() -> None:
    async with AsyncClient("a:1", middleware=[Tenant()]) as client:
        assert_type(await client.submit("t", delay=60), Submitted)
        assert_type(await client.get("x"), TaskInfo)
        assert_type(await client.list(type="t"), Page)
        async for info in client.list_all(tag="a"):
            assert_type(info, TaskInfo)
        async for event in client.events():
            assert_type(event, TaskEvent)
        async with client.events("x") as events:
            assert_type(await anext(events), TaskEvent)
        async with client.register_worker(["t"]) as session:
            assert_type(await session.claim(), list[Grant])
        session = await client.register_worker(["t"])
        await session.close()
