"""What a handler may know of its task and of its attempt, and ``current()``, which finds it from anywhere below it.

``current()`` goes by a context variable, which the frame round the handler sets in a context of the job's own
(see ``frame``): so it is right in threads, child processes, trio and asyncio, in the tasks a handler starts there, and
in what it runs by ``to_thread`` of trio, asyncio or anyio. A bare ``threading.Thread`` begins with an empty context.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from tq import limits
from tq.errors import InvalidRequest, NotInHandler, TqError
from tq.worker import saving

Saved = Callable[[TqError | None], None]
"""Told once what became of a checkpoint: None when it is durable."""


Word = tuple[float, float | None, str | None]
"""How far: done, total, note."""


class Aside:
    """What a handler says on the way. ``is_told``: the channel knows that there is a new word. ``waits``: threads that wait for a
    checkpoint."""

    __slots__ = ("is_told", "waits", "word")

    def __init__(self) -> None:
        self.word: Word | None = None
        self.is_told = False
        self.waits: list[saving.Wait] = []


class Channel(Protocol):
    """The way from a handler to the broker. Both may be called on any thread, and do not block."""

    def tell(self, context: Context) -> None:
        """Its ``word`` has changed."""
        ...

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None: ...


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
        content_type: of the payload, as submitted.
        cancelled: the handler should end: its task was cancelled, timed out or is lost, or the worker quits.
        lost: another worker may have the task by now; the outcome of this attempt will be refused.
        checkpoint_data: what this attempt, or an earlier one, has kept last with ``checkpoint``; None: nothing.

    ``cancelled`` and ``lost`` are set by the worker while the handler runs; reading them is safe from any thread.
    """

    __slots__ = (
        "_aside", "_event", "attempt", "cancelled", "channel", "checkpoint_data", "content_type", "crashes", "deadline", "fence",
        "headers", "id_bytes", "lost", "queue", "type",
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
        checkpoint_data: bytes | None = None,
        channel: Channel | None = None,
        content_type: str = "",
    ) -> None:
        """channel: None: this is no worker (a test, say): progress goes nowhere, checkpoints stay here."""
        self.id_bytes = id_bytes
        self.type = type
        self.queue = queue
        self.attempt = attempt
        self.crashes = crashes
        self.fence = fence
        self.deadline = deadline
        self.headers = headers
        self.content_type = content_type
        self.cancelled = False
        self.lost = False
        self.checkpoint_data = checkpoint_data
        self.channel = channel
        self._event: threading.Event | None = None
        self._aside: Aside | None = None

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

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Say how far the task is: ``done`` of ``total``, in whatever unit, and a few words.

        It costs little, so say it as often as you like: a few times a second the last word goes to the broker, which shows
        it with the task while it runs. It is not stored; a word may be lost. A note is cut at 256 characters. Any thread may call this.

        Raises:
            InvalidRequest: a number is negative, above 2**53, or none.
        """
        self.aside.word = (
            _number("done", done),
            None if total is None else _number("total", total),
            None if note is None else str(note)[: limits.PROGRESS_NOTE_CHARS_MAX],
        )
        if self.channel is not None:
            self.channel.tell(self)

    def checkpoint(self, data: bytes | None) -> None:
        """Keep ``data``, at most 64 KiB, for the next attempt at this task, should there be one; None: nothing any more.

        Blocks until it is durable. The next attempt, after a failure, a crash, a snooze or a change of leader, finds it in
        ``checkpoint_data``; when the task has ended it is dropped. For handlers that run in a thread or a process; ``async def``
        ones await ``acheckpoint``.

        Raises:
            PayloadTooLarge, InvalidRequest: it cannot be kept.
            StaleFence: the attempt is over; another one may run.
        """
        saving.save(self, data)

    def acheckpoint(self, data: bytes | None) -> Awaitable[None]:
        """``checkpoint`` to be awaited, on trio and asyncio. If the await is cancelled, it may be kept or not."""
        return saving.asave(self, data)

    @property
    def aside(self) -> Aside:
        """Made when it is asked for: most handlers say nothing on the way."""
        if self._aside is None:
            self._aside = Aside()
        return self._aside

    @property
    def word(self) -> Word | None:
        """Of progress, the last one."""
        return None if self._aside is None else self._aside.word

    def cancel(self, *, lost: bool = False) -> None:
        """The worker's side: tell the handler."""
        if lost:
            self.lost = True
        self.cancelled = True
        event = self._event
        if event is not None:
            event.set()
        if self._aside is not None:
            for wait in list(self._aside.waits):
                wait.wake()


def _number(field: str, value: Any) -> float:
    """Raises InvalidRequest."""
    if value.__class__ is not int and value.__class__ is not float:
        try:
            value = float(value)
        except (TypeError, ValueError) as error:
            raise InvalidRequest.of(field, value, "must be a number") from error
    if not 0 <= value <= limits.PROGRESS_NUMBER_MAX or math.isnan(value):
        raise InvalidRequest.of(field, value, f"must be 0 to {limits.PROGRESS_NUMBER_MAX}")
    return value  # type: ignore[no-any-return]


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
