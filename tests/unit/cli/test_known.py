"""What the shell completes, through its own machinery; and what is said of a queue that nobody has."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.cli.fake import APP, FakeClient, run, task
from tq.cli import known
from tq.cli.base import World
from tq.client.models import Page, QueueInfo, WorkerInfo
from tq.errors import BrokerUnavailable, ConfigError


def worker(name: str, types: tuple[str, ...], queues: tuple[str, ...]) -> WorkerInfo:
    return WorkerInfo(name, name, types, queues, 0, None, None, False, {}, {})


KNOWN: dict[str, Any] = {
    "queues": [QueueInfo("email"), QueueInfo("images"), QueueInfo("e mail")],
    "workers": [worker("w1", ("echo", "encode"), ("email", "evening")), worker("w2", ("report",), ("default",))],
    "list": Page([task(type="echo"), task(type="erase")], None),
}


def completed(typed: str, client: FakeClient) -> list[str]:
    """As bash asks for it."""

    def connect(brokers: str | None, timeout: float) -> FakeClient:
        client.where = (brokers, timeout)
        return client

    environ = {"_TQ_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    result = CliRunner().invoke(APP, [], env=environ, obj=World(client=connect), catch_exceptions=False)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("tq list --queue ", "default email evening images"),
        ("tq list --queue e", "email evening"),
        ("tq list --queue x", ""),
        ("tq purge -q im", "images"),
        ("tq events --queue im", "images"),
        ("tq submit --queue im", "images"),
        ("tq submit --type e", "echo encode erase"),
        ("tq list --type r", "report"),
        ("tq retry --worker w", "w1 w2"),
        ("tq queues pause e", "email evening"),
        ("tq queues resume i", "images"),
        ("tq queues set i", "images"),
        ("tq worker m:app --queues email,i", "email,images"),
        ("tq worker m:app --queues email,e", "email,evening"),
        ("tq cluster transfer ", "n1"),
        ("tq broker --log-level w", "warning"),
        ("tq worker m --log-format j", "json"),
        ("tq broker --config n1", ""),
        ("tq config show --config n1", ""),
    ],
)
def test_names_are_completed(typed: str, found: str) -> None:
    assert completed(typed, FakeClient(**KNOWN)) == found.split()


def test_the_brokers_of_the_line_are_asked_and_not_for_long() -> None:
    client = FakeClient(**KNOWN)
    assert completed("tq list --brokers 127.0.0.1:7 --queue im", client) == ["images"]
    assert client.where == ("127.0.0.1:7", known.COMPLETION_S)
    assert known.COMPLETION_S <= 0.5  # two requests


@pytest.mark.parametrize("error", [BrokerUnavailable("none answers"), ConfigError("no address")])
def test_without_a_broker_nothing_is_offered_and_nothing_said(error: Exception) -> None:
    assert completed("tq queues pause e", FakeClient(queues=error)) == []


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ("email", ""),
        ("evening", ""),
        ("default", ""),
        ("emial", "queue 'emial' has no tasks, no settings and no worker; did you mean 'email'?"),
        ("nights", "queue 'nights' has no tasks, no settings and no worker"),
    ],
)
def test_a_queue_that_nobody_has(queue: str, said: str) -> None:
    assert known.doubt(FakeClient(**KNOWN), queue) == said


def test_the_default_queue_is_never_in_doubt() -> None:
    assert known.doubt(FakeClient(queues=[], workers=[]), "default") == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["queues", "pause", "emial"], "it is paused all the same"),
        (["queues", "set", "emial", "--max-length", "5"], "it is set all the same"),
        (["queues", "resume", "emial"], "nothing was done"),
    ],
)
def test_a_slip_in_a_name_is_said_and_done_all_the_same(args: list[str], said: str) -> None:
    result = run(FakeClient(**KNOWN), *args)
    assert result.exit_code == 0
    assert result.stderr == f"queue 'emial' has no tasks, no settings and no worker: {said}; did you mean 'email'?\n"
    args[2] = "email"
    assert run(FakeClient(**KNOWN), *args).stderr == ""


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "-o", "json"],
        ["retry", "--yes"],
        ["purge", "--yes", "-o", "json"],
        ["purge", "--dry-run"],
    ],
)
def test_a_filter_that_finds_nothing_says_that_nobody_has_the_queue(args: list[str]) -> None:
    from tests.unit.cli.fake import ID
    from tq.client.models import Job

    none = Job(ID, "retry", 0, 0, True)
    nothing = {**KNOWN, "list": Page([], None), "list_all": [], "retry_where": none, "purge_where": none}
    text = "queue 'emial' has no tasks, no settings and no worker; did you mean 'email'?\n"
    assert run(FakeClient(**nothing), *args, "--queue", "emial").stderr.endswith(text)
    assert text not in run(FakeClient(**nothing), *args, "--queue", "email").stderr


@pytest.mark.parametrize(
    ("type", "queue", "said"),
    [
        ("count", "default", "workers run tasks.count: did you mean that?"),  # the module is left out
        ("tasks.cuont", "default", "workers run tasks.count: did you mean that?"),
        ("tasks.count", "defualt", "workers that run tasks.count take it from queue default, mail"),
        ("quite.another", "default", ""),
    ],
)
def test_of_a_task_that_no_worker_takes_it_is_said_what_they_take(type: str, queue: str, said: str) -> None:
    workers = [worker("w1", ("tasks.count", "tasks.fetch"), ("mail",)), worker("w2", ("tasks.count",), ("default",))]
    assert known.near_work(FakeClient(workers=workers), type, queue) == said
