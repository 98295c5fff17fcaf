"""The command line with a client that is played: what it was asked, and what it answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Self

import typer.testing
from typer.main import get_command
from typer.testing import CliRunner, Result

from tq.cli.base import World
from tq.cli.main import new_app
from tq.client.models import (
    Changed,
    Explanation,
    Job,
    Page,
    QueueInfo,
    QueuePause,
    QueueSettings,
    Submitted,
    TaskEvent,
    TaskInfo,
    WorkerInfo,
)

ID = "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90"
RAW = bytes.fromhex(ID.replace("-", ""))
NOW = 1_000_000.0
APP = new_app()
typer.testing._get_command = functools.cache(get_command)  # type: ignore[attr-defined]
"""To make all commands takes longer than to run one, and they keep nothing from run to run."""
FACTS: dict[str, Any] = {
    "id": ID, "type": "echo", "queue": "default", "state": "pending", "created_at": NOW - 60, "attempt": 0, "history": [],
}  # fmt: skip


def task(**fields: Any) -> TaskInfo:
    known = {
        "id": ID,
        "type": "echo",
        "queue": "default",
        "state": "pending",
        "priority": 150,
        "created_at": 1.5,
        "index": 9,
    }
    return TaskInfo(**{**known, **fields})


class FakeClient:
    """Each verb gives what ``answers`` has under its name: a value, or an error to raise. ``asked`` has the calls."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "submit": Submitted(RAW),
            "wait": task(state="completed", result=b"done"),
            "get": task(),
            "list": Page([task()], None),
            "list_all": [task()],
            "cancel_many": [Changed(ID, "cancelled")],
            "retry_many": [Changed(ID, "pending")],
            "purge_many": [Changed(ID, "dead")],
            "retry_where": Job(ID, "retry", 7, 7, True),
            "purge_where": Job(ID, "purge", 7, 7, True),
            "explain": Explanation("pending: first in line", {**FACTS, "ahead": 0}),
            "pause": QueueSettings(paused=QueuePause("ann@here", 1.0)),
            "resume": QueueSettings(),
            "set_queue": QueueSettings(max_length=10_000),
            "queues": [QueueInfo("mail", pending={"low": 1, "normal": 2, "high": 5}, running=3)],
            "workers": [WorkerInfo(ID, "w1", ("echo",), ("default",), 2, 1.5, 2.5, False, {}, {"cpu_percent": 12.5})],
            "stats": {"node": "n1", "tasks": {"pending": 4}},
            "cluster_status": {
                "cluster": {"id": "c1", "name": "tq", "leader": "n1", "term": 3, "answered_by": "n1"},
                "may_lose": 0,
                "nodes": [{"id": "n1", "role": "leader", "reachable": True, "term": 3, "leader": "n1", "applied": 88}],
            },
            "transfer_leadership": "n2",
            **answers,
        }
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.where: tuple[str | None, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.asked.append((name, args, kwargs))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args, **kwargs) if callable(answer) else answer

        return call


class FakeEvents(list[TaskEvent]):
    """turns: how often they end before that is for good; they are had in the first."""

    complete = True
    turns = 1

    @property
    def closed(self) -> bool:
        return self.turns == 0

    def __iter__(self) -> Iterator[TaskEvent]:
        self.turns -= 1
        events = self[:]
        self.clear()
        return iter(events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


def run(
    client: FakeClient,
    *args: str,
    terminal: bool = False,
    interactive: bool = False,
    text: str = "",
    pause: Callable[[float], object] | None = None,
    size: tuple[int, int] = (160, 50),
    colour: bool = False,
    term: str = "xterm",
    now: Callable[[], float] = lambda: NOW,
) -> Result:
    """Without ``pause``, a command that lets time pass fails. It is always ``NOW``."""

    def connect(brokers: str | None, timeout: float) -> FakeClient:
        client.where = (brokers, timeout)
        return client

    world = World(
        connect,
        lambda: terminal,
        lambda: interactive,
        pause or _never,
        now,
        lambda: size,
        {"TERM": term} if colour else {"TERM": term, "NO_COLOR": "1"},
    )
    return CliRunner().invoke(APP, list(args), input=text or None, obj=world, catch_exceptions=False)


def _never(seconds: float) -> None:
    raise AssertionError(f"waits {seconds} s")
