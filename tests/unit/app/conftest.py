from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.app.rig import Worker, broker
from tq import App


@pytest.fixture
def app() -> Iterator[App]:
    with broker() as fake, App(fake.address) as app:
        yield app


@pytest.fixture
def worker(app: App) -> Worker:
    return Worker(app)
