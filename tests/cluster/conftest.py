"""Real processes: every test gets a ground of its own, whose processes end with it; a failed test shows their logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.processes import SHORT_LEASES, Broker
from tq import Client
from tq.bench.processes import Ground


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with Ground("tq-test-") as ground:
        failed_before = request.session.testsfailed
        yield ground
        _show_logs(request, ground, failed_before)


@pytest.fixture(scope="module")
def shared_ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with Ground("tq-test-") as ground:
        failed_before = request.session.testsfailed
        yield ground
        _show_logs(request, ground, failed_before)


@pytest.fixture(scope="module")
def shared_broker(shared_ground: Ground) -> Broker:
    """One broker for all tests of a module that do it no harm; they take queues of their own."""
    broker = shared_ground.broker(SHORT_LEASES)
    broker.start_ready()
    return broker


@pytest.fixture
def client(shared_broker: Broker) -> Iterator[Client]:
    with Client(shared_broker.address) as client:
        yield client


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """A queue that no other test has."""
    return request.node.name[:100]


def _show_logs(request: pytest.FixtureRequest, ground: Ground, failed_before: int) -> None:
    if request.session.testsfailed > failed_before:
        for process in ground.processes:
            print(process.tail())
