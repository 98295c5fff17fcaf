from __future__ import annotations

from collections.abc import Iterator

import pytest
from shop import bank, tasks

from tq import App


@pytest.fixture
def tq_app() -> App:
    """The tq_... fixtures are made for this app."""
    return tasks.app


@pytest.fixture(autouse=True)
def a_new_day(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bank, "BANK", bank.Bank())
    yield
    tasks.MAIL.clear()
