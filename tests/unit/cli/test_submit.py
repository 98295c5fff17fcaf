"""tq submit, and what all commands do with errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.fake import FACTS, ID, NOW, RAW, FakeClient, run, task
from tq.client.models import Explanation, Submitted
from tq.client.specs import Retry
from tq.errors import (
    ERRORS,
    BatchRefused,
    BrokerUnavailable,
    Conflict,
    InvalidRequest,
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
        client, "submit", "-t", "echo", "--queue", "mail", "--priority", "7", "--delay", "1.5", "--expires-in", "9s",
        "--attempt-timeout", "3", "--deadline", "1m", "--result-ttl", "2h", "--not-before", "10m", "--max-attempts", "2", "--unique", "u", "--idempotency-key", "k",
        "--tag", "a", "--tag", "b", "--header", "n=v=w", "--content-type", "text/plain", "--id", ID,
    )  # fmt: skip
    assert result.exit_code == 0
    assert client.asked[0][2] == {
        "queue": "mail", "priority": 7, "delay": 1.5, "expires_in": 9.0, "timeout": 3.0, "deadline": 60.0,
        "result_ttl": 7200.0, "not_before": NOW + 600,
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
    assert client.asked[1] == ("wait", (ID, 3.0), {})
    client = FakeClient()
    run(client, "submit", "-t", "echo", "--wait-timeout", "2")
    assert client.asked[1] == ("wait", (ID, 2.0), {})


def test_who_waits_for_long_is_told_why() -> None:
    def wait(_id: str, timeout: float | None) -> object:
        if timeout == 3.0:
            raise WaitTimeout("not yet")
        return task(state="completed", result=b"done")

    client = FakeClient(wait=wait, explain=Explanation("pending: no worker is connected", FACTS))
    result = run(client, "submit", "-t", "echo", "--wait")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "done", "pending: no worker is connected\n")
    assert client.asked[-1] == ("wait", (ID, None), {})
    run(client, "submit", "-t", "echo", "--wait-timeout", "9")
    assert client.asked[-1] == ("wait", (ID, 6.0), {})


def test_who_waits_for_a_slip_in_a_name_is_told_the_near_one() -> None:
    facts = {**FACTS, "type": "ecoh", "has_worker": False}
    client = FakeClient(wait=WaitTimeout("not yet"), explain=Explanation("pending: no worker is connected", facts))
    result = run(client, "submit", "-t", "ecoh", "--wait-timeout", "9")
    assert result.stderr.splitlines()[:2] == [
        "pending: no worker is connected", "workers run echo: did you mean that?",
    ]  # fmt: skip


def test_ctrl_c_before_an_answer_says_whether_a_repeat_is_safe() -> None:
    for args, says in (
        ([], "with --id or --idempotency-key a repeat is safe"),
        (["--id", ID], "the same command is safe"),
    ):
        result = run(FakeClient(submit=KeyboardInterrupt()), "submit", "-t", "echo", *args)
        assert (result.exit_code, result.stdout) == (130, "")
        assert f"it may be submitted or not; {says}" in result.stderr


def test_ctrl_c_names_the_task_that_goes_on() -> None:
    result = run(FakeClient(wait=KeyboardInterrupt()), "submit", "-t", "echo", "--wait")
    assert (result.exit_code, result.stdout) == (130, "")
    assert f"task {ID} goes on: tq status {ID} --watch" in result.stderr


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
        (BrokerUnavailable("cannot reach b:1", detail={"sent": False}), 3, "tq dev"),
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


EXIT_CODES = {
    "UNAVAILABLE": 3, "NOT_LEADER": 3, "UNAUTHENTICATED": 4, "PERMISSION_DENIED": 4, "CONFIG": 2,
}  # fmt: skip
"""All others: 1."""


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_each_error_there_is_has_its_exit_code(code: str) -> None:
    error = ERRORS[code]("it is wrong")
    result = run(FakeClient(submit=error), "submit", "-t", "echo")
    assert (result.exit_code, result.stdout) == (EXIT_CODES.get(code, 1), "")
    assert result.stderr.startswith("tq: it is wrong")


def test_a_refused_batch_names_its_tasks() -> None:
    error = BatchRefused("the batch was refused", items=[Submitted(RAW, "conflict", None)])
    assert f"{ID} conflict" in run(FakeClient(submit=error), "submit", "-t", "echo").stderr


@pytest.mark.parametrize(
    "args",
    [
        ["submit"],
        ["submit", "-t", "echo", "--output", "xml"],
        ["submit", "-t", "echo", "--header", "no-equals"],
        ["submit", "-t", "echo", "--delay", "soon"],
        ["submit", "-t", "echo", "--not-before", "tomorrow"],
        ["submit", "-t", "echo", "--priority", "high"],
        ["submit", "-t", "echo", "--no-such-option"],
        ["submit", "-t", "echo", "stray"],
    ],
)
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    client = FakeClient()
    result = run(client, *args)
    assert result.exit_code == 2
    assert client.asked == []


def test_a_purged_task_is_told_from_one_that_never_was() -> None:
    client = FakeClient(get=NotFound("no such task", detail={"purged": True}))
    assert "was purged" in run(client, "status", ID).stderr


def test_interrupt_exits_with_130() -> None:
    assert run(FakeClient(get=KeyboardInterrupt()), "status", ID).exit_code == 130
