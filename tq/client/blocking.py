"""The client for threads: each verb returns when it is answered, or raises a ``TqError``.

``verbs.py`` and ``session.py`` have the verbs with their words, ``core`` decides, ``shell`` has the threads. One client may
be used by many threads: their requests share one connection and do not wait for each other. Ids of tasks are UUID text;
text, 16 bytes and ``uuid.UUID`` are taken.

Times are seconds. No call waits longer than its ``timeout`` (the client's, 30 s, unless given). When that is over,
``BrokerUnavailable`` says whether the request may have been done; repeating it with the same ids is safe.
"""

from __future__ import annotations

import queue as queues_
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from tq.client.base import TIMEOUT_DEFAULT, ClientBase, EventsBase, SessionBase, brokers_default, dress
from tq.client.filters import Filters
from tq.client.ids import TaskId
from tq.client.middleware import Chain
from tq.client.models import CancelRequest, TaskEvent, TaskInfo
from tq.client.session import SessionVerbs
from tq.client.shell import Shell
from tq.client.steps import T, Verb
from tq.client.verbs import ListOf, Pages, Verbs
from tq.errors import TqError

__all__ = ["TIMEOUT_DEFAULT", "Client", "Events", "Session", "brokers_default"]

P = ParamSpec("P")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class Runs(Generic[V_co]):
    """What runs verbs of this kind."""

    _verbs: V_co
    _chain: Chain | None
    _run: Callable[[Verb[Any]], Any]


def verb(of: Callable[Concatenate[V, P], Verb[T]]) -> Callable[Concatenate[Runs[V], P], T]:
    """The method that does a verb and returns its result."""
    name = of.__name__

    def call(self: Runs[V], /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = of(self._verbs, *args, **kwargs)
        if self._chain is not None:
            steps = self._chain.around(name, steps)
        result: T = self._run(steps)
        return result

    dress(call, of)
    return call


class Client(ClientBase, Runs[Verbs]):
    """A connection to a cluster, made at the first call and kept."""

    def _begin(self) -> None:
        self._shell = Shell(self._core, self._clock)
        self._run = self._shell.run

    def close(self) -> None:
        """End calls under way and close the connection. Sessions are not closed: their leases run out."""
        self._shell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    def list_all(
        self, *, limit: int | None = None, oldest_first: bool = False, **filter: Unpack[Filters]
    ) -> Iterator[TaskInfo]:
        """All tasks that meet a filter, page by page as ``list``, at most ``limit``."""
        pages = Pages(self._verbs, limit, filter, oldest_first=oldest_first)
        while pages.goes_on:
            yield from self._run(pages.take())

    def events(
        self,
        id: TaskId | None = None,
        *,
        after: tuple[int, int] | None = None,
        timeout: float | None = None,
    ) -> Events:
        """What happens from now on (or behind the event ``after``), of one task or of all; subscribed when this returns.

        timeout: seconds the iterator waits for the next event before it ends; None: without end.
        """
        return Events(self._shell, self._verbs, id, after, timeout)

    def register_worker(
        self,
        types: Sequence[str],
        queues: Sequence[str] = ("default",),
        *,
        name: str | None = None,
        info: dict[str, Any] | None = None,
        on_cancel: Callable[[ListOf[CancelRequest]], None] | None = None,
        timeout: float | None = None,
    ) -> Session:
        """Open a worker session: the tasks of ``types`` in ``queues`` are its to claim.

        name: ``host-pid-random`` unless given. on_cancel: called on the client's I/O thread when tasks that this
        session holds are to stop; it must not block nor use the client. Heartbeats tell the same.
        """
        verbs = self._session(types, queues, name, on_cancel)
        opening = verbs.open(info or {}, timeout)
        self._run(opening if self._chain is None else self._chain.around("register_worker", opening))
        return Session(verbs, self._chain, self._shell)


class Session(SessionBase, Runs[SessionVerbs]):
    """A worker session; see ``tq/client/session.py``. ``task`` is what ``claim`` returned, or (id, fence)."""

    def __init__(self, verbs: SessionVerbs, chain: Chain | None, shell: Shell) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except TqError:
            if error is None:
                raise  # else the block's own error is the one to see


class Events(EventsBase):
    """Iterator over events; a context manager. It goes on over lost connections."""

    def __init__(
        self, shell: Shell, verbs: Verbs, id: TaskId | None, after: tuple[int, int] | None, timeout: float | None
    ) -> None:
        self._rows: queues_.SimpleQueue[list[Any] | TqError] = queues_.SimpleQueue()
        super().__init__(id, after, self._rows.put, self._rows.qsize)
        self._shell = shell
        self._timeout = timeout
        shell.run(verbs.listen(self._subscription))

    def __iter__(self) -> Iterator[TaskEvent]:
        return self

    def __next__(self) -> TaskEvent:
        """The next event. StopIteration after ``timeout`` seconds without one, or when closed.

        Raises:
            Backpressure: too many events were not read. BrokerUnavailable: the client was closed.
        """
        if self._is_closed:
            raise StopIteration
        try:
            row = self._rows.get(timeout=self._timeout)
        except queues_.Empty:
            raise StopIteration from None
        if isinstance(row, TqError):
            self.close()
        return self._event(row)

    def close(self) -> None:
        """End the subscription. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            self._shell.unsubscribe(self._subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
