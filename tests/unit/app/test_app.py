"""An app opens nothing until it is used, is shared by threads, and has a client a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.app.rig import Worker, broker, completed, failed
from tq import App, Fatal, Retry, Snooze, resource
from tq.client.middleware import ClientMiddleware
from tq.errors import BrokerUnavailable, ConfigError, InvalidRequest, InvalidState, Unsupported
from tq.worker.handlers import load
from tq.worker.outcomes import FAIL, SNOOZE


def one() -> int:
    return 1


def test_making_one_opens_nothing() -> None:
    app = App("127.0.0.1:1")
    app.task(one)
    app.close()
    app.close()
    assert repr(app) == "<App 127.0.0.1:1 with 1 tasks>"


def test_brokers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with broker() as fake:
        monkeypatch.setenv("TQ_BROKERS", fake.address)
        with App() as app:
            assert app.task(one).submit().outcome == "created"
        with App([fake.address]) as app:
            assert app.client.list().tasks
    with App(reach=0.05, timeout=5) as app, pytest.raises(BrokerUnavailable):
        app.task(one).submit()


@pytest.mark.parametrize("options", [{"api_key": "k"}, {"tls": True}, {"tls": {}}])
def test_what_is_not_there_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=rf"App\({next(iter(options))}=\.\.\.\) is not there yet"):
        App(**options)


def test_a_key_in_the_environment_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQ_API_KEY", "k")
    with pytest.raises(Unsupported, match="TQ_API_KEY is set"):
        _ = App("127.0.0.1:1").client


def test_threads_share_one_client(app: App) -> None:
    found: list[Any] = []
    barrier = threading.Barrier(8)

    def look() -> None:
        barrier.wait(10)
        found.append(app.client)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(client) for client in found}) == 1


def test_it_connects_again_after_a_close(app: App) -> None:
    task = app.task(one)
    task.submit()
    first = app.client
    app.close()
    task.submit()
    assert app.client is not first
    assert len(app.client.list().tasks) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_has_a_client_of_its_own(app: App) -> None:
    task = app.task(one)
    task.submit()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            code = 0 if task.submit().outcome == "created" else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    task.submit()
    assert len(app.client.list().tasks) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_waits_for_no_lock_of_its_parent(app: App) -> None:
    """Another thread is inside of the app's client, and of its ids, when the process forks."""
    task = app.task(one)
    task.submit()
    ids = app.client._verbs.ids
    inside, over = threading.Event(), threading.Event()

    def hold() -> None:
        with app._lock, ids._lock:
            inside.set()
            over.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(20)
    parents = app.client
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            if task.submit().outcome != "created":
                code = 2
            else:
                try:
                    parents.submit("t")
                except InvalidState:
                    code = 0
        finally:
            os._exit(code)
    over.set()
    holder.join(20)
    assert os.waitpid(child, 0)[1] == 0
    assert len(app.client.list().tasks) == 2


def test_middleware_of_the_client(app: App) -> None:
    seen: list[str] = []

    class Seen(ClientMiddleware):
        def after_submit(self, spec: Any, submitted: Any) -> None:
            seen.append(spec.type)

    with broker() as fake, App(fake.address, middleware=[Seen()]) as other:
        other.task(name="t")(one).submit()
    assert seen == ["t"]


def test_another_client_for_tests(app: App) -> None:
    class Elsewhere:
        def submit_spec(self, spec: Any) -> Any:
            return ("elsewhere", spec.type)

    task = app.task(name="t")(one)
    elsewhere = Elsewhere()
    with app.use(elsewhere) as used:
        assert used is elsewhere is app.client
        with app.use(Elsewhere()):
            assert app.client is not elsewhere
        assert task._handle(app.client.submit_spec(task.spec()))._submitted == ("elsewhere", "t")  # type: ignore[comparison-overlap]
    assert task.submit().outcome == "created"


# ---- declarations ----------------------------------------------------------------------------------------


def test_how_tasks_run(app: App) -> None:
    async def fetch() -> int:
        return 2

    app.task(name="thread")(one)
    app.task(name="process", executor="process")(one)
    app.task(name="trio")(fetch)
    app.task(name="asyncio", runtime="asyncio")(fetch)
    assert {handler.type: handler.executor for handler in app.handlers} == {
        "thread": "thread", "process": "process", "trio": "async", "asyncio": "asyncio",
    }  # fmt: skip
    assert app.tasks["trio"].definition.is_async
    with pytest.raises(TypeError):
        app.tasks["x"] = app.tasks["trio"]  # type: ignore[index]


def generator() -> Any:
    yield 1


