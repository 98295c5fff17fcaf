"""The commands about tasks: what they ask of the client, what they print where, and how they exit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.fake import ID, RAW, FakeClient, FakeEvents, run, task
from tq.client.models import Attempt, Changed, Submitted, TaskEvent
from tq.client.specs import Retry
from tq.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidRequest,
    InvalidState,
    NotFound,
    PermissionDenied,
    QueueFull,
    WaitTimeout,
)

# ---- submit ----------------------------------------------------------------------------------------


def test_submit_prints_the_id_alone() -> None:
    client = FakeClient()
    result = run(client, "submit", "--type", "echo", "--payload", "hello", "--brokers", "b:1", "--timeout", "5")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{ID}\n", "")
    ((name, args, fields),) = client.asked
    assert (name, args) == ("submit", ("echo", b"hello"))
    assert fields == {"queue": "default", "tags": [], "headers": {}}
    assert client.where == ("b:1", 5.0)


def test_submit_hands_on_every_option() -> None:
    client = FakeClient()
    result = run(
        client, "submit", "-t", "echo", "--queue", "mail", "--priority", "7", "--delay", "1.5", "--expires-in", "9",
        "--attempt-timeout", "3", "--deadline", "60", "--max-attempts", "2", "--unique", "u", "--idempotency-key", "k",
        "--tag", "a", "--tag", "b", "--header", "n=v=w", "--content-type", "text/plain", "--id", ID,
    )  # fmt: skip
    assert result.exit_code == 0
    assert client.asked[0][2] == {
        "queue": "mail", "priority": 7, "delay": 1.5, "expires_in": 9.0, "timeout": 3.0, "deadline": 60.0,
        "retry": Retry(max_attempts=2), "unique": "u", "idempotency_key": "k", "tags": ["a", "b"],
        "headers": {"n": "v=w"}, "content_type": "text/plain", "id": ID,
    }  # fmt: skip


def test_payloads_from_files_and_pipes(tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b"\x00\xff")
    client = FakeClient()
    run(client, "submit", "-t", "echo", "-p", f"@{file}")
    run(client, "submit", "-t", "echo", "-p", "-", text="piped")
    assert [args[1] for _name, args, _fields in client.asked] == [b"\x00\xff", b"piped"]
    result = run(client, "submit", "-t", "echo", "-p", f"@{tmp_path}/missing")
    assert result.exit_code == 1
    assert "cannot read the payload" in result.stderr


def test_wait_prints_the_result_alone() -> None:
    client = FakeClient()
    result = run(client, "submit", "-t", "echo", "--wait", "--wait-timeout", "9")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "done", "")
    assert client.asked[1] == ("wait", (ID, 9.0), {})


def test_wait_for_a_task_that_dies_exits_with_1_and_says_why() -> None:
    dead = task(state="dead", reason="attempts", error=("ValueError", "bad address", "Traceback ..."))
    result = run(FakeClient(wait=dead), "submit", "-t", "echo", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"task {ID} is dead (attempts): ValueError: bad address" in result.stderr
    result = run(FakeClient(wait=dead), "submit", "-t", "echo", "--wait", "--output", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["state"] == "dead"


def test_a_duplicate_is_told_beside_the_answer() -> None:
    client = FakeClient(submit=Submitted(RAW, "duplicate", "running"))
    result = run(client, "submit", "-t", "echo")
    assert (result.exit_code, result.stdout) == (0, f"{ID}\n")
    assert "duplicate" in result.stderr
    assert json.loads(run(client, "submit", "-t", "echo", "-o", "json").stdout) == {
        "id": ID,
        "outcome": "duplicate",
        "state": "running",
        "error": None,
    }


# ---- errors and exit codes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Conflict("the id is taken"), 1, "taken"),
        (InvalidRequest.of("priority", 999, "must be 0 to 255"), 1, "priority is 999"),
        (QueueFull("full", retry_after=2.5), 1, "Try again in 2.5 s"),
        (WaitTimeout("has not ended"), 1, "tq explain"),
        (BrokerUnavailable("cannot reach b:1", detail={"sent": False}), 3, "Is a broker running?"),
        (BrokerUnavailable("no answer", detail={"sent": True}), 3, "no answer"),
        (PermissionDenied("not yours"), 4, "not yours"),
        (InvalidRequest.of("brokers", "x:y", 'write "host:port"'), 2, "host:port"),
    ],
)
def test_errors_have_their_exit_code_and_say_what_to_do(error: Exception, code: int, says: str) -> None:
    result = run(FakeClient(submit=error), "submit", "-t", "echo", "--output", "json")
    assert result.exit_code == code
    assert result.stdout == ""
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["submit"],
        ["nonsense"],
        ["submit", "-t", "echo", "--output", "xml"],
        ["submit", "-t", "echo", "--header", "no-equals"],
        ["events", "--after", "x"],
        ["retry"],
        ["purge"],
        ["retry", ID, "--state", "dead"],
    ],
)
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    client = FakeClient()
    result = run(client, *args)
    assert result.exit_code == 2
    assert client.asked == []


def test_interrupt_exits_with_130() -> None:
    assert run(FakeClient(get=KeyboardInterrupt()), "status", ID).exit_code == 130


# ---- status and list -------------------------------------------------------------------------------


def test_status_for_people() -> None:
    failed = Attempt("failed", 1, 2048, 1.0, 2.0, "w1", ("ValueError", "bad", "Traceback (most recent call last)"))
    info = task(state="running", attempt=2, fence=4096, worker="w2", started_at=3.25, payload=b"hi", history=(failed,))
    result = run(FakeClient(get=info), "status", ID, terminal=True)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert f"id {ID}" in lines
    assert "started_at 1970-01-01T00:00:03.250Z" in lines
    assert "payload hi" in lines
    assert any("past attempt outcome failed" in line and "worker w1" in line for line in lines)
    assert "ValueError: bad" in lines
    assert "Traceback" not in result.stdout
    assert "Traceback (most" in run(FakeClient(get=info), "status", ID, "-v").stdout


def test_status_for_programs() -> None:
    info = task(fence=4096, payload=b"\xff", result=b"text", error=("E", "m", "t"))
    result = run(FakeClient(get=info), "status", ID, "--output", "json")
    shown = json.loads(result.stdout)
    assert (shown["id"], shown["fence"], shown["created_at"]) == (ID, "4096", 1.5)
    assert (shown["payload"], shown["result"]) == ({"base64": "/w=="}, {"text": "text"})
    assert yaml.safe_load(run(FakeClient(get=info), "status", ID, "-o", "yaml").stdout) == shown


def test_status_of_a_purged_task() -> None:
    client = FakeClient(get=NotFound("no such task", detail={"purged": True}))
    result = run(client, "status", ID)
    assert result.exit_code == 1
    assert "purged" in result.stderr


def event(index: int, kind: str = "started") -> TaskEvent:
    return TaskEvent(index, 0, kind, ID, 1.5, "default", "echo", 7)


def test_watch_prints_changes_until_the_end() -> None:
    infos = iter([task(index=9), task(state="running", index=10), task(state="completed", index=12)])
    client = FakeClient(
        get=lambda *_args, **_kwargs: next(infos), events=FakeEvents([event(9), event(10), event(12), event(13)])
    )
    result = run(client, "status", ID, "--watch", "--output", "json")
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["pending", "running", "completed"]
    # Subscribed before the first look, so that nothing falls between; what that look saw is not asked again.
    assert [name for name, _args, _fields in client.asked] == ["events", "get", "get", "get"]
    assert client.asked[2][2] == {"min_index": 10}


def test_watch_of_an_ended_task_does_not_wait() -> None:
    client = FakeClient(get=task(state="dead"), events=FakeEvents([event(99)]))
    assert "dead" in run(client, "status", ID, "--watch").stdout


def test_list_is_tsv_in_a_pipe_and_a_table_on_a_terminal() -> None:
    client = FakeClient(list_all=[task(reason="a\tb\nc")])
    result = run(client, "list", "--state", "dead", "--queue", "mail", "--type", "t", "--tag", "x", "--older-than", "9")
    header, line = result.stdout.splitlines()
    assert header.split("\t")[:3] == ["id", "type", "queue"]
    assert line.split("\t")[0] == ID
    assert line.split("\t")[-1] == "a b c"
    expected = {"state": "dead", "queue": "mail", "type": "t", "tag": "x", "older_than": 9.0}
    assert client.asked[0][2] == {"limit": 100, "timeout": 30.0, **expected}
    on_terminal = run(client, "list", terminal=True).stdout
    assert "\t" not in on_terminal
    assert ID[:8] in on_terminal


def test_list_in_json_is_one_document() -> None:
    shown = json.loads(run(FakeClient(), "list", "-o", "json").stdout)
    assert [row["id"] for row in shown] == [ID]


# ---- changes ---------------------------------------------------------------------------------------


def test_cancel_by_id_and_wait() -> None:
    client = FakeClient(cancel_many=[Changed(ID, "cancelling")], wait=task(state="cancelled"))
    result = run(client, "cancel", ID, "--grace", "2", "--wait", "5")
    assert result.stdout.splitlines()[1] == f"{ID}\tcancelled"
    assert client.asked == [("cancel_many", ([ID],), {"grace": 2.0}), ("wait", (ID, 5.0), {})]


def test_a_refused_change_exits_with_1() -> None:
    client = FakeClient(retry_many=[Changed(ID, "pending"), Changed("x", "completed", InvalidState("it is completed"))])
    result = run(client, "retry", ID, "x")
    assert result.exit_code == 1
    assert "x: it is completed" in result.stderr
    assert result.stdout.splitlines() == ["id\tstate", f"{ID}\tpending"]


@pytest.mark.parametrize("verb", ["retry", "purge"])
def test_by_filter_asks_first(verb: str) -> None:
    client = FakeClient()
    args = [verb, "--state", "dead", "--queue", "mail", "--limit", "50"]
    alone = run(client, *args)
    assert alone.exit_code == 2
    assert "--yes" in alone.stderr
    assert run(client, *args, interactive=True, text="n\n").exit_code == 1
    assert client.asked == []
    assert run(client, *args, interactive=True, text="y\n").exit_code == 0
    result = run(client, *args, "--yes")
    assert result.exit_code == 0
    assert "7 tasks" in result.stdout
    name, _args, fields = client.asked[-1]
    assert name == f"{verb}_where"
    assert (fields["state"], fields["queue"], fields["limit"]) == ("dead", "mail", 50)


def test_progress_goes_to_standard_error() -> None:
    from tq.client.models import Job

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


# ---- looking ---------------------------------------------------------------------------------------


def test_explain() -> None:
    assert run(FakeClient(), "explain", ID).stdout == "pending: first in line\n"
    shown = json.loads(run(FakeClient(), "explain", ID, "-o", "json").stdout)
    assert shown == {"why": "pending: first in line", "facts": {"ahead": 0}}


def test_events_are_a_line_each() -> None:
    client = FakeClient(events=FakeEvents([event(9), event(10, "completed"), event(11)]))
    result = run(client, "events", "--after", "8.3", "--limit", "2", "-o", "json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["kind"], row["fence"]) for row in rows] == [("started", "7"), ("completed", "7")]
    assert client.asked[0] == ("events", (None,), {"after": (8, 3)})
    assert "9.0\tstarted" in run(client, "events").stdout
