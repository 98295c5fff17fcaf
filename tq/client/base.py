"""What both clients are made of. They differ in how they wait, so in their shells, and in ``await``.

Their verbs are methods of ``Verbs`` and ``SessionVerbs``: written, typed and explained once. Each client says
``get = verb(Verbs.get)``, which is a method with the same name, arguments, defaults and docstring that runs the verb. Type
checkers see that through ``ParamSpec``, ``help()`` through ``dress``.
"""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Any

from tq import limits
from tq.client.core import ClientCore, Subscription
from tq.client.ids import TaskId, to_bytes, to_text
from tq.client.middleware import Chain, ClientMiddleware
from tq.client.models import CancelRequest, TaskEvent
from tq.client.session import SessionVerbs
from tq.client.specs import to_ms
from tq.client.verbs import Verbs
from tq.errors import Backpressure, InvalidRequest, TqError
from tq.protocol.addresses import Addresses, parse
from tq.world import Clock, Random, RealClock, RealRandom

BROKERS_DEFAULT = f"127.0.0.1:{limits.PORT_CLIENT}"
TIMEOUT_DEFAULT = 30.0


def brokers_default() -> str:
    """Where the brokers are when nobody says it."""
    return os.environ.get("TQ_BROKERS") or BROKERS_DEFAULT


def user() -> str:
    """Whose process this is, as far as it says so itself: ``user@host``."""
    name = os.environ.get("LOGNAME") or os.environ.get("USER") or "somebody"
    return f"{name}@{socket.gethostname()}"


def dress(method: Callable[..., Any], verb: Callable[..., Any]) -> None:
    """Give ``method`` the name, the words and the signature of the verb it runs."""
    update_wrapper(method, verb)
    signature = inspect.signature(verb)
    result = str(signature.return_annotation).removeprefix("Verb[").removesuffix("]")
    method.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]


class ClientBase:
    """Args:

    brokers: ``"host:port,host:port"`` or a list; ``TQ_BROKERS``, then ``127.0.0.1:7379`` unless given.
    timeout: seconds a call may take, unless it has a time-out of its own.
    reach: seconds after which calls fail when no broker can be reached at all; None: at their time-out.
    name: how this client names itself to the broker.
    middleware: see ``tq.ClientMiddleware``; the first one is outermost.
    clock, random: for tests.
    """

    def __init__(
        self,
        brokers: str | Iterable[str] | None = None,
        *,
        timeout: float = TIMEOUT_DEFAULT,
        reach: float | None = None,
        name: str | None = None,
        middleware: Iterable[ClientMiddleware] = (),
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        given = brokers_default() if brokers is None else brokers
        self._clock = clock or RealClock()
        self._random = random or RealRandom()
        reach_ms = None if reach is None else to_ms("reach", reach)
        self._core = ClientCore(
            Addresses(parse(given)), self._clock, self._random, name or f"tq-python/{os.getpid()}", reach_ms
        )
        chain = Chain(middleware)
        self._chain = chain if chain.sees_requests else None
        self._verbs = Verbs(self._core, self._clock, self._random, to_ms("timeout", timeout), chain)
        self._verbs.who = user()
        self._begin()

    def _begin(self) -> None:
        """Make the shell."""
        raise NotImplementedError

    @property
    def last_index(self) -> int:
        """The highest applied index that an answer named. Reads see at least this one."""
        return self._core.last_index

    @property
    def cluster_id(self) -> str | None:
        """Of the cluster this client last spoke to."""
        raw = self._core.cluster_id
        return None if raw is None else to_text(raw)

    def _session(
        self,
        types: Sequence[str],
        queues: Sequence[str],
        name: str | None,
        on_cancel: Callable[[list[CancelRequest]], None] | None,
    ) -> SessionVerbs:
        if isinstance(types, str) or isinstance(queues, str):
            raise InvalidRequest.of("types", types, "types and queues are lists of texts")
        if name is None:
            name = f"{socket.gethostname()}-{os.getpid()}-{self._random.bytes(4).hex()}"
        return SessionVerbs(self._verbs, types, queues, name, on_cancel)


class SessionBase:
    """What a session knows without asking."""

    _verbs: SessionVerbs

    @property
    def id(self) -> str:
        return to_text(self._verbs.id)

    @property
    def name(self) -> str:
        return self._verbs.name

    @property
    def lease(self) -> float:
        """Seconds a lease lasts."""
        return self._verbs.told.lease_ms / 1000

    @property
    def heartbeat_every(self) -> float:
        """Seconds between heartbeats, as the broker wishes."""
        return self._verbs.told.heartbeat_ms / 1000

    @property
    def held(self) -> dict[str, int]:
        """What it holds: id -> fence."""
        return {to_text(task): fence for task, fence in list(self._verbs.held.items())}


class EventsBase:
    """Between the core and who reads the events: what was not read yet, so many at most."""

    def __init__(
        self,
        id: TaskId | None,
        after: tuple[int, int] | None,
        put: Callable[[list[Any] | TqError], None],
        count: Callable[[], int],
    ) -> None:
        """put: keep a row, or the reason why no more will come. count: how many are kept."""
        self._subscription = Subscription(None if id is None else to_bytes("id", id), after, self._sink)
        self._put = put
        self._count = count
        self._is_closed = False

    @property
    def complete(self) -> bool:
        """False once events may be missing (the broker keeps a bounded number for those who return)."""
        return self._subscription.complete

    @property
    def closed(self) -> bool:
        """No more will come; an iteration that ended by its time-out may be begun again."""
        return self._is_closed

    def _sink(self, rows: list[list[Any]] | TqError) -> None:
        """Called by the core."""
        if isinstance(rows, TqError):
            self._put(rows)
        elif self._count() + len(rows) > 2 * limits.SUBSCRIBER_EVENTS_MAX:
            self._put(Backpressure("events were not read as fast as they came; go on with after="))
            self._subscription.sink = lambda _rows: None
        else:
            for row in rows:
                self._put(row)

    @staticmethod
    def _event(row: list[Any] | TqError) -> TaskEvent:
        if isinstance(row, TqError):
            raise row
        return TaskEvent.of(row)