async def asynchronous() -> int:
    return 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (asynchronous, {"executor": "thread"}, "is async def: choose its loop"),
        (asynchronous, {"runtime": "curio"}, "has runtime='curio'"),
        (one, {"runtime": "trio"}, "is def and has no event loop"),
        (one, {"executor": "fiber"}, "has executor='fiber'"),
        (generator, {}, "it yields, and a task returns"),
        (async_generator, {}, "it yields, and a task returns"),
        (classmethod(one), {}, "is no function"),
        (5, {"name": "x"}, "is no function"),
        (one, {"retry_on": 5}, "retry_on has 5"),
    ],
)
def test_what_cannot_be_a_task(app: App, function: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        app.task(**options)(function)
    assert not app.tasks
    assert not len(app.handlers)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priority": 256}, "priority is 256: a whole number 0 .. 255"),
        ({"priority": "high"}, "priority is 'high': must be a whole number"),
        ({"queue": " "}, "queue is ' '"),
        ({"name": "a\nb"}, "no control characters"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": "soon"}, "timeout is 'soon': must be a number of seconds"),
        ({"retry": Retry(max_attempts=0)}, "retry.max_attempts is 0"),
        ({"unique": ""}, "unique.key"),
        ({"tags": ["a", "a"]}, "no two alike"),
        ({"headers": {"a": 1}}, "headers is 1: must be text"),
        ({"headers": {"a": "b" * 9_000}}, "headers has"),
    ],
)
def test_options_are_judged_where_they_are_declared(app: App, options: dict[str, Any], text: str) -> None:
    """Not at the first submit; by what the broker goes by."""
    with pytest.raises(InvalidRequest) as caught:
        app.task(**options)(one)
    assert text in caught.value.message
    assert caught.value.message.startswith(f"task {options.get('name', f'{__name__}.one')}: ")
    assert not app.tasks


def test_a_name_is_taken_once(app: App) -> None:
    app.task(name="t")(one)
    with pytest.raises(ConfigError, match="'t' has two handlers"):
        app.task(name="t")(one)


def test_an_option_that_is_none(app: App) -> None:
    with pytest.raises(TypeError, match=r"@app\.task\(\) has no option 'que'; did you mean 'queue'"):
        app.task(que="a")(one)  # type: ignore[call-overload]


def test_handlers_are_checked_when_a_worker_asks(app: App) -> None:
    @app.task
    def wrong(a: type) -> None: ...

    with pytest.raises(ConfigError, match="argument 'a': its type type cannot be carried"):
        _ = app.handlers


def test_a_worker_finds_the_app_of_a_module(monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    app.task(name="t")(one)
    assert app.resource("db")(one) is one
    module = type(sys)("tq_test_module")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tq_test_module", module)
    loaded = load("tq_test_module")
    assert loaded.handlers.types == ["t"]
    assert loaded.resources == {"db": one}


# ---- verdicts --------------------------------------------------------------------------------------------


def decide(what: str) -> int:
    match what:
        case "after":
            raise Retry.after(30)
        case "snooze":
            raise Snooze(60)
        case "fatal":
            raise Fatal("bad address")
        case _:
            raise ConnectionError(what)


def test_verdicts(app: App, worker: Worker) -> None:
    task = app.task(name="t", retry_on=OSError)(decide)
    task.submit_many([("after",), ("snooze",), ("fatal",), ("refused",)])
    said = {str(one): one for one in worker.run()}
    after, snooze, fatal, refused = said.values()
    assert (after[0], after[1][1:]) == (FAIL, [False, 30_000])
    assert snooze == (SNOOZE, 60_000)
    assert failed(fatal) == ("tq.verdicts.Fatal", "bad address", True)
    assert failed(refused) == ("ConnectionError", "refused", False)


def test_a_static_method_is_a_function(app: App, worker: Worker) -> None:
    class Shop:
        @app.task
        @staticmethod
        def sell(what: str) -> str:
            return f"sold {what}"

    assert Shop.sell("tea") == "sold tea"
    handle = Shop.sell.submit("tea")
    assert Shop.sell.name.endswith("Shop.sell")
    worker.run()
    assert handle.result(5) == "sold tea"


def test_a_resource_is_no_argument(app: App) -> None:
    @app.task
    def send(to: str, db: Any = resource("pool")) -> str:
        return to

    assert app.handlers.get(send.name) is not None
    assert dict(app.handlers.get(send.name).asks) == {"db": "pool"}  # type: ignore[union-attr]


def test_payloads_from_elsewhere(app: App, worker: Worker) -> None:
    app.task(name="t", retry_on=())(decide)
    app.task(name="u")(len)
    client = app.client
    client.submit("u", b'{"obj":"abc"}')
    client.submit("t", b'{"cc":1}')
    first, second = worker.run()
    assert completed(first) == ("application/json", b"3")
    assert failed(second)[0] == "tq.app.definition.BadArguments"
    assert failed(second)[2]


def test_no_loop_no_client(app: App) -> None:
    with pytest.raises(InvalidState, match="async with app:"):
        _ = app.async_client
