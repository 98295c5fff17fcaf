"""How a worker is told what to do."""

from __future__ import annotations

import os

import pytest

from tq.worker import run
from tq.worker.handlers import Handlers, Loaded


def test_names_are_of_host_process_and_chance() -> None:
    name = run.new_name("c0ffee00")
    assert name.endswith(f"-{os.getpid()}-c0ffee00")
    assert len(name) <= 128


class AnApp:
    def __init__(self, brokers: str | None) -> None:
        self.brokers = brokers


@pytest.mark.parametrize(
    ("of_app", "are_said", "there"),
    [(None, False, "told:1"), (None, True, "told:1"), ("app:1", False, "app:1"), ("app:1", True, "told:1")],
)
def test_a_worker_and_what_its_handlers_submit_go_to_the_same_brokers(
    of_app: str | None, are_said: bool, there: str
) -> None:
    """Those of the command line go before those of the app, and those before the environment's."""
    app = AnApp(of_app)
    options = run.Options("m", "told:1", 1, ["q"], None, 1.0, "info", "text", are_brokers_said=are_said)
    assert run._brokers(options, Loaded(Handlers(), app=app)) == there
    assert app.brokers == there
    assert run._brokers(options, Loaded(Handlers())) == "told:1"


def test_without_a_word_a_worker_takes_the_queues_of_its_app() -> None:
    class Shop:
        queues = ("mail", "payments")

    assert run.queues_of(Shop()) == ["mail", "payments"]
    assert run.queues_of(AnApp(None)) == ["default"]
    assert run.queues_of(None) == ["default"]
