"""The client for coroutines, on trio and on asyncio: the verbs of ``Client``, awaited.

``verbs.py`` and ``session.py`` have the verbs with their words, ``core`` decides, ``async_shell`` has the tasks. Any number of
tasks may use one client: their requests share one connection and do not wait for each other. It belongs to the event
loop it was opened in, and is left by the task that has entered it.

Times are seconds, and no call waits longer than its ``timeout``, as with ``Client``. A call that is cancelled is forgotten at
once and the connection goes on; whether its request was done is then unknown, and repeating it with the same ids is safe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

import anyio
import anyio.abc
import anyio.lowlevel

from tq.client.async_shell import AsyncShell, open_socket
from tq.client.base import ClientBase, EventsBase, SessionBase, dress
from tq.client.filters import Filters
from tq.client.ids import TaskId
from tq.client.middleware import Chain
from tq.client.models import CancelRequest, TaskEvent, TaskInfo
from tq.client.session import SessionVerbs
from tq.client.steps import T, Verb
from tq.client.verbs import ListOf, Pages, Verbs
from tq.errors import InvalidState, TqError

P = ParamSpec("P")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class Runs(Generic[V_co]):
    """What runs verbs of this kind."""

    _verbs: V_co
    _chain: Chain | None
    _run: Callable[[Verb[Any]], Coroutine[Any, Any, Any]]


def verb(of: Callable[Concatenate[V, P], Verb[T]]) -> Callable[Concatenate[Runs[V], P], Coroutine[Any, Any, T]]:
    """The method that does a verb and returns its result, awaited."""
    name = of.__name__

    async def call(self: Runs[V], /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = of(self._verbs, *args, **kwargs)
        if self._chain is not None:
            steps = self._chain.around(name, steps)
        result: T = await self._run(steps)
        return result

    dress(call, of)
    return call


class AsyncClient(ClientBase, Runs[Verbs]):
    """A connection to a cluster, made at the first call and kept. Use it as ``async with AsyncClient(...) as client:``."""

    _open_socket = staticmethod(open_socket)

    def _begin(self) -> None:
        self._shell = AsyncShell(self._core, self._clock, self._open_socket)
        self._run = self._shell.run
        self._tasks: anyio.abc.TaskGroup | None = None

    async def close(self) -> None:
        """End calls under way and close the connection. Sessions are not closed: their leases run out."""
        self._shell.close()
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise InvalidState("this client was opened before: make a new AsyncClient")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        await self._tasks.start(self._shell.keep)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        self._shell.close()
        # The error of the block is not the group's: it goes on as it is, not in an ExceptionGroup.
        await self._tasks.__aexit__(None, None, None)

    submit = verb(Verbs.submit)
    submit_spec = verb(Verbs.submit_spec)
    submit_many = verb(Verbs.submit_many)

    get = verb(Verbs.get)
    wait = verb(Verbs.wait)
    cancel = verb(Verbs.cancel)
    cancel_many = verb(Verbs.cancel_many)
    retry = verb(Verbs.retry)
    retry_many = verb(Verbs.retry_many)
    purge = verb(Verbs.purge)
    purge_many = verb(Verbs.purge_many)
    explain = verb(Verbs.explain)

    list = verb(Verbs.list)
    retry_where = verb(Verbs.retry_where)
    purge_where = verb(Verbs.purge_where)

    pause = verb(Verbs.pause)
    resume = verb(Verbs.resume)
    set_queue = verb(Verbs.set_queue)

    queues = verb(Verbs.queues)
    workers = verb(Verbs.workers)
    stats = verb(Verbs.stats)
    cluster_status = verb(Verbs.cluster_status)
    transfer_leadership = verb(Verbs.transfer_leadership)
    replace_node = verb(Verbs.replace_node)

    async def list_all(
        self, *, limit: int | None = None, oldest_first: bool = False, **filter: Unpack[Filters]
    ) -> AsyncIterator[TaskInfo]:
        """All tasks that meet a filter, page by page as ``list``, at most ``limit``."""
        pages = Pages(self._verbs, limit, filter, oldest_first=oldest_first)
        while pages.goes_on:
            for task in await self._run(pages.take()):
                yield task

    def events(
        self,
        id: TaskId | None = None,
        *,
        after: tuple[int, int] | None = None,
        timeout: float | None = None,
    ) -> AsyncEvents:
        """What happens from now on (or behind the event ``after``), of one task or of all.

        ``async with client.events() as events`` is subscribed when the block begins and ends with it; so is
        ``await client.events()``, until its ``close``. ``async for event in client.events()`` subscribes at its first turn.
        timeout: seconds the iterator waits for the next event before it ends; None: without end.
        """
        return AsyncEvents(self._shell, self._verbs, id, after, timeout)

    def register_worker(
        self,
        types: Sequence[str],
        queues: Sequence[str] = ("default",),
        *,
        name: str | None = None,
        info: dict[str, Any] | None = None,
        on_cancel: Callable[[ListOf[CancelRequest]], None] | None = None,
        timeout: float | None = None,
    ) -> Opening:
        """Open a worker session: the tasks of ``types`` in ``queues`` are its to claim.

        ``async with client.register_worker(...) as session`` closes it at the end of the block, ``await`` leaves that to
        its ``close``. name: ``host-pid-random`` unless given. on_cancel: called from the loop when tasks that this
        session holds are to stop; it must not block. Heartbeats tell the same.
        """
        verbs = self._session(types, queues, name, on_cancel)
        opening = verbs.open(info or {}, timeout)
        if self._chain is not None:
            opening = self._chain.around("register_worker", opening)
        return Opening(AsyncSession(verbs, self._chain, self._shell), opening, self._shell)


class AsyncSession(SessionBase, Runs[SessionVerbs]):
    """A worker session; see ``tq/client/session.py``. ``task`` is what ``claim`` returned, or (id, fence)."""

    def __init__(self, verbs: SessionVerbs, chain: Chain | None, shell: AsyncShell) -> None:
        self._verbs = verbs
        self._chain = chain
        self._run = shell.run

    claim = verb(SessionVerbs.claim)
    heartbeat = verb(SessionVerbs.heartbeat)
    close = verb(SessionVerbs.close)
    progress = verb(SessionVerbs.progress)
    checkpoint = verb(SessionVerbs.checkpoint)

    complete = verb(SessionVerbs.complete)
    fail = verb(SessionVerbs.fail)
    release = verb(SessionVerbs.release)
    snooze = verb(SessionVerbs.snooze)
    cancelled = verb(SessionVerbs.cancelled)
    complete_many = verb(SessionVerbs.complete_many)
    fail_many = verb(SessionVerbs.fail_many)
    release_many = verb(SessionVerbs.release_many)
    snooze_many = verb(SessionVerbs.snooze_many)
    cancelled_many = verb(SessionVerbs.cancelled_many)
    report_many = verb(SessionVerbs.report_many)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """When the block is cancelled, the good-bye is sent and its answer is not waited for."""
        try:
            await self.close()
        except TqError:
            if error is None:
                raise  # else the block's own error is the one to see


class Opening(Awaitable[AsyncSession]):
    """A session that is opened when this is awaited or entered."""

    def __init__(self, session: AsyncSession, opening: Verb[None], shell: AsyncShell) -> None:
        self._session = session
        self._opening = opening
        self._shell = shell

    def __await__(self) -> Generator[Any, Any, AsyncSession]:
        yield from self._shell.run(self._opening).__await__()
        return self._session

    async def __aenter__(self) -> AsyncSession:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.__aexit__(kind, error, trace)


class AsyncEvents(EventsBase):
    """Asynchronous iterator over events. It goes on over lost connections."""

    def __init__(
        self, shell: AsyncShell, verbs: Verbs, id: TaskId | None, after: tuple[int, int] | None, timeout: float | None
    ) -> None:
        self._rows: deque[ListOf[Any] | TqError] = deque()
        super().__init__(id, after, self._keep, self._rows.__len__)
        self._shell = shell
        self._verbs = verbs
        self._timeout = timeout
        self._is_open = False
        self._came = anyio.Event()

    def _keep(self, row: ListOf[Any] | TqError) -> None:
        self._rows.append(row)
        self._came.set()

    async def _open(self) -> Self:
        if not self._is_open:
            await self._shell.run(self._verbs.listen(self._subscription))
            self._is_open = True
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._open().__await__()

    def __aiter__(self) -> AsyncIterator[TaskEvent]:
        return self

    async def __anext__(self) -> TaskEvent:
        """The next event. StopAsyncIteration after ``timeout`` seconds without one, or when closed.

        Raises:
            Backpressure: too many events were not read. BrokerUnavailable: the client was closed.
        """
        if self._is_closed:
            raise StopAsyncIteration
        await self._open()
        await anyio.lowlevel.checkpoint()
        while not self._rows:
            if self._is_closed or not await self._comes():
                raise StopAsyncIteration
        row = self._rows.popleft()
        if isinstance(row, TqError):
            await self.close()
        return self._event(row)

    async def _comes(self) -> bool:
        """Whether a row comes, or the end, before ``timeout`` is over."""
        if self._came.is_set():
            self._came = anyio.Event()
        with anyio.move_on_after(self._timeout) as scope:
            await self._came.wait()
        return not scope.cancelled_caught

    async def close(self) -> None:
        """End the subscription. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            self._rows.clear()
            self._came.set()
            self._shell.unsubscribe(self._subscription)

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
