"""What middleware sees and may change, in both clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import attrs
import pytest

from tests.unit.client.fake_broker import FakeBroker, created
from tq import Client, ClientMiddleware, Submitted, TaskSpec
from tq.client.asynchronous import AsyncClient
from tq.client.middleware import Chain
from tq.client.steps import T, Verb
from tq.errors import Backpressure, BatchRefused, Conflict, InvalidRequest, TqError, to_wire
from tq.protocol import messages as m
from tq.spec import parse

ID = bytes(range(16))
Call = Callable[..., Any]
Use = Callable[[Iterable[ClientMiddleware]], Any]


class Both:
    """One client of either kind."""

    def __init__(self, address: str, backend: str | None) -> None:
        self._address = address
        self._backend = backend

    def call(self, middleware: Iterable[ClientMiddleware], verb: str, *args: Any, **kwargs: Any) -> Any:
        """Do a verb and return its result."""
        return self.calls(middleware, lambda client: getattr(client, verb)(*args, **kwargs))[0]

    def calls(self, middleware: Iterable[ClientMiddleware], *calls: Callable[[Any], Any]) -> list[Any]:
        """Do them one after the other with one client; their results."""
        if self._backend is None:
            with Client(self._address, middleware=middleware) as client:
                return [call(client) for call in calls]

        async def main() -> list[Any]:
            async with AsyncClient(self._address, middleware=middleware) as client:
                return [await call(client) for call in calls]

        return anyio.run(main, backend=self._backend)


@pytest.fixture(params=[None, "trio", "asyncio"], ids=["blocking", "trio", "asyncio"])
def both(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Gives a broker with these answers, and the client at it."""

    @contextmanager
    def made(answer: Callable[[Any], Any] = created) -> Iterator[tuple[FakeBroker, Both]]:
        with FakeBroker(answer) as broker:
            yield broker, Both(broker.address, request.param)

    return made


class Header(ClientMiddleware):
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def before_submit(self, spec: TaskSpec) -> TaskSpec:
        return attrs.evolve(spec, headers={**(spec.headers or {}), self._name: self._value})


class Notes(ClientMiddleware):
    """What it hears, in order, in a list that others may share."""

    def __init__(self, name: str, heard: list[Any]) -> None:
        self._name = name
        self._heard = heard

    def before_submit(self, spec: TaskSpec) -> TaskSpec:
        self._heard.append((self._name, "before", spec.type))
        return spec

    def after_submit(self, spec: TaskSpec, submitted: Submitted) -> None:
        self._heard.append((self._name, "after", spec.type, submitted.outcome))


class Times(ClientMiddleware):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
        self.heard.append(verb)
        try:
            result = yield from steps
        except TqError as error:
            self.heard.append(error.code)
            raise
        self.heard.append("done")
        return result


class Refusal(ClientMiddleware):
    def before_submit(self, spec: TaskSpec) -> TaskSpec:
        if spec.type == "bad":
            raise PermissionError("not this one")
        return spec


def test_specs_are_changed_before_they_are_sent(both: Any) -> None:
    with both() as (broker, client):
        middleware = [Header("trace", "1"), Header("user", "ann"), Header("user", "bob")]
        client.call(middleware, "submit", "echo", headers={"own": "x"})
        client.call(middleware, "submit_many", [TaskSpec("echo")] * 2)
        sent = [dict(parse(raw).headers) for request in broker.requests for raw in request.specs]
        assert sent == [{"own": "x", "trace": "1", "user": "bob"}] + [{"trace": "1", "user": "bob"}] * 2


def test_the_first_is_outermost(both: Any) -> None:
    heard: list[Any] = []
    with both() as (_broker, client):
        client.call([Notes("a", heard), Notes("b", heard)], "submit", "echo")
    assert heard == [
        ("a", "before", "echo"), ("b", "before", "echo"), ("b", "after", "echo", "created"), ("a", "after", "echo", "created"),
    ]  # fmt: skip


def test_what_became_of_each_is_told(both: Any) -> None:
    refused = [2, 3, ID, to_wire(Conflict("taken"))]

    def answer(request: Any) -> Any:
        return m.SubmitReply(request.rid, 1, [refused] + [0] * (len(request.specs) - 1))

    heard: list[Any] = []
    with both(answer) as (_broker, client):
        with pytest.raises(Conflict):
            client.call([Notes("a", heard)], "submit", "one")
        client.call([Notes("a", heard)], "submit_many", [TaskSpec("two"), TaskSpec("three")])
        with pytest.raises(BatchRefused):
            client.call([Notes("a", heard)], "submit_many", [TaskSpec("four")], atomic=True)
    after = [note[2:] for note in heard if note[1] == "after"]
    assert after == [("one", "conflict"), ("two", "conflict"), ("three", "created"), ("four", "conflict")]


