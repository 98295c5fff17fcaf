"""Progress and checkpoints of real handlers of each kind, over the death of their worker and of the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, Process, eventually
from tq.client.blocking import Client

MODULE = "tests.cluster.aside_handlers"
ROOT = Path(__file__).parents[2]
KINDS = ("thread", "process", "trio", "asyncio")
WAIT_S = 60.0


@pytest.fixture
def broker(ground: Ground) -> Broker:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    return broker


def a_worker(ground: Ground, broker: Broker, name: str) -> Process:
    worker = ground.worker(broker, MODULE, "--name", name, "--concurrency", "8", name=name, path=[ROOT])
    worker.start()
    return worker


def test_what_an_attempt_has_kept_survives_its_worker_and_the_broker(ground: Ground, broker: Broker) -> None:
    with Client(broker.address) as client:
        first = a_worker(ground, broker, "first")
        ids = {kind: client.submit(f"steps-{kind}", kind.encode()).id for kind in KINDS}

        def all_are_at_two() -> bool:
            infos = [client.get(id) for id in ids.values()]
            return all(info.progress is not None and info.progress.done == 2 for info in infos)

        eventually("the last word of each", all_are_at_two, first, WAIT_S)
        for kind, id in ids.items():
            info = client.get(id)
            assert (info.state, info.checkpoint_bytes) == ("running", len(kind))
        first.kill()
        broker.kill()
        broker.start_ready()
        second = a_worker(ground, broker, "second")
        for kind, id in ids.items():
            ended = client.wait(id, WAIT_S)
            assert (ended.state, ended.result) == ("completed", kind.encode()), kind
            assert (ended.crashes, ended.attempt) == (1, 1)
            assert (ended.checkpoint_bytes, ended.progress) == (None, None)
        assert second.stop() == 0
