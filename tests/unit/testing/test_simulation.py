"""What a memory broker and a cluster have in common: time, idleness, seeds, threads."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import Client, Context, InvalidRequest, InvalidState, Retry, WaitTimeout
from tq.errors import ConfigError
from tq.testing import cluster, memory_broker, world
from tq.testing.simulation import START
from tq.worker.handlers import Handlers

HOUR = 3_600


def test_time_stands_until_it_is_told_to_pass() -> None:
    with memory_broker() as broker:
        began = broker.now
        for _ in range(20):
            broker.client.submit("echo")
        assert broker.now - began < timedelta(seconds=0.1)
        broker.advance(90)
        assert timedelta(seconds=90) <= broker.now - began < timedelta(seconds=90.1)


def test_the_beginning_can_be_said() -> None:
    with memory_broker() as broker:
        assert abs(broker.now - START) < timedelta(seconds=10)
    moment = datetime(2031, 5, 1, 12, tzinfo=UTC)
    with memory_broker(start=moment) as broker:
        assert abs(broker.now - moment) < timedelta(seconds=10)
        submitted = broker.client.submit("echo", not_before=moment + timedelta(hours=1))
        broker.worker(handlers(Book()))
        broker.advance(HOUR - 60)
        assert broker.client.get(submitted.id).state == "scheduled"
        broker.advance(70)
        assert broker.client.get(submitted.id).state == "completed"


@pytest.mark.parametrize("wrong", [{"lease": 0.5}, {"lease": 1e9}, {"start": datetime(2026, 1, 1)}])
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=r"lease|start"):
        memory_broker(**wrong)  # type: ignore[arg-type]


def test_seconds_are_checked() -> None:
    with memory_broker() as broker, pytest.raises(InvalidRequest, match="0 or more"):
        broker.advance(-1)


def test_idle_is_when_nothing_can_run_now() -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        ready = [broker.client.submit("echo") for _ in range(10)]
        naps = [broker.client.submit("nap", b"100") for _ in range(2)]
        later = broker.client.submit("echo", delay=HOUR)
        failing = broker.client.submit("fail", b"no", retry=Retry(max_attempts=2, backoff_base=600))
        unknown = broker.client.submit("nobody-does-this")
        broker.run_until_idle()
        states = {broker.client.get(one.id).state for one in ready + naps}
        assert states == {"completed"}
        assert broker.client.get(later.id).state == "scheduled"
        assert broker.client.get(failing.id).state == "scheduled"
        assert broker.client.get(unknown.id).state == "pending"


def test_done_is_when_all_have_ended() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        later = broker.client.submit("echo", delay=HOUR)
        failing = broker.client.submit("fail", b"no", retry=Retry(max_attempts=3, backoff_base=600))
        broker.run_until_done()
        assert broker.client.get(later.id).state == "completed"
        assert broker.client.get(failing.id).state == "dead"


def test_what_is_not_done_is_told() -> None:
    with memory_broker() as broker:
        broker.client.submit("nobody-does-this")
        with pytest.raises(WaitTimeout, match=r"not done after 100 s: \{'pending': 1\}, running at no worker"):
            broker.run_until_done(timeout=100)


def test_errors_are_the_objects_that_were_raised() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        submitted = broker.client.submit("fail", b"a reason", retry=Retry(max_attempts=1))
        broker.run_until_idle()
        [(id, error)] = broker.errors
        assert id == submitted.id
        assert isinstance(error, ValueError)
        trace = broker.client.get(submitted.id).history[-1].error
        assert trace is not None
        assert "a reason" in str(trace)
        assert "tq/testing" not in str(trace), "our frames are no use to users"


def story(seed: int, size: int) -> tuple[list[object], list[object]]:
    """What handlers did, and what events were seen."""
    book = Book()
    with cluster(size, seed=seed) as nodes:
        events = nodes.client.events()
        for number in range(2):
            nodes.worker(handlers(book), concurrency=3, name=f"w{number}")
        for number in range(8):
            nodes.client.submit(("echo", "nap", "doze", "fail")[number % 4], b"1", retry=Retry(max_attempts=3))
        nodes.advance(0.5)
        if size > 1:
            nodes.kill("leader")
        nodes.advance(6)
        seen: list[object] = []
        while len(seen) < 20:
            seen.append(next(events))
        return [*book.lines, nodes.now], seen


@pytest.mark.parametrize("size", [1, 3])
def test_a_seed_is_the_story(size: int) -> None:
    assert story(7, size) == story(7, size)


def test_another_seed_is_another_story() -> None:
    assert story(7, 1)[1] != story(8, 1)[1]


def test_a_failure_tells_the_seed() -> None:
    with pytest.raises(ZeroDivisionError) as caught, memory_broker(seed=12) as broker:  # noqa: PT012
        broker.advance(5)
        raise ZeroDivisionError
    assert caught.value.__notes__ == ["tq.testing: seed=12, after 5.000 s of virtual time"]


def test_another_thread_may_drive_while_this_one_waits() -> None:
    """As web frameworks' clients for tests do it."""
    results: list[bytes | None] = []

    def elsewhere(client: Client) -> None:
        results.append(client.wait(client.submit("echo", b"x").id, 5).result)

    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        threads = [threading.Thread(target=elsewhere, args=(broker.client,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [b"x"] * 5
        assert broker.client.stats()["tasks"]["completed"] == 5


def test_a_handler_that_waits_for_a_thread_that_wants_to_drive_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "TURN_S", 0.05)
    caught: list[InvalidState] = []
    found = Handlers()

    @found.handler("waits")
    def waits(payload: bytes, ctx: Context) -> None:
        def elsewhere() -> None:
            try:
                broker.client.submit("echo")
            except InvalidState as error:
                caught.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    with memory_broker() as broker:
        broker.worker(found)
        broker.client.wait(broker.client.submit("waits").id, 5)
    assert "one thread at a time" in str(caught[0])


def test_it_is_for_one_block() -> None:
    broker = memory_broker()
    with pytest.raises(InvalidState, match=r"with memory_broker\(\) as broker"):
        broker.client.stats()
    with broker:
        broker.client.stats()
    with pytest.raises(InvalidState, match="make another one"):
        broker.__enter__()


def test_two_workers_of_one_name_are_refused() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()), name="w")
        for name in ("w", "n1", "client"):
            with pytest.raises(ConfigError, match="another name"):
                broker.worker(handlers(Book()), name=name)


def test_what_is_no_app_is_refused() -> None:
    with memory_broker() as broker:
        with pytest.raises(ConfigError, match="no handlers"):
            broker.worker(object())
        with pytest.raises(ConfigError, match="no tasks yet"):
            broker.worker(type(handlers(Book()))())


def test_idle_hours_cost_little() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        broker.advance(1)
        steps = 0
        settle = broker._world._settle

        def counted() -> None:
            nonlocal steps
            steps += 1
            settle()

        broker._world._settle = counted  # type: ignore[method-assign]
        broker.advance(10 * HOUR)
        assert 5 < steps < 100, "each step costs a tenth of a millisecond or so"
