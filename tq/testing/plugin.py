"""The pytest plugin: fixtures for an app, which is named by overriding ``tq_app``. It has no options and no hooks.

@pytest.fixture
def tq_app():
    return app
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from tq.testing import Cluster, Inline, MemoryBroker
    from tq.testing.simulation import Simulation

S = TypeVar("S", bound="Simulation")


@pytest.fixture
def tq_app() -> Any:
    """The app of the fixtures below. Override it, in ``conftest.py`` or in a test module."""
    raise pytest.UsageError("write a fixture tq_app that returns your tq.App: the tq_... fixtures are made for it")


@pytest.fixture
def tq_seed() -> int:
    """The seed of the fixtures below. Override it, or parametrize tests with it, to play other runs."""
    return 0


@pytest.fixture
def tq_inline(request: pytest.FixtureRequest, tq_app: Any, tq_seed: int) -> Iterator[Inline]:
    """``tq.testing.inline`` of ``tq_app``: tasks run when they are submitted."""
    from tq.testing import inline

    yield from _told(request, inline(tq_app, seed=tq_seed))


@pytest.fixture
def tq_memory_broker(request: pytest.FixtureRequest, tq_app: Any, tq_seed: int) -> Iterator[MemoryBroker]:
    """``tq.testing.memory_broker`` with a worker for ``tq_app``, which submits to it."""
    from tq.testing import memory_broker

    for broker in _told(request, memory_broker(seed=tq_seed)):
        broker.run(tq_app)
        yield broker


@pytest.fixture
def tq_cluster(request: pytest.FixtureRequest, tq_app: Any, tq_seed: int) -> Iterator[Cluster]:
    """``tq.testing.cluster`` of three nodes with a worker for ``tq_app``, which submits to it."""
    from tq.testing import cluster

    for nodes in _told(request, cluster(seed=tq_seed)):
        nodes.run(tq_app)
        yield nodes


def _told(request: pytest.FixtureRequest, made: AbstractContextManager[S]) -> Iterator[S]:
    """What is made, with a line about it where the test fails, and without a second failure from its end."""
    failed = request.session.testsfailed
    with made as simulation:
        request.node.add_report_section("call", "tq", f"seed {simulation.seed}: override tq_seed to play another run")
        yield simulation
        if request.session.testsfailed > failed:
            simulation.check = False
