"""The process: real files, real sockets, real signals, in this process; and what it says when it cannot run."""

from __future__ import annotations

import errno
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio

from tq import config, world
from tq.broker import run
from tq.broker.run import serve
from tq.broker.services import PERIOD_MS, REST_MS
from tq.errors import StorageFailed
from tq.protocol import messages as m

from .rig import task, task_id
from .test_health import exchange, get
from .test_listen import Client, free_port


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """What a broker sets for its process is set back for the tests behind it."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    structlog.reset_defaults()


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    node = config.NodeSection(
        data_dir=str(tmp_path / "data"),
        listen=f"127.0.0.1:{free_port()}",
        metrics_listen=f"127.0.0.1:{free_port()}",
    )
    return config.Config(node=node, limits=config.LimitsSection(disk_free_min_bytes=0))


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def connect(settings: config.Config) -> Client:
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port_of(settings.node.listen))
                break
            except OSError:
                await trio.sleep(0.01)
    client = Client(stream)
    await client.call(m.Hello, 1, 1, "test")
    while not (await client.call(m.ClusterStatus)).status["nodes"][0]["serving"]:
        await trio.sleep(0.01)
    return client


@asynccontextmanager
async def running(settings: config.Config) -> AsyncIterator[Client]:
    """A broker, and a client of it. Left with SIGTERM, it must come to its end by itself."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, settings)
            client = await connect(settings)
            async with client.stream:
                yield client
                os.kill(os.getpid(), signal.SIGTERM)
                await client.until_closed()


async def test_it_serves_stops_and_goes_on_where_it_was(settings):
    async with running(settings) as client:
        assert (await client.call(m.SubmitTask, [task(1)])).items == [0]
        await client.call(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
        parked = await client.send(m.ClaimTask, b"s" * 16, 1, [], 5, 0)
        assert len((await client.answer(parked)).grants) == 1
    async with running(settings) as client:
        found = (await client.call(m.GetTask, task_id(1))).task
        assert (found["state"], found["crashes"]) == ("running", 0)


async def test_sigterm_tells_and_answers(settings):
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, settings)
            client = await connect(settings)
            async with client.stream:
                await client.call(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
                parked = await client.send(m.ClaimTask, b"s" * 16, 1, [], 5, 30_000)
                waiting = await client.send(m.WaitTask, task_id(1), 0)
                with pytest.raises(Exception, match="no task"):
                    await client.answer(waiting)
                os.kill(os.getpid(), signal.SIGTERM)
                assert (await client.answer(parked)).grants == []
                assert isinstance(client.answers[-1], m.GoAway)
                await client.until_closed()


async def test_a_stopped_store_is_at_the_end_of_the_log(settings):
    async with running(settings) as client:
        for number in range(20):
            await client.call(m.SubmitTask, [task(number)])
        index = (await client.call(m.Ping)).index
    async with running(settings) as client:
        (node,) = (await client.call(m.ClusterStatus)).status["nodes"]
        assert node["checkpointed"] >= index


async def test_health_and_metrics(settings):
    port = port_of(settings.node.metrics_listen)
    async with running(settings) as client:
        await client.call(m.SubmitTask, [task(1)])
        assert (await exchange(port, get("/health/live"))).startswith(b"HTTP/1.1 200")
        ready = await exchange(port, get("/health/ready"))
        assert ready.startswith(b"HTTP/1.1 200")
        assert b'"leader": "n1"' in ready
        metrics = await exchange(port, get("/metrics"))
        for name in (b"tq_tasks_total", b"tq_tasks_pending", b"tq_raft_is_leader 1.0", b"tq_raft_fsync_seconds"):
            assert name in metrics


async def test_garbage_does_not_stop_it(settings):
    async with running(settings) as client:
        for data in (b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x05"):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(settings.node.listen))
            async with stream:
                await stream.send_all(data)
        assert (await client.call(m.Ping)).index


async def test_a_failed_sync_ends_it_and_nothing_more_is_acknowledged(settings, monkeypatch):
    accepted = []
    with trio.fail_after(30):
        with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, settings)
                client = await connect(settings)
                async with client.stream:
                    await client.call(m.SubmitTask, [task(1)])

                    def broken(_self: Any) -> None:
                        raise OSError(errno.EIO, "input/output error")

                    monkeypatch.setattr(world.RealFile, "sync", broken)
                    rid = await client.send(m.SubmitTask, [task(2)])
                    await client.until_closed()
                    accepted.append(rid in client.answers)
    assert accepted in ([], [False])
    monkeypatch.undo()
    async with running(settings) as client:
        assert (await client.call(m.GetTask, task_id(1))).task["state"] == "pending"


# ---- what it says when it cannot run ------------------------------------------------------------------


def main(settings: config.Config, capsys: pytest.CaptureFixture[str]) -> str:
    assert run.main(settings) == 1
    return capsys.readouterr().err


def test_another_broker_on_the_data(settings, capsys):
    disk = world.RealDisk(settings.node.data_dir)
    disk.lock()
    said = main(settings, capsys)
    disk.unlock()
    assert "in use" in said
    assert settings.node.data_dir in said


@pytest.mark.parametrize("field", ["listen", "metrics_listen"])
def test_another_program_on_the_address(settings, capsys, field):
    with run.listen.open_listener("x", getattr(settings.node, field)):
        said = main(settings, capsys)
    assert f"node.{field}" in said
    assert "another broker" in said
    world.RealDisk(settings.node.data_dir).lock()  # it was let go


def test_a_folder_that_cannot_be_made(settings, capsys, tmp_path):
    (tmp_path / "data").write_text("a file")
    said = main(settings, capsys)
    assert "data_dir" in said
    assert "Traceback" not in said


def test_a_damaged_store(settings, capsys):
    folder = Path(settings.node.data_dir)
    trio.run(_once, settings)
    (data,) = folder.glob("store/data.mdb")
    data.write_bytes(b"\x5a" * data.stat().st_size)
    said = main(settings, capsys)
    assert "data.mdb" in said or "store" in said
    assert "Traceback" not in said


async def _once(settings: config.Config) -> None:
    async with running(settings) as client:
        await client.call(m.SubmitTask, [task(1)])


async def test_a_look_waits_long_while_nothing_happens_and_comes_soon_after_something_did(autojump_clock, nursery):
    looks: list[float] = []
    broker: Any = SimpleNamespace(
        look=lambda: looks.append(trio.current_time()), look_wait_ms=lambda: REST_MS, stir=lambda: None
    )
    began_s = trio.current_time()
    nursery.start_soon(run._look, broker)
    await trio.sleep(0.6)
    assert looks == pytest.approx([began_s + 0.25, began_s + 0.5])
    broker.stir()
    broker.stir()
    await trio.sleep(0.1)
    assert looks[2:] == pytest.approx([began_s + 0.65])
    broker.look_wait_ms = lambda: PERIOD_MS
    await trio.sleep(0.22)
    assert len(looks) == 4, "it waits as it was told before"
    await trio.sleep(0.5)
    assert len(looks) == 14
