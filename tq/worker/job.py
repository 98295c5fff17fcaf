"""One granted task in the worker's hands, from the grant until its outcome is answered."""

from __future__ import annotations

import enum
from typing import Any, Protocol

from tq.worker.context import Context
from tq.worker.handlers import Handler
from tq.worker.outcomes import Said


class Why(enum.Enum):
    """Why a running handler was told to stop."""

    CANCEL = "cancelled"
    TIMEOUT = "ran longer than its time-out"
    DEADLINE = "its deadline passed"
    LOST = "its lease was lost"
    QUIT = "the worker quits"


class Job:
    """``handle`` belongs to the executor that runs it."""

    __slots__ = ("context", "fence", "handle", "handler", "id", "is_ended", "is_given_up", "payload", "why")

    def __init__(self, id: bytes, fence: int, payload: bytes, handler: Handler, context: Context) -> None:
        self.id = id
        self.fence = fence
        self.payload = payload
        self.handler = handler
        self.context = context
        self.why: Why | None = None
        self.is_ended = False  # the handler is over, its slot is free
        self.is_given_up = False  # its lease is no longer ours: what it says is dropped
        self.handle: Any = None

    def __repr__(self) -> str:
        return f"<Job {self.handler.type} {self.context.id}>"


class Done(Protocol):
    """Called on the loop's thread when a handler is over. ``said`` has STOPPED if it ended because it was told to."""

    def __call__(self, job: Job, said: Said) -> None: ...


class Executor(Protocol):
    """Runs handlers of one kind; all its methods are called on the loop's thread and do not block."""

    def start(self, job: Job) -> None: ...

    def stop(self, job: Job) -> None:
        """Tell the handler to end: ask, then raise in it. Its end may come late, or never."""
        ...

    def kill(self, job: Job) -> None:
        """End it by force, where that can be done."""
        ...
