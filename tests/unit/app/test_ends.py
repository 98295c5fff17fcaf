"""What the end of a task is called by who waits for its result."""

from __future__ import annotations

from typing import Any

import pytest

from tq import RemoteError
from tq.app.ends import outcome_error
from tq.client.models import TaskInfo
from tq.errors import TaskCancelled, TaskExpired, TaskFailed, TaskSkipped

TRACE = 'Traceback (most recent call last):\n  File "mail.py", line 3, in send\nValueError: no such mailbox\n'


def info(state: str, **fields: Any) -> TaskInfo:
    return TaskInfo(id="0192", type="mail.send", queue="default", state=state, priority=150, **fields)


def test_completed_is_no_error() -> None:
    assert outcome_error(info("completed")) is None


@pytest.mark.parametrize(
    ("state", "cls", "text"),
    [
        ("cancelled", TaskCancelled, "task 0192 (mail.send) was cancelled"),
        ("expired", TaskExpired, "task 0192 (mail.send) expired: it had not started in time"),
        ("skipped", TaskSkipped, "task 0192 (mail.send) was skipped"),
    ],
)
def test_other_ends(state: str, cls: type[Exception], text: str) -> None:
    error = outcome_error(info(state))
    assert type(error) is cls
    assert str(error) == text
    assert error.detail["state"] == state


def test_a_failure_shows_all_there_is() -> None:
    error = outcome_error(
        info("dead", attempt=5, crashes=1, reason="failed", error=("ValueError", "no such mailbox", TRACE))
    )
    assert isinstance(error, TaskFailed)
    text = str(error)
    assert text.startswith(
        "task 0192 (mail.send) failed, 5 attempts and 1 crash: failed\nValueError: no such mailbox\n"
    )
    assert '  File "mail.py", line 3, in send' in text
    assert error.detail == {
        "id": "0192", "type": "mail.send", "state": "dead", "reason": "failed",
        "error_type": "ValueError", "error_message": "no such mailbox", "traceback": TRACE,
    }  # fmt: skip
    remote = error.remote
    assert isinstance(remote, RemoteError)
    assert (remote.type, remote.message, remote.traceback, str(remote)) == (
        "ValueError", "no such mailbox", TRACE, "ValueError: no such mailbox",
    )  # fmt: skip


def test_a_failure_without_an_error() -> None:
    error = outcome_error(info("dead", attempt=1, reason="poison"))
    assert isinstance(error, TaskFailed)
    assert str(error) == "task 0192 (mail.send) failed, 1 attempt: its worker was lost again and again while it ran"
    assert error.remote is None
