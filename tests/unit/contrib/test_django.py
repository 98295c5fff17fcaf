"""Transactions of a real Django, on SQLite."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

from tq.app.app import App
from tq.errors import InvalidRequest
from tq.testing import MemoryBroker, memory_broker

FILES = [Path(tempfile.gettempdir()) / f"tq-django-{os.getpid()}-{number}.db" for number in range(2)]
DATABASES = [{"ENGINE": "django.db.backends.sqlite3", "NAME": str(file), "CONN_MAX_AGE": 0} for file in FILES]
settings.configure(DATABASES=dict(zip(("default", "other"), DATABASES, strict=True)), USE_TZ=True)
django.setup()

from django.db import connection, transaction  # noqa: E402 - Django wants its settings first

from tq.contrib.django import Connections, on_commit  # noqa: E402

app = App(worker_middleware=[Connections()])


@app.task
def greet(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return f"Hello {name}"


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    with memory_broker() as broker:
        broker.use(app)
        yield broker
    connection.close()
    for file in FILES:
        file.unlink(missing_ok=True)


def submitted(broker: MemoryBroker) -> list[Any]:
    return broker.client.list().tasks


def test_it_is_submitted_when_the_transaction_is_committed(broker: MemoryBroker) -> None:
    with transaction.atomic():
        on_commit(greet).submit("Ada")
        assert submitted(broker) == []
    (task,) = submitted(broker)
    broker.worker(app)
    assert app.handle(task.id).result(timeout=10) == "Hello Ada"


def test_and_never_if_it_is_rolled_back(broker: MemoryBroker) -> None:
    def fail() -> None:
        with transaction.atomic():
            on_commit(greet).submit("Ada")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert submitted(broker) == []


def test_without_a_transaction_at_once_and_with_options(broker: MemoryBroker) -> None:
    on_commit(greet.options(queue="mail", idempotency_key="greet:1"), using="other").submit(name="Ada")
    on_commit(greet.options(queue="mail", idempotency_key="greet:1")).submit(name="Ada")
    (task,) = submitted(broker)
    assert task.queue == "mail"


def test_arguments_are_those_of_the_moment_and_are_checked_in_the_transaction(broker: MemoryBroker) -> None:
    with transaction.atomic():
        with pytest.raises(InvalidRequest, match="argument 'name'"):
            on_commit(greet).submit(5)  # type: ignore[arg-type]
        on_commit(greet).submit("Ada")
    assert len(submitted(broker)) == 1


def test_a_worker_gives_no_old_connection_to_the_next_attempt(broker: MemoryBroker) -> None:
    seen: list[Any] = []

    @app.task(name="look")
    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        seen.append(connection.connection)

    broker.worker(app)
    for _ in range(2):
        look.submit().result(timeout=10)
        assert connection.connection is None, "CONN_MAX_AGE is 0"
    assert len(set(map(id, seen))) == 2
