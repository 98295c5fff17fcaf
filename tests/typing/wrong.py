"""What type checkers refuse: each line that ends with ``# error: CODE of mypy, CODE of pyright``, and no other. Never run."""

from __future__ import annotations

from tq import App, Retry, Task, TaskHandle

app = App()


@app.task
def send(to: str, body: str = "", *, urgent: bool = False) -> int:
    return len(to)


@app.task(queue="mail")
async def fetch(url: str) -> dict[str, int]:
    return {url: 1}


send()  # error: call-arg, reportCallIssue
send.submit()  # error: call-arg, reportCallIssue
send.submit(5)  # error: arg-type, reportArgumentType
send.submit("a", "b", "c")  # error: arg-type call-arg, reportCallIssue
send.submit("a", cc="b")  # error: call-arg, reportCallIssue
send.submit("a", urgent="yes")  # error: arg-type, reportArgumentType
send.options(delay=60).submit(5)  # error: arg-type, reportArgumentType
send.options(dellay=60)  # error: call-arg, reportCallIssue
send.options(priority="high")  # error: arg-type, reportArgumentType
send.options(executor="thread")  # error: call-arg, reportCallIssue
send.options(delay=60)("a")  # error: operator, reportCallIssue
send.submit_many(["a", "b"])  # error: list-item, reportArgumentType
send.submit_many([5])  # error: list-item, reportArgumentType
text: str = send.submit("a").result()  # error: assignment, reportAssignmentType
handle: TaskHandle[str] = send.submit("a")  # error: assignment, reportAssignmentType
send.submit("a").result("soon")  # error: arg-type, reportArgumentType
send.delay("a")  # error: attr-defined, reportAttributeAccessIssue
fetch.submit(5)  # error: arg-type, reportArgumentType
number: int = fetch.submit("a").result()  # error: assignment, reportAssignmentType


async def awaited() -> None:
    await send("a")  # error: misc, reportGeneralTypeIssues
    await fetch.asubmit(5)  # error: arg-type, reportArgumentType
    _text: str = await (await fetch.asubmit("a")).aresult()  # error: assignment, reportAssignmentType


@app.task(retries=5)  # error: call-overload untyped-decorator, reportCallIssue
def unknown_option() -> None: ...


@app.task(priority="high")  # error: call-overload untyped-decorator, reportArgumentType
def wrong_option() -> None: ...


@app.task(executor="fiber")  # error: call-overload untyped-decorator, reportArgumentType
def wrong_executor() -> None: ...


@app.task(retry=Retry(max_attempts="many"))  # error: arg-type, reportArgumentType
def wrong_retry() -> None: ...


def takes(task: Task[[int], int]) -> None: ...


takes(send)  # error: arg-type, reportArgumentType
App(codec=5)  # error: arg-type, reportArgumentType
App(broker="127.0.0.1:7379")  # error: call-arg, reportCallIssue
