"""What one can do with a task that was submitted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.app.rig import Worker, failed
from tq import App, NotFound, RemoteError, Retry, TaskCancelled, TaskExpired, TaskFailed, TaskHandle, WaitTimeout
from tq.client.models import Submitted, TaskInfo
from tq.errors import InvalidRequest, InvalidState


def fails(word: str) -> int:
    raise ValueError(f"no such {word}")


def works(n: int) -> list[int]:
    return list(range(n))


def test_a_failure_arrives_with_its_traceback(app: App, worker: Worker) -> None:
    handle = app.task(retry=Retry(max_attempts=1))(fails).submit("mailbox")
    worker.run()
    with pytest.raises(TaskFailed) as caught:
        handle.result(5)
    text = str(caught.value)
    assert "failed, 1 attempt" in text
    assert "ValueError: no such mailbox" in text
    assert 'raise ValueError(f"no such {word}")' in text
    assert "tq/app/definition.py" not in text  # what stands between the worker and the function is of no use to anybody
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.type, cause.message) == ("ValueError", "no such mailbox")
    assert caught.value.detail["id"] == handle.id
    assert handle.retry() == "pending"
    with pytest.raises(InvalidState):
        handle.retry()


def test_not_yet(app: App) -> None:
    handle = app.task(works).submit(3)
    with pytest.raises(WaitTimeout, match="pending"):
        handle.result(0)
    assert handle.explain().why.startswith("pending")


def test_cancel(app: App, worker: Worker) -> None:
    handle = app.task(works).submit(3)
    assert handle.cancel() == "cancelled"
    assert handle.cancel(wait=5) == "cancelled"
    with pytest.raises(TaskCancelled, match=handle.id):
        handle.result(5)
    assert handle.status().state == "cancelled"
    assert worker.run() == []


def test_come_back_later(app: App, worker: Worker) -> None:
    task = app.task(works)
    id = task.submit(3).id
    bytes_task = app.client.submit("elsewhere", b"", id="0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90")
    worker.run()
    assert app.handle(id).result(5) == [0, 1, 2]
    assert app.handle(id).outcome == ""
    assert task.handle(id) == app.handle(id)
    assert repr(app.handle(id)) == f"<TaskHandle {id}>"
    assert repr(task.submit(1)).endswith(" created>")
    with pytest.raises(WaitTimeout):
        app.handle(bytes_task.id).result(0)
    with pytest.raises(InvalidRequest, match="id is 'x': must be a UUID"):
        app.handle("x")
    with pytest.raises(NotFound):
        app.handle("0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c99").result(5)


def handle_of(app: App, **fields: Any) -> tuple[TaskHandle[Any], TaskInfo]:
    info = TaskInfo(id="x", type="t", queue="default", priority=1, **fields)
    return app.handle(bytes(16)), info


def test_a_result_that_is_gone(app: App) -> None:
    handle, info = handle_of(app, state="completed", result=None)
    with pytest.raises(NotFound, match="its result was kept for its result_ttl only"):
        handle._result_of(info)


def test_ends_without_a_result(app: App) -> None:
    handle, info = handle_of(app, state="expired")
    with pytest.raises(TaskExpired):
        handle._result_of(info)


def test_results_of_tasks_that_this_app_does_not_have(app: App) -> None:
    for content_type, data, value in (
        ("application/json", b"[1]", [1]), ("application/octet-stream", b"\xff", b"\xff"), ("", b"", None),
    ):  # fmt: skip
        handle, info = handle_of(app, state="completed", result=data, result_content_type=content_type)
        assert handle._result_of(info) == value


def test_a_refused_item_of_a_batch_has_no_task(app: App) -> None:
    error = InvalidRequest("no")
    handle: TaskHandle[Any] = TaskHandle(app, Submitted(bytes(16), "invalid", None, error), lambda info: info)
    assert handle.error is error
    for do in (handle.result, handle.status, handle.cancel, handle.retry, handle.explain, handle.events):
        with pytest.raises(InvalidRequest, match="no"):
            do()


def test_the_errors_of_handlers_name_them(app: App, worker: Worker) -> None:
    app.task(name="t", give_up_on=ValueError)(fails).submit("x")
    (said,) = worker.run()
    assert failed(said) == ("ValueError", "no such x", True)
