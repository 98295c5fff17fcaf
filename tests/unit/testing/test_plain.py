"""Plain handlers run on the stack of whoever lets the world go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tq import Client, Context, Retry, Stopped
from tq.testing import cluster, memory_broker
from tq.worker.handlers import Handlers


def chain(found: Handlers, client: list[Client], lines: list[Any]) -> None:
    @found.handler("link")
    def link(payload: bytes, ctx: Context) -> bytes:
        lines.append(int(payload))
        if int(payload):
            client[0].submit("link", str(int(payload) - 1).encode())
        return payload

    @found.handler("nest")
    def nest(payload: bytes, ctx: Context) -> bytes:
        if payload == b"0":
            return b"*"
        child = client[0].submit("nest", str(int(payload) - 1).encode())
        result = client[0].wait(child.id, 10).result
        return b"(" + (result or b"") + b")"


def test_they_run_in_the_thread_of_the_test() -> None:
    threads: list[str] = []
    found = Handlers()

    @found.handler("where")
    def where(payload: bytes, ctx: Context) -> None:
        threads.append(threading.current_thread().name)

    with memory_broker() as broker:
        broker.worker(found)
        broker.client.wait(broker.client.submit("where").id, 5)
    assert threads == [threading.current_thread().name]


@pytest.mark.parametrize("make", [memory_broker, cluster])
def test_a_long_chain_is_no_tower(make: Any) -> None:
    found, client, lines = Handlers(), [], []  # type: ignore[var-annotated]
    chain(found, client, lines)
    length = 200 if make is memory_broker else 20
    with make() as simulation:
        client.append(simulation.client)
        simulation.worker(found, concurrency=500)
        simulation.client.submit("link", str(length).encode())
        simulation.run_until_idle()
    assert lines == list(range(length, -1, -1))


@pytest.mark.parametrize("make", [memory_broker, cluster])
def test_a_handler_waits_for_another_task(make: Any) -> None:
    found, client, lines = Handlers(), [], []  # type: ignore[var-annotated]
    chain(found, client, lines)
    with make() as simulation:
        client.append(simulation.client)
        simulation.worker(found, concurrency=5)
        submitted = simulation.client.submit("nest", b"3")
        assert simulation.client.wait(submitted.id, 30).result == b"(((*)))"


def test_without_a_free_slot_it_waits_in_vain() -> None:
    found, client, lines = Handlers(), [], []  # type: ignore[var-annotated]
    chain(found, client, lines)
    with memory_broker() as broker:
        client.append(broker.client)
        broker.worker(found, concurrency=1)
        submitted = broker.client.submit("nest", b"1", retry=Retry(max_attempts=1))
        info = broker.client.wait(submitted.id, 60)
        assert info.error is not None
        assert "WaitTimeout" in info.error[0]


def test_one_that_is_told_to_stop_is_stopped_where_it_waits() -> None:
    steps: list[str] = []
    found = Handlers()

    @found.handler("long")
    def long(payload: bytes, ctx: Context) -> None:
        try:
            for number in range(100):
                steps.append(f"step {number}")
                broker.advance(10)
        except Stopped:
            steps.append("stopped")
            raise

    with memory_broker() as broker:
        broker.worker(found)
        submitted = broker.client.submit("long", timeout=25, retry=Retry(max_attempts=1))
        info = broker.client.wait(submitted.id, 100)
        assert info.state == "dead"
        broker.advance(1)
    assert steps == ["step 0", "step 1", "step 2", "stopped"]


def test_a_cancel_ends_a_wait() -> None:
    found = Handlers()
    waits: list[bool] = []

    @found.handler("patient")
    def patient(payload: bytes, ctx: Context) -> None:
        waits.append(ctx.wait_cancelled(5))
        broker.client.cancel(ctx.id)
        waits.append(ctx.wait_cancelled(1_000))

    with memory_broker() as broker:
        broker.worker(found)
        submitted = broker.client.submit("patient")
        info = broker.client.wait(submitted.id, 100)
        assert info.state == "cancelled"
        broker.advance(0)
    assert waits == [False]


def test_control_c_ends_the_test_and_not_the_attempt() -> None:
    found = Handlers()

    @found.handler("interrupted")
    def interrupted(payload: bytes, ctx: Context) -> None:
        raise KeyboardInterrupt

    with memory_broker() as broker:
        broker.worker(found)
        broker.client.submit("interrupted")
        with pytest.raises(KeyboardInterrupt):
            broker.run_until_idle()
