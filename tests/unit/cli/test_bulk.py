"""tq retry and tq purge: by id and by filter, with questions, dry runs and progress."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.fake import ID, NOW, FakeClient, run, task
from tq.client.models import Changed, Job
from tq.errors import InvalidState

OTHER = "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91"


def test_a_refused_change_exits_with_1() -> None:
    client = FakeClient(
        retry_many=[
            Changed(ID, "pending"),
            Changed(OTHER, "completed", InvalidState(f"{OTHER.replace('-', '')} is completed")),
        ]
    )
    result = run(client, "retry", ID, OTHER)
    assert result.exit_code == 1
    assert f"{OTHER}: {OTHER} is completed" in result.stderr
    assert result.stdout.splitlines() == ["id\tstate", f"{ID}\tpending"]


def test_with_an_id_that_is_none_nothing_is_changed() -> None:
    client = FakeClient()
    result = run(client, "retry", ID, "nonsense")
    assert result.exit_code == 2
    assert "'nonsense' is no id: write a UUID, or its first digits, at least 4" in result.stderr
    assert client.asked == []


@pytest.mark.parametrize("verb", ["retry", "purge"])
def test_by_filter_asks_first(verb: str) -> None:
    client = FakeClient(list_all=lambda **_fields: [task(state="dead")] * 3)
    args = [verb, "--state", "dead", "--queue", "mail", "--limit", "50"]
    alone = run(client, *args)
    assert alone.exit_code == 2
    assert "--yes" in alone.stderr
    assert client.asked == []
    assert run(client, *args, interactive=True, text="n\n").exit_code == 1
    assert {name for name, _args, _fields in client.asked} == {"list_all"}
    assert run(client, *args, interactive=True, text="y\n").exit_code == 0
    result = run(client, *args, "--yes")
    assert result.exit_code == 0
    assert "7 tasks" in result.stdout
    name, _args, fields = client.asked[-1]
    assert name == f"{verb}_where"
    assert (fields["state"], fields["queue"], fields["limit"]) == ("dead", "mail", 50)


def test_progress_goes_to_standard_error() -> None:
    def retry(progress: Any, **_fields: Any) -> Job:
        for done in (0, 500, 500, 900):
            progress(Job(ID, "retry", done, done, done == 900))
        return Job(ID, "retry", 900, 900, True)

    result = run(FakeClient(retry_where=retry), "retry", "--state", "dead", "--yes", "-o", "json")
    assert json.loads(result.stdout)["done"] == 900
    assert result.stderr == "retried 500 so far\n"


@pytest.mark.parametrize(("verb", "count"), [("retry", 1), ("purge", 2)])
def test_dry_run_changes_nothing(verb: str, count: int) -> None:
    client = FakeClient(list_all=[task(state="dead"), task(state="completed"), task(state="running")])
    result = run(client, verb, "--queue", "mail", "--dry-run", "-o", "json")
    assert json.loads(result.stdout)["count"] == count
    assert f"would {verb} {count}" in result.stderr
    run(client, verb, ID, "--dry-run")
    assert {name for name, _args, _fields in client.asked} == {"list_all", "get"}


def test_purge_by_id_asks_too() -> None:
    client = FakeClient()
    assert run(client, "purge", ID).exit_code == 2
    assert run(client, "purge", ID, "--yes").exit_code == 0


def test_the_question_says_how_many() -> None:
    client = FakeClient(list_all=lambda **_fields: [task(state="dead")] * 3 + [task(state="running")])
    args = ["--queue", "mail", "--since", "2h"]
    asked = run(client, "retry", *args, interactive=True, text="n\n")
    assert "Retry 3 tasks with queue mail, since 2h? [y/N]" in asked.stderr
    assert "nothing was done" in asked.stderr
    many = FakeClient(list_all=lambda **_fields: [task(state="dead")] * 10_001)
    assert "Purge more than 10,000 tasks with" in run(many, "purge", *args, interactive=True, text="n\n").stderr
    assert (
        "Purge the first 500 tasks with"
        in run(many, "purge", *args, "--limit", "500", interactive=True, text="n\n").stderr
    )


def test_where_nothing_matches_nothing_is_asked() -> None:
    result = run(FakeClient(list_all=[]), "retry", "--state", "dead", interactive=True)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no task with state dead can be retried\n"


def test_every_filter_reaches_the_job() -> None:
    client = FakeClient()
    run(
        client, "retry", "-s", "failed", "-t", "echo", "-q", "mail", "--tag", "x", "--id", "01", "--worker", "w", "--error", "E",
        "--since", "1h", "--until", "1m", "--ended-since", "1h", "--older-than", "5m", "--delay", "10m", "--yes",
    )  # fmt: skip
    _name, _args, fields = client.asked[0]
    del fields["progress"]
    assert fields == {
        "state": "failed", "type": "echo", "queue": "mail", "tag": "x", "id_prefix": "01", "worker": "w", "error": "E",
        "created_since": NOW - 3600, "created_until": NOW - 60, "ended_since": NOW - 3600, "ended_until": NOW - 300,
        "delay": 600.0, "limit": None,
    }  # fmt: skip


def test_ctrl_c_ends_the_waiting_and_says_that_the_work_goes_on() -> None:
    def purge(progress: Any, **_fields: Any) -> Job:
        progress(Job(ID, "purge", 1_500, 1_500, False))
        raise KeyboardInterrupt

    result = run(FakeClient(purge_where=purge), "purge", "--state", "completed", "--yes")
    assert result.exit_code == 130
    assert "the broker goes on: 1,500 purged so far" in result.stderr


def test_ctrl_c_before_an_answer_promises_nothing() -> None:
    result = run(FakeClient(retry_where=KeyboardInterrupt()), "retry", "--state", "dead", "--yes")
    assert result.exit_code == 130
    assert "it may have begun or not" in result.stderr


def test_progress_on_a_terminal_stays_on_its_line() -> None:
    def purge(progress: Any, **_fields: Any) -> Job:
        for done in (500, 900):
            progress(Job(ID, "purge", done, done, False))
        return Job(ID, "purge", 901, 901, True)

    result = run(FakeClient(purge_where=purge), "purge", "--state", "dead", "--yes", terminal=True, interactive=True)
    assert result.stderr == "\rpurged 500 so far\rpurged 900 so far\n"
    assert result.stdout == "purged 901 tasks\n"


@pytest.mark.parametrize(
    "args",
    [
        ["retry"], ["purge"], ["retry", ID, "--state", "dead"], ["purge", ID, "--since", "1h"], ["retry", ID, "--limit", "3"],
        ["retry", "--state", "dead", "--delay", "x", "--yes"], ["retry", "--older-than", "x", "--yes"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    client = FakeClient()
    assert run(client, *args).exit_code == 2
    assert client.asked == []
