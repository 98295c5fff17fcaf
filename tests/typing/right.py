"""What type checkers accept, and what they know of it. Checked by test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from tq import App, AsyncTask, BoundTask, Codec, JsonCodec, Priority, Retry, Task, TaskHandle, Unique
from tq.client.models import Explanation, TaskInfo

app = App("127.0.0.1:7379", codec=JsonCodec())


@app.task
def bare(to: str, body: str = "", *, urgent: bool = False) -> int:
    return len(to)


@app.task(queue="mail", priority=Priority.HIGH, retry=Retry(max_attempts=8), timeout=30, tags=["a"], headers={"a": "b"})
def with_options(to: str) -> list[str]:
    return [to]


@app.task
async def coroutine(url: str) -> dict[str, int]:
    return {url: 1}


@app.task(runtime="asyncio", retry_on=(ConnectionError, TimeoutError), give_up_on=lambda error: "404" in str(error))
async def coroutine_with_options(url: str) -> bytes:
    return b""


@app.task()
def nothing() -> None: ...


@app.task(unique=lambda user: Unique(f"user:{user}", during="pending"), codec=JsonCodec(), executor="process")
def many(*users: int, **more: str) -> None: ...


assert_type(bare("a", urgent=True), int)
assert_type(bare.submit("a", body="b", urgent=True), TaskHandle[int])
assert_type(bare.submit("a").result(), int)
assert_type(bare.submit("a").result(timeout=5), int)
assert_type(bare.submit("a").status(), TaskInfo)
assert_type(bare.submit("a").cancel(wait=5), str)
assert_type(bare.submit("a").explain(), Explanation)
assert_type(bare.submit("a").id, str)
assert_type(bare.submit_many([("a",), {"to": "b"}, ("c", "d")]), list[TaskHandle[int]])
assert_type(bare.submit_many(("a",) for _ in range(3)), list[TaskHandle[int]])
assert_type(bare.handle("0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90"), TaskHandle[int])
assert_type(bare.options(delay=60, unique="k", priority=210).submit("a"), TaskHandle[int])
assert_type(bare.options(timeout=None).options(queue="q").submit("a", "b").result(), int)
assert_type(with_options("a"), list[str])
assert_type(with_options.submit(to="a").result(), list[str])
assert_type(coroutine.submit("a").result(), dict[str, int])
made: Coroutine[Any, Any, dict[str, int]] = coroutine("a")
assert_type(coroutine_with_options.submit("a"), TaskHandle[bytes])
assert_type(nothing.submit(), TaskHandle[None])
assert_type(app.handle("x"), TaskHandle[Any])
many.submit(1, 2, a="b")


async def awaited() -> None:
    async with app:
        assert_type(await coroutine("a"), dict[str, int])
        assert_type(await coroutine.asubmit("a"), TaskHandle[dict[str, int]])
        assert_type(await (await bare.asubmit("a", "b")).aresult(timeout=5), int)
        assert_type(await bare.options(delay=1).asubmit_many([("a",)]), list[TaskHandle[int]])
        assert_type(await (await nothing.asubmit()).astatus(), TaskInfo)


def takes_a_task(task: Task[[str], list[str]], other: AsyncTask[[str], bytes], any_task: BoundTask[..., Any]) -> None:
    takes_a_function(task)
    assert_type(task.submit("a"), TaskHandle[list[str]])
    any_task.submit(1, 2, 3)


def takes_a_function(function: Callable[[str], list[str]]) -> None:
    """A task is one."""


takes_a_task(with_options, coroutine_with_options, bare)


class Reversed:
    def encode(self, value: Any, hint: Any) -> tuple[str, bytes]:
        return "text/plain", repr(value).encode()

    def decode(self, data: bytes, content_type: str, hint: Any) -> Any:
        return data


codec: Codec = Reversed()
App(codec=Reversed())
