"""Jobs for executors, and what becomes of them."""

from __future__ import annotations

import threading
from typing import Any

from tq.worker.context import Context
from tq.worker.handlers import Handler, Handlers
from tq.worker.job import Job, Why
from tq.worker.outcomes import Said


def a_context(number: int = 1, type: str = "t", headers: dict[str, str] | None = None) -> Context:
    return Context(number.to_bytes(16, "big"), type, "default", 2, 1, 1_000 + number, None, headers or {})


def a_job(handlers: Handlers, type: str, payload: bytes = b"", number: int = 1) -> Job:
    handler = handlers.get(type)
    assert isinstance(handler, Handler)
    return Job(number.to_bytes(16, "big"), 1_000 + number, payload, handler, a_context(number, type))


def tell(job: Job, why: Why = Why.CANCEL) -> None:
    """What the core does before it hands a job to ``Executor.stop``."""
    job.context.cancel(lost=why is Why.LOST)
    job.why = why


class Ends:
    """``done`` for an executor: what was said, by number of the task. ``wait`` for as many."""

    def __init__(self) -> None:
        self.said: list[tuple[int, Said]] = []
        self._changed = threading.Condition()

    def __call__(self, job: Job, said: Said) -> None:
        with self._changed:
            self.said.append((job.fence - 1_000, said))
            self._changed.notify_all()

    def of(self, number: int) -> Any:
        (said,) = [said for n, said in self.said if n == number]
        return said
