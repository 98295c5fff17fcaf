"""What a handler may know of its task and of its attempt, and ``current()``, which finds it from anywhere below it.

``current()`` goes by a context variable, which the frame round the handler sets in a context of the job's own
(see ``frame``): so it is right in threads, child processes, trio and asyncio, in the tasks a handler starts there, and
in what it runs by ``to_thread`` of trio, asyncio or anyio. A bare ``threading.Thread`` begins with an empty context.
"""

from __future__ import annotations

import threading
import uuid
from contextvars import ContextVar
from typing import Any, Final

from tq.errors import NotInHandler


class Context:
    """Handed to each handler beside the payload.

    Attributes:
        id: of the task, text of a UUID.
        type, queue: of the task.
        attempt: number of this attempt, from 1; attempts that crashed or were given back are not counted.
        crashes: how often the task was lost with its worker before.
        fence: rises with every grant, over all tasks; check it at your own resource to refuse an older attempt.
        deadline: Unix time in seconds at which the task is given up, or None.
        headers: text to text, as submitted.
        cancelled: the handler should end: its task was cancelled, timed out or is lost, or the worker quits.
        lost: another worker may have the task by now; the outcome of this attempt will be refused.

    ``cancelled`` and ``lost`` are set by the worker while the handler runs; reading them is safe from any thread.
    """

    __slots__ = (
        "_event", "attempt", "cancelled", "crashes", "deadline", "fence", "headers", "id_bytes", "lost", "queue", "type",
    )  # fmt: skip

    def __init__(
        self,
        id_bytes: bytes,
        type: str,
        queue: str,
        attempt: int,
        crashes: int,
        fence: int,
        deadline: float | None,
        headers: dict[str, str],
    ) -> None:
        self.id_bytes = id_bytes
        self.type = type
        self.queue = queue
        self.attempt = attempt
        self.crashes = crashes
        self.fence = fence
        self.deadline = deadline
        self.headers = headers
        self.cancelled = False
        self.lost = False
        self._event: threading.Event | None = None

    def __repr__(self) -> str:
        return f"<Context {self.type} {self.id} attempt {self.attempt} fence {self.fence}>"

    @property
    def id(self) -> str:
        return str(uuid.UUID(bytes=self.id_bytes))

    def wait_cancelled(self, timeout: float) -> bool:
        """Block this thread until the handler should end, at most ``timeout`` seconds. Whether it should.

        Not for ``async def`` handlers, which are cancelled where they await.
        """
        event = self._event
        if event is None:
            event = self._event = threading.Event()
        # Set after the event can be seen, or looked at after it can be seen: one of both finds the other.
        if self.cancelled:
            return True
        event.wait(timeout)
        return self.cancelled

    def wait_by(self, event: Any) -> None:
        """The worker's side, where time is not the machine's: wait on ``event``, which plays a ``threading.Event``."""
        self._event = event

    def cancel(self, *, lost: bool = False) -> None:
        """The worker's side: tell the handler."""
        if lost:
            self.lost = True
        self.cancelled = True
        event = self._event
        if event is not None:
            event.set()


CURRENT: Final[ContextVar[Context]] = ContextVar("tq_current")
"""Set by the frame round each handler, and by nobody else."""


def current() -> Context:
    """The context of the handler that runs here.

    Raises:
        NotInHandler: none does.
    """
    context = CURRENT.get(None)
    if context is None:
        raise NotInHandler(
            "current() was called where no handler runs: it works within a handler, and in what a handler calls, "
            "awaits or hands to to_thread(). A threading.Thread of your own begins without: hand it the context."
        )
    return context
