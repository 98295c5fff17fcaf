"""A task that was submitted: to wait for it, to look at it, to cancel it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tq.app.ends import outcome_error
from tq.client.models import Explanation, Submitted, TaskInfo
from tq.errors import NotFound, TqError

if TYPE_CHECKING:
    from tq.app.app import App
    from tq.client.asynchronous import AsyncEvents
    from tq.client.blocking import Events

T = TypeVar("T")
Decode = Callable[[TaskInfo], Any]


class TaskHandle(Generic[T]):
    """``T`` is what the function returns. Handles are cheap, hold no connection, and are equal when their ids are.

    Attributes:
        id: of the task, text of a UUID; of a duplicate, of the task that is there.
        outcome: ``created`` or ``duplicate`` of a submit; in ``BatchRefused.items`` also ``conflict``, ``queue_full``,
            ``too_large``, ``invalid``, ``not_done`` or ``unknown``; ``""`` where nothing was submitted (``app.handle(id)``).
        error: why it was refused, or None.
    """

    __slots__ = ("_app", "_decode", "_submitted")

    def __init__(self, app: App, submitted: Submitted, decode: Decode) -> None:
        self._app = app
        self._submitted = submitted
        self._decode = decode

    @property
    def id(self) -> str:
        return self._submitted.id

    @property
    def outcome(self) -> str:
        return self._submitted.outcome

    @property
    def error(self) -> TqError | None:
        return self._submitted.error

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}{' ' + self.outcome if self.outcome else ''}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self._submitted.raw_id)

    def result(self, timeout: float | None = None) -> T:
        """What the function returned. Waits for the end, at most ``timeout`` seconds.

        Raises:
            TaskFailed: it is dead; with the type, message and traceback of the last attempt's error.
            TaskCancelled, TaskExpired, TaskSkipped: it ended otherwise.
            WaitTimeout: it has not ended yet, and goes on.
            NotFound: it is unknown, or its result or itself was kept no longer.
            BrokerUnavailable: no broker answers.
        """
        self._raise_refusal()
        return self._result_of(self._app.client.wait(self._submitted.raw_id, timeout))

    def status(self) -> TaskInfo:
        """The task as it is now. Raises NotFound."""
        self._raise_refusal()
        return self._app.client.get(self._submitted.raw_id)

    def cancel(self, *, wait: float | None = None, grace: float | None = None) -> str:
        """Cancel it. Returns the state it led to: an end, or ``cancelling`` while a handler has ``grace`` seconds (10).

        wait: wait so many seconds for the end and return it.

        Raises:
            NotFound: unknown. WaitTimeout: ``wait`` is over.
        """
        self._raise_refusal()
        return self._app.client.cancel(self._submitted.raw_id, wait=wait, grace=grace)

    def retry(self, *, delay: float = 0) -> str:
        """Run it again after it ended, other than by completing. Returns its new state. Raises NotFound, InvalidState."""
        self._raise_refusal()
        return self._app.client.retry(self._submitted.raw_id, delay=delay)

    def explain(self) -> Explanation:
        """Why it is where it is. Raises NotFound."""
        self._raise_refusal()
        return self._app.client.explain(self._submitted.raw_id)

    def events(self, *, timeout: float | None = None) -> Events:
        """What happens to it from now on; an iterator, and a context manager that ends it.

        timeout: seconds to wait for the next event before the iterator ends; None: without end.
        """
        self._raise_refusal()
        return self._app.client.events(self._submitted.raw_id, timeout=timeout)

    # ---- from coroutines ---------------------------------------------------------------------------

    async def aresult(self, timeout: float | None = None) -> T:
        """``result`` from a coroutine, on trio or asyncio."""
        self._raise_refusal()
        return self._result_of(await self._app.ask("wait", self._submitted.raw_id, timeout))

    async def astatus(self) -> TaskInfo:
        self._raise_refusal()
        info: TaskInfo = await self._app.ask("get", self._submitted.raw_id)
        return info

    async def acancel(self, *, wait: float | None = None, grace: float | None = None) -> str:
        self._raise_refusal()
        state: str = await self._app.ask("cancel", self._submitted.raw_id, wait=wait, grace=grace)
        return state

    async def aretry(self, *, delay: float = 0) -> str:
        self._raise_refusal()
        state: str = await self._app.ask("retry", self._submitted.raw_id, delay=delay)
        return state

    async def aexplain(self) -> Explanation:
        self._raise_refusal()
        explanation: Explanation = await self._app.ask("explain", self._submitted.raw_id)
        return explanation

    def aevents(self, *, timeout: float | None = None) -> AsyncEvents:
        """``async with handle.aevents() as events: async for event in events: ...``, within ``async with app:``."""
        self._raise_refusal()
        return self._app.async_client.events(self._submitted.raw_id, timeout=timeout)

    # ---- inside --------------------------------------------------------------------------------------

    def _result_of(self, info: TaskInfo) -> T:
        error = outcome_error(info)
        if error is not None:
            raise error from getattr(error, "remote", None)
        if info.result is None:
            raise NotFound(
                f"task {info.id} completed, but its result was kept for its result_ttl only and is gone",
                detail={"state": info.state},
            )
        value: T = self._decode(info)
        return value

    def _raise_refusal(self) -> None:
        """There is no task behind a refused item of a batch."""
        if self._submitted.error is not None:
            raise self._submitted.error