def test_an_exception_reaches_the_caller_and_nothing_is_sent(both: Any) -> None:
    with both() as (broker, client):
        with pytest.raises(PermissionError, match="not this one"):
            client.call([Refusal()], "submit", "bad")
        with pytest.raises(PermissionError):
            client.call([Refusal()], "submit_many", [TaskSpec("good"), TaskSpec("bad")])
        assert broker.requests == []
        assert client.call([Refusal()], "submit", "good").outcome == "created"


def test_around_sees_each_request_and_its_error(both: Any) -> None:
    def answer(request: Any) -> Any:
        return (
            created(request)
            if isinstance(request, m.SubmitTask)
            else m.ErrorReply(request.rid, to_wire(Backpressure("no")))
        )

    times = Times()
    with both(answer) as (_broker, client):
        client.call([times], "submit", "echo")
        with pytest.raises(Backpressure):
            client.call([times], "wait", ID)
        with pytest.raises(Backpressure):
            client.call([times], "register_worker", ["echo"])
    assert times.heard == ["submit", "done", "wait", "BACKPRESSURE", "register_worker", "BACKPRESSURE"]


def test_the_first_around_is_outermost(both: Any) -> None:
    heard: list[str] = []

    class Named(ClientMiddleware):
        def __init__(self, name: str) -> None:
            self._name = name

        def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
            heard.append(f"{self._name} begins")
            result = yield from steps
            heard.append(f"{self._name} ends")
            return result

    with both() as (_broker, client):
        client.call([Named("a"), Named("b")], "submit", "echo")
    assert heard == ["a begins", "b begins", "b ends", "a ends"]


def test_what_was_begun_is_given_up_with_its_verb(both: Any) -> None:
    """A batch of several requests is broken off; none of them is sent again when the connection is lost."""
    batches: list[Any] = []
    are_there = threading.Event()

    def answer(request: Any) -> Any:
        if len(request.specs) == 1:
            return created(request)
        batches.append(request)
        if len(batches) == 3:
            are_there.set()
        return None

    class BreaksOff(ClientMiddleware):
        def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
            if verb == "submit":
                return (yield from steps)
            for _ in range(3):
                yield next(steps)  # a request is begun
            assert are_there.wait(20)
            broker.drop()
            return None  # type: ignore[return-value]

    with both(answer) as (broker, client):
        client.calls(
            [BreaksOff()],
            lambda made: made.submit("echo"),
            lambda made: made.submit_many([TaskSpec("echo")] * 4_500),
            lambda made: made.submit("echo"),
        )
        assert broker.connections == 2
        assert [len(request.specs) for request in broker.requests] == [1, 1_000, 1_000, 1_000, 1]


def test_a_cached_answer_may_take_the_place_of_a_request(both: Any) -> None:
    class Answered(ClientMiddleware):
        def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
            steps.close()
            return "from a cache"  # type: ignore[return-value]
            yield

    with both() as (broker, client):
        assert client.call([Answered()], "get", ID) == "from a cache"
        assert broker.requests == []


def test_a_call_that_is_cancelled_ends_what_is_around_it() -> None:
    heard: list[str] = []

    class Ends(ClientMiddleware):
        def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
            try:
                return (yield from steps)
            finally:
                heard.append("ended")

    async def main() -> None:
        async with AsyncClient(broker.address, middleware=[Ends()]) as client:
            with anyio.move_on_after(0.05) as scope:
                await client.get(ID)
            assert scope.cancelled_caught
            assert heard == ["ended"]

    with FakeBroker(lambda _request: None) as broker:
        for backend in ("trio", "asyncio"):
            heard.clear()
            anyio.run(main, backend=backend)


def test_what_is_no_middleware_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="ClientMiddleware"):
        Client(middleware=[object()])  # type: ignore[list-item]

    class Forgetful(ClientMiddleware):
        def before_submit(self, spec: TaskSpec) -> TaskSpec:
            return None  # type: ignore[return-value]

    with Client("127.0.0.1:1", middleware=[Forgetful()]) as client, pytest.raises(InvalidRequest, match="Forgetful"):
        client.submit("echo")


def test_only_what_is_overridden_is_asked() -> None:
    assert not Chain([]).sees_submits
    assert not Chain([ClientMiddleware()]).sees_submits
    assert not Chain([Times()]).sees_submits
    assert Chain([Header("a", "b")]).sees_submits
    assert not Chain([Header("a", "b")]).sees_requests
    assert Chain([Times()]).sees_requests
