"""A task keeps its function's signature; what is submitted is what was said, at the declaration and at the call."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import trio

from tests.unit.app.rig import Worker
from tests.unit.app.shapes import Item
from tq import App, BatchRefused, Priority, Retry, TaskSpec, Unique
from tq.errors import Conflict, InvalidRequest


def send(to: str, body: str = "hi", *, cc: list[str] = []) -> int:  # noqa: B006 - as users write it
    """Send a mail."""
    return len(to + body) + len(cc)


async def fetch(url: str) -> dict[str, int]:
    return {url: len(url)}


def test_it_looks_and_acts_like_its_function(app: App) -> None:
    task = app.task(send)
    assert (task.__name__, task.__doc__, task.__wrapped__) == ("send", "Send a mail.", send)
    assert inspect.signature(task) == inspect.signature(send)
    assert task("a", body="b") == 2
    assert task.name == f"{__name__}.send"
    assert repr(task) == f"<Task {__name__}.send>"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        task()  # type: ignore[call-arg]
    again = app.task(name="fetch")(fetch)
    assert trio.run(again, "abc") == {"abc": 3}
    assert inspect.iscoroutinefunction(again.function)


def test_the_whole_way(app: App, worker: Worker) -> None:
    task = app.task(send)
    handle = task.submit("a@b", cc=["x"])
    assert (handle.outcome, handle.status().state) == ("created", "pending")
    info = app.client.get(handle.id)
    assert (info.type, info.payload, info.content_type) == (task.name, b'{"to":"a@b","cc":["x"]}', "application/json")
    worker.run()
    assert handle.result(5) == 6
    assert task.handle(handle.id).result(5) == 6
    info = app.client.get(handle.id)
    assert (info.result, info.result_content_type) == (b"6", "application/json")


def test_options_of_the_declaration_and_of_the_submit(app: App) -> None:
    declared = app.task(
        queue="mail",
        priority=Priority.HIGH,
        retry=Retry(max_attempts=8),
        timeout=30,
        tags=["a"],
        headers={"h": "1", "i": "1"},
        result_ttl=60,
    )(send)
    assert declared.spec("a") == TaskSpec(
        declared.name, b'{"to":"a"}', queue="mail", priority=225, retry=Retry(max_attempts=8), timeout=30, tags=("a",),
        headers={"h": "1", "i": "1"}, result_ttl=60, content_type="application/json",
    )  # fmt: skip
    bound = declared.options(
        delay=60, priority=210, timeout=None, headers={"i": "2"}, id="0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90"
    )
    assert bound.spec("a") == TaskSpec(
        declared.name, b'{"to":"a"}', queue="mail", priority=210, retry=Retry(max_attempts=8), tags=("a",), delay=60,
        headers={"h": "1", "i": "2"}, result_ttl=60, content_type="application/json", id="0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90",
    )  # fmt: skip
    assert declared.spec("a").delay is None
    assert bound.options(delay=1).spec("a").delay == 1
    handle = bound.submit("a")
    info = handle.status()
    assert (info.id, info.queue, info.priority, info.state) == (
        "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90",
        "mail",
        210,
        "scheduled",
    )
    assert repr(bound) == f"<BoundTask {declared.name}>"
    with pytest.raises(TypeError, match="did you mean 'delay'"):
        declared.options(dellay=5)  # type: ignore[call-arg]


def test_unique_by_the_arguments_of_the_call(app: App) -> None:
    by_user = app.task(unique=lambda to, *_args, **_kwargs: f"to:{to}")(send)
    first, second, other = by_user.submit("a"), by_user.submit("a", "again"), by_user.submit("b")
    assert (first.outcome, second.outcome, other.outcome) == ("created", "duplicate", "created")
    assert second == first
    assert second.id == first.id
    assert hash(second) == hash(first)
    assert other != first
    pending = Unique("k", during="pending")
    assert by_user.options(unique=pending).spec("a").unique == pending
    assert by_user.options(unique=None).spec("a").unique is None
    assert app.task(name="fixed", unique="one")(send).submit("a").outcome == "created"
    assert app.tasks["fixed"].submit("b").outcome == "duplicate"


def test_arguments_are_checked_at_the_submit(app: App) -> None:
    task = app.task(send)
    for args, kwargs, text in (
        ((), {}, "send() is missing argument 'to'"),
        (("a",), {"bcc": 1}, "has no argument 'bcc'; it has to, body, cc"),
        ((5,), {}, "argument 'to': must be str, not an int (5)"),
        (("a",), {"cc": [1]}, "argument 'cc'[0]: must be str"),
        (("a",), {"cc": {"x"}}, "argument 'cc'"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            task.submit(*args, **kwargs)  # type: ignore[arg-type]
        assert text in caught.value.message
    assert app.client.list().tasks == []


def test_many_in_one_request(app: App, worker: Worker) -> None:
    task = app.task(send)
    handles = task.submit_many([("a",), {"to": "bb", "body": ""}, ["ccc", "d"]])
    assert [handle.outcome for handle in handles] == ["created"] * 3
    worker.run()
    assert [handle.result(5) for handle in handles] == [3, 2, 4]
    assert task.submit_many([]) == []
    assert task.options(queue="q").submit_many(("a",) for _ in range(3))[2].status().queue == "q"


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        ([("a",), (5,)], "call 1 of the batch: argument 'to': must be str"),
        ([("a",), {}], "send() is missing argument 'to'"),
        (["abc"], "call 0 of the batch: a call is 'abc': must be a tuple or a mapping of arguments"),
        ([("a",), ("b",), 5], "call 2 of the batch"),
    ],
)
def test_a_batch_with_a_wrong_call_is_not_sent(app: App, calls: list[Any], text: str) -> None:
    task = app.task(send)
    with pytest.raises(InvalidRequest) as caught:
        task.submit_many(calls)
    assert text in caught.value.message
    assert app.client.list().tasks == []


def test_refused_items_are_told_and_the_others_taken(app: App, worker: Worker) -> None:
    task = app.task(send)
    first = task.options(idempotency_key="k").submit("a")
    with pytest.raises(BatchRefused) as caught:
        task.options(idempotency_key="k").submit_many([("a",), ("b",), ("c",)])
    assert caught.value.message.startswith("2 of 3 calls were not taken (1, 2); call 1 conflict: ")
    items = caught.value.items
    assert [item.outcome for item in items] == ["duplicate", "conflict", "conflict"]
    assert items[0].id == first.id
    assert isinstance(items[1].error, Conflict)
    for do in (items[1].result, items[1].status, items[1].cancel, items[1].explain, items[1].events):
        with pytest.raises(Conflict):
            do()
    worker.run()
    assert items[0].result(5) == 3


def test_an_atomic_batch(app: App) -> None:
    task = app.task(send)
    assert len(task.submit_many([("a",), ("b",)], atomic=True)) == 2
    with pytest.raises(BatchRefused, match="no task of it was taken"):
        task.options(priority=999).submit_many([("a",), ("b",)], atomic=True)


def test_many_are_what_each_would_be_alone(app: App) -> None:
    class Odd:
        """Its content type is another one for each value."""

        def encode(self, value: Any, hint: Any) -> tuple[str, bytes]:
            return f"x/{value['to']}", value["to"].encode()

        def decode(self, data: bytes, content_type: str, hint: Any) -> Any:
            return data

    plain, odd = app.task(send), app.task(name="odd", codec=Odd())(send)
    calls: list[Any] = [("a",), {"to": "b", "body": "c"}, ("d", "e")]
    for task in (plain, odd):
        bound = task.options(queue="q", timeout=5, tags=["x"], headers={"h": "v"}, retry=Retry(3))
        for many, call in zip(bound.submit_many(calls), calls, strict=True):
            alone = bound.submit(**call) if isinstance(call, dict) else bound.submit(*call)
            one, other = many.status(), alone.status()
            for name in ("type", "queue", "payload", "content_type", "timeout", "tags", "headers", "retry"):
                if hasattr(one, name):
                    assert getattr(one, name) == getattr(other, name), name
    with pytest.raises(BatchRefused) as refused:
        plain.options(delay="soon").submit_many(calls)
    assert [item.outcome for item in refused.value.items] == ["invalid"] * 3


def test_typed_arguments_and_results(app: App, worker: Worker) -> None:
    @app.task
    def cheapest(items: list[Item], floor: Item | None = None) -> Item:
        return min([*items, *([floor] if floor else [])], key=lambda item: item.price)

    items = [Item("a", 3), Item("b", 2)]  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"argument 'items'\[0\]\.price"):
        cheapest.submit(items)
