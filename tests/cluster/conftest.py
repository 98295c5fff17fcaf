"""Real processes: every test gets a ground of its own, whose processes end with it; a failed test shows their logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tq.bench.processes import Ground


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with Ground("tq-test-") as ground:
        failed_before = request.session.testsfailed
        yield ground
        if request.session.testsfailed > failed_before:
            for process in ground.processes:
                print(process.tail())
