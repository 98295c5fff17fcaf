"""An app against a real broker and a real ``tq worker MODULE``: arguments, results, errors and verdicts go all the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from tests.cluster import app_tasks as t
from tests.cluster.app_tasks import Item
from tests.cluster.processes import Broker, Process, eventually, tq
from tq import BrokerUnavailable, RemoteError, TaskCancelled, TaskExpired, TaskFailed, TaskHandle, WaitTimeout
from tq.bench.processes import TQ, Ground
from tq.client.blocking import Client

MODULE = "tests.cluster.app_tasks"
ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


@pytest.fixture(scope="module")
def worker(shared_ground: Ground, shared_broker: Broker) -> Iterator[Process]:
    """Started by the module alone: ``app`` is the name that is looked for."""
    worker = shared_ground.worker(shared_broker, MODULE, "--queues", "default,verdicts", name="worker", path=[ROOT])
    worker.start()
    yield worker
    assert worker.stop() == 0, worker.tail()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, shared_broker: Broker) -> Iterator[None]:
    """The app of the module finds its brokers in the environment."""
    monkeypatch.setenv("TQ_BROKERS", shared_broker.address)
    yield
    t.app.close()


def test_types_go_all_the_way(worker: Process) -> None:
    items = [Item("tea", Decimal("1.10")), Item("mug", Decimal("5"))]
    handle = t.total.submit(items, discount=Decimal("0.10"))
    assert handle.result(WAIT_S) == Item("all", Decimal("6.00"))
    info = handle.status()
    assert (info.type, info.content_type) == ("tests.cluster.app_tasks.total", "application/json")
    assert json.loads(info.payload or b"")["items"][0] == {"name": "tea", "price": "1.10"}
    assert t.total(items) == Item("all", Decimal("6.10"))


def test_each_kind_of_function(worker: Process) -> None:
    raw = t.raw.submit(bytes(range(256)))
    handles = [t.where.submit(), t.on_trio.submit(1), t.on_asyncio.submit(2)]
    pid, _ = handles[0].result(WAIT_S)  # type: ignore[misc]
    assert pid not in (os.getpid(), worker.pid)
    assert [handle.result(WAIT_S) for handle in handles[1:]] == ["trio 1", "asyncio 2"]
    assert raw.result(WAIT_S) == bytes(range(256))[::-1]
    assert raw.status().result_content_type == "application/octet-stream"


def test_verdicts_and_errors(worker: Process, tmp_path: Path) -> None:
    decide = t.decide.options(headers={"mark": str(tmp_path / "mark")})
    handles = {what: decide.submit(what) for what in ("again", "after", "snooze", "fatal", "other")}
    assert handles["again"].result(WAIT_S) == 3
    assert handles["after"].result(WAIT_S) == 2
    assert handles["snooze"].result(WAIT_S) == 1
    for what, kind, text in (("fatal", "tq.verdicts.Fatal", "bad address"), ("other", "KeyError", "'other'")):
        with pytest.raises(TaskFailed) as caught:
            handles[what].result(WAIT_S)
        cause = caught.value.__cause__
        assert isinstance(cause, RemoteError)
        assert (cause.type, cause.message) == (kind, text)
        assert "app_tasks.py" in str(caught.value)
        assert "1 attempt" in str(caught.value)
    with pytest.raises(TaskFailed, match="the result: must be int, not a set"):
        t.unfit.submit().result(WAIT_S)


def test_a_payload_from_another_version_is_dead_at_once(worker: Process, client: Client) -> None:
    id = client.submit("tests.cluster.app_tasks.on_trio", b'{"n":1,"colour":"red"}').id
    with pytest.raises(
        TaskFailed, match=r"has no argument 'colour'; it has n: the task was submitted by another version"
    ):
        t.app.handle(id).result(WAIT_S)


def test_from_a_shell(worker: Process, shared_broker: Broker) -> None:
    done = tq(
        "submit", "--type", "tests.cluster.app_tasks.on_trio", "--payload", '{"n": 7}', "--wait", brokers=shared_broker.address
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, '"trio 7"'), done.stderr


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_from_coroutines(worker: Process, backend: str) -> None:
    async def several() -> list[str]:
        async with t.app:
            handles = await t.on_trio.asubmit_many((n,) for n in range(20))
            return [await handle.aresult(WAIT_S) for handle in handles]

    assert anyio.run(several, backend=backend) == [f"trio {n}" for n in range(20)]


def test_a_handler_submits_more(worker: Process) -> None:
    ids = t.fan_out.submit(3).result(WAIT_S)
    assert [t.app.handle(id).result(WAIT_S).price for id in ids] == [0, 1, 2]


def test_a_worker_goes_where_its_app_says(ground: Ground, shared_broker: Broker) -> None:
    """Without --brokers; and the program itself has the names that its importers use."""
    (ground.folder / "shop.py").write_text(
        f"from tq import App\napp = App({shared_broker.address!r})\n"
        "@app.task(queue='shop')\ndef sell(what: str) -> str:\n    return f'sold {what}'\n"
        "if __name__ == '__main__':\n    print(sell.submit('tea').result(60))\n"
    )
    argv = [*TQ, "worker", "shop", "--queues", "shop"]
    worker = ground.process("shop", argv, path=[ROOT], environ={"TQ_BROKERS": "127.0.0.1:1"})
    worker.start()
    done = subprocess.run(
        [sys.executable, "shop.py"], cwd=ground.folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "sold tea\n"), done.stderr
    assert worker.stop() == 0


def test_other_ends() -> None:
    elsewhere = t.total.options(queue="nobody")
    handle = elsewhere.submit([])
    with pytest.raises(WaitTimeout):
        handle.result(0.05)
    assert "no worker is connected" in handle.explain().why
    with handle.events(timeout=WAIT_S) as events:
        assert handle.cancel() == "cancelled"
        assert next(events).kind == "cancelled"
    with pytest.raises(TaskCancelled):
        handle.result(WAIT_S)
    with pytest.raises(TaskExpired):
        elsewhere.options(expires_in=0.05).submit([]).result(WAIT_S)


def test_many_over_a_restart_of_the_broker(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was submitted before is a handle after it; the app connects again by itself."""
    broker = ground.broker()
    broker.start_ready()
    monkeypatch.setenv("TQ_BROKERS", broker.address)
    t.app.close()
    handles = t.on_trio.submit_many((n,) for n in range(1_500))
    assert len({handle.id for handle in handles}) == 1_500
    broker.kill()
    client = t.app.client
    with pytest.raises(BrokerUnavailable):
        client.get(handles[0].id, timeout=0.2)
    broker.start_ready()
    worker = ground.worker(broker, f"{MODULE}:app", "--concurrency", "50", path=[ROOT])
    worker.start()
    results = [TaskHandle.result(handle, WAIT_S) for handle in handles[:3] + handles[-3:]]
    assert results == ["trio 0", "trio 1", "trio 2", "trio 1497", "trio 1498", "trio 1499"]
    end = time.monotonic() + WAIT_S
    eventually("all are done", lambda: t.app.client.queues()[0].completed == 1_500, worker, end - time.monotonic())
    assert worker.stop() == 0
