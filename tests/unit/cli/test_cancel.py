"""tq cancel: by id and by filter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.cli.fake import ID, FakeClient, run, task
from tq.client.models import Changed, TaskInfo
from tq.errors import InvalidState, NotFound

FILTER = ["--queue", "mail", "--yes"]


def some(count: int, **fields: Any) -> list[TaskInfo]:
    return [task(id=f"{number:032x}", **fields) for number in range(count)]


def cancels(ids: Sequence[str], **_fields: Any) -> list[Changed]:
    return [Changed(id, "cancelled") for id in ids]


def test_by_id_and_wait() -> None:
    client = FakeClient(cancel_many=[Changed(ID, "cancelling")], wait=task(state="cancelled"))
    result = run(client, "cancel", ID, "--grace", "2s", "--wait", "5")
    assert result.stdout.splitlines()[1] == f"{ID}\tcancelled"
    assert client.asked == [("cancel_many", ([ID],), {"grace": 2.0}), ("wait", (ID, 5.0), {})]


def test_a_refused_cancel_by_id_exits_with_1() -> None:
    result = run(FakeClient(cancel_many=[Changed(ID, "", NotFound("it is unknown"))]), "cancel", ID)
    assert (result.exit_code, result.stderr) == (1, f"tq: {ID}: it is unknown\n")


def test_by_filter_a_batch_at_a_time() -> None:
    client = FakeClient(list_all=some(2_500), cancel_many=cancels)
    result = run(client, "cancel", *FILTER, "--grace", "2s")
    assert (result.exit_code, result.stdout) == (0, "cancelled 2,500 tasks\n")
    assert result.stderr == "cancelled 1,000 so far\ncancelled 2,000 so far\n"
    assert client.asked[0] == ("list_all", (), {"state": "live", "queue": "mail"})
    assert [len(args[0]) for name, args, _fields in client.asked if name == "cancel_many"] == [1_000, 1_000, 500]
    assert client.asked[-1][2] == {"grace": 2.0}


def test_a_filter_asks_first_and_says_how_many() -> None:
    client = FakeClient(list_all=some(3) + some(2, state="dead"))
    alone = run(client, "cancel", "--queue", "mail")
    assert (alone.exit_code, client.asked) == (2, [])
    assert "Cancel all live tasks with queue mail? Say --yes" in alone.stderr
    asked = run(client, "cancel", "--queue", "mail", interactive=True, text="n\n")
    assert asked.exit_code == 1
    assert "Cancel 3 tasks with queue mail? [y/N]" in asked.stderr
    dry = run(client, "cancel", "--queue", "mail", "--dry-run", "-o", "json")
    assert json.loads(dry.stdout)["count"] == 3
    assert {name for name, _args, _fields in client.asked} == {"list_all"}


def test_what_became_of_them_is_told_apart() -> None:
    changed = [
        Changed(ID, "cancelled"), Changed(ID, "cancelling"), Changed(ID, "completed"), Changed(ID, "", InvalidState("no")),
    ]  # fmt: skip
    result = run(FakeClient(list_all=some(4), cancel_many=changed), "cancel", *FILTER)
    assert result.exit_code == 1
    assert result.stdout == "cancelled 1 task, told 1 task to stop, 1 task had ended before\n"
    assert result.stderr == f"tq: {ID}: no\n"
    result = run(FakeClient(list_all=some(4), cancel_many=changed), "cancel", *FILTER, "-o", "json")
    assert json.loads(result.stdout) == {"cancelled": 1, "told": 1, "late": 1, "failed": 1}


def test_no_more_than_the_limit() -> None:
    client = FakeClient(list_all=some(50), cancel_many=cancels)
    assert run(client, "cancel", *FILTER, "--limit", "7").stdout == "cancelled 7 tasks\n"


def test_ended_tasks_are_left_alone() -> None:
    client = FakeClient(list_all=some(3, state="dead"))
    result = run(client, "cancel", "--state", "dead", "--yes")
    assert (result.exit_code, result.stdout) == (0, "cancelled 0 tasks\n")
    assert client.asked == [("list_all", (), {"state": "dead"})]


def test_ctrl_c_says_how_far_it_came() -> None:
    answers: list[Any] = [cancels]

    def cancel_many(ids: Sequence[str], **fields: Any) -> list[Changed]:
        if answers:
            return list(answers.pop()(ids, **fields))
        raise KeyboardInterrupt

    result = run(FakeClient(list_all=some(1_500), cancel_many=cancel_many), "cancel", *FILTER)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "stopped: cancelled 1,000 tasks, and perhaps the next 1,000; the others are as they were" in result.stderr


@pytest.mark.parametrize(
    "args", [[], [ID, "--state", "pending"], [ID, "--limit", "3"], ["--queue", "mail", "--wait", "3s"]]
)
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    client = FakeClient()
    assert run(client, "cancel", *args).exit_code == 2
    assert client.asked == []
