"""The front door: an App has a cluster's addresses, the tasks of a program, and how their arguments travel.

    app = App(brokers="127.0.0.1:7379")

    @app.task(queue="mail", retry=Retry(max_attempts=8))
    def send_mail(to: str, body: str = "") -> int: ...

    send_mail.submit("a@example.org").result(timeout=60)

and ``tq worker MODULE`` runs what is submitted, where MODULE has the app. Making an App opens nothing: the client
connects at its first use, and is shared by all threads. After a ``fork`` the child has one of its own.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from tq.app.codecs import Codec, JsonCodec
from tq.app.definition import Definition
from tq.app.handle import TaskHandle
from tq.app.loops import AsyncClients, in_thread
from tq.app.names import name_of
from tq.app.options import DECLARED, RUNS, TaskOptions, check_names, gives_up
from tq.app.task import AsyncTask, Task
from tq.client.blocking import TIMEOUT_DEFAULT, Client, brokers_default
from tq.client.forks import told_of_forks
from tq.client.ids import TaskId, to_bytes
from tq.client.middleware import ClientMiddleware
from tq.client.models import Submitted, TaskInfo
from tq.errors import ConfigError, InvalidState, Unsupported
from tq.worker.handlers import Executor, Handlers, adding

if TYPE_CHECKING:
    from tq.client.asynchronous import AsyncClient

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

RUNTIMES: Final[dict[str, Executor]] = {"trio": "async", "asyncio": "asyncio"}


class Declare(Protocol):
    """``@app.task(...)``: makes a task of a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class App:
    """The tasks of a program.

    Args:
        brokers: ``"host:port,host:port"`` or a list; ``TQ_BROKERS``, then ``127.0.0.1:7379`` unless given.
        codec: of all tasks that have none of their own; JSON unless given.
        middleware: of the client (``ClientMiddleware``), the outermost first.
        worker_middleware, resources: for the workers that run this app; see the worker's page.
        timeout: seconds a request may take.
        reach: seconds after which requests fail when no broker can be reached at all; None: at their time-out.
        api_key, tls: not there yet; refused.

    Raises:
        Unsupported: ``api_key`` or ``tls`` was given.
    """

    def __init__(
        self,
        brokers: str | Iterable[str] | None = None,
        *,
        api_key: str | None = None,
        tls: Any = None,
        codec: Codec | None = None,
        middleware: Sequence[ClientMiddleware] = (),
        worker_middleware: Sequence[Any] = (),
        resources: Mapping[str, Callable[..., Any]] | None = None,
        timeout: float = TIMEOUT_DEFAULT,
        reach: float | None = None,
    ) -> None:
        for name, value in (("api_key", api_key), ("tls", tls)):
            if value is not None:
                raise Unsupported(
                    f"App({name}=...) is not there yet: brokers serve clients on their own machine, without it",
                    detail={"field": name},
                )
        self.codec = codec or JsonCodec()
        self.worker_middleware = list(worker_middleware)
        self.resources = dict(resources or {})
        self._brokers = brokers if brokers is None or isinstance(brokers, str) else ",".join(brokers)
        self._client_options: dict[str, Any] = {"timeout": timeout, "reach": reach}
        if middleware:
            self._client_options["middleware"] = tuple(middleware)
        self._tasks: dict[str, Task[..., Any] | AsyncTask[..., Any]] = {}
        self._handlers = Handlers()
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._owner = 0  # process of the client
        self._stand_ins: list[Any] = []
        self._async_clients = AsyncClients()
        told_of_forks(self)

    def __repr__(self) -> str:
        return f"<App {self._brokers or brokers_default()} with {len(self._tasks)} tasks>"

    @property
    def brokers(self) -> str | None:
        """Addresses, ``"host:port,host:port"``; None: ``TQ_BROKERS``, or the default. A worker sets it to its own, for what
        the handlers submit; the next client goes there."""
        return self._brokers

    @brokers.setter
    def brokers(self, brokers: str | None) -> None:
        self._brokers = brokers

    # ---- tasks ---------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> Declare: ...

    def task(self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Make a task of a function: ``@app.task`` or ``@app.task(queue="mail", ...)``; see ``TaskOptions``.

        Raises:
            ConfigError: the name is taken, or the function cannot be a task.
            TypeError: there is no such option. InvalidRequest: one has a value that it cannot have.
        """
        check_names("@app.task()", options, DECLARED)
        if function is not None:
            return self._declare(function, options)
        return lambda function: self._declare(function, options)

    def _declare(
        self, function: Callable[..., Any], options: Mapping[str, Any]
    ) -> Task[..., Any] | AsyncTask[..., Any]:
        if isinstance(function, staticmethod):
            function = function.__func__
        name = options.get("name") or _name_of(function)
        _check_function(name, function)
        definition = Definition(name, function, options.get("codec") or self.codec)
        sent = {option: value for option, value in options.items() if option not in RUNS}
        kind = AsyncTask if definition.is_async else Task
        task: Task[..., Any] | AsyncTask[..., Any] = kind(self, definition, sent)
        task.check()
        self._handlers.register(
            name,
            definition.handler(),
            executor=_executor(definition, options),
            content_type="",
            gives_up=gives_up(options.get("retry_on"), options.get("give_up_on")),
            asks=definition.asks,
        )
        self._tasks[name] = task
        return task

    def resource(self, name: str) -> Callable[[F], F]:
        """As a decorator of what makes a resource, for the parameters of tasks whose default is ``tq.resource(name)``.

        Raises:
            ConfigError: the name is taken.
        """
        return adding(self.resources, name)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any] | AsyncTask[..., Any]]:
        """By name."""
        return MappingProxyType(self._tasks)

    @property
    def queues(self) -> list[str]:
        """Those that its tasks name."""
        return sorted({task.queue for task in self._tasks.values()})

    @property
    def handlers(self) -> Handlers:
        """For ``tq worker``. Raises ConfigError if a task declares types that cannot be carried."""
        for task in self._tasks.values():
            task.definition.check()
        return self._handlers

    def handle(self, id: TaskId) -> TaskHandle[Any]:
        """Of a task that was submitted before, by whomever. Its result is decoded as its task declares, if this app has it."""
        return TaskHandle(self, Submitted(to_bytes("id", id), "", None), self._decode)

    def _decode(self, info: TaskInfo) -> Any:
        task = self._tasks.get(info.type)
        data, content_type = info.result or b"", info.result_content_type or ""
        if task is not None:
            return task.definition.decode_result(data, content_type)
        return self.codec.decode(data, content_type, Any) if data or content_type else None

    # ---- the client ----------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The client of this process, made when it is first asked for; also for what has no task here."""
        if self._stand_ins:
            stand_in: Client = self._stand_ins[-1]
            return stand_in
        client = self._client
        if client is not None and self._owner == os.getpid():
            return client
        with self._lock:
            if self._client is None or self._owner != os.getpid():
                self._client = self._connect()
                self._owner = os.getpid()
            return self._client

    def begin_anew(self) -> None:
        """In the child of a fork: a thread that is not here may have held the lock, and loops and clients are the parent's."""
        self._lock = threading.Lock()
        self._async_clients = AsyncClients()

    def _connect(self) -> Client:
        self._check_environment()
        return Client(self._brokers, **self._client_options)

    def _check_environment(self) -> None:
        if os.environ.get("TQ_API_KEY"):
            raise Unsupported("TQ_API_KEY is set, but clients cannot be authenticated yet: unset it")

    @contextmanager
    def use(self, client: Any) -> Iterator[Any]:
        """For tests: within the block all requests of this app go to ``client``, which has the methods of a Client. Coroutines
        use its ``async_client``, if it has one."""
        self._stand_ins.append(client)
        try:
            yield client
        finally:
            self._stand_ins.remove(client)

    async def ask(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """A verb of the client, awaited: by the ``AsyncClient`` of this event loop if there is one, else in a thread."""
        client = self._async_client_here()
        if client is None:
            return await in_thread(self.client, verb, *args, **kwargs)
        return await getattr(client, verb)(*args, **kwargs)

    @property
    def async_client(self) -> AsyncClient:
        """The client of this event loop. Raises InvalidState outside of ``async with app:``."""
        client = self._async_client_here()
        if client is None:
            raise InvalidState("this event loop has no client of the app: use it inside of `async with app:`")
        return client

    def _async_client_here(self) -> AsyncClient | None:
        if self._stand_ins:
            stand_in: AsyncClient | None = getattr(self._stand_ins[-1], "async_client", None)
            return stand_in
        return self._async_clients.here()

    def close(self) -> None:
        """Close the connection. Safe to call twice; an app that is used again connects again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._owner == os.getpid():
            client.close()

    async def __aenter__(self) -> Self:
        """Open an ``AsyncClient`` for the coroutines of this event loop; it is closed by the task that leaves the block."""
        from tq.client.asynchronous import AsyncClient

        self._check_environment()
        await self._async_clients.enter(AsyncClient(self._brokers, **self._client_options))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._async_clients.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _name_of(function: Any) -> str:
    try:
        return name_of(function)
    except AttributeError:
        raise ConfigError(f"{function!r} has no name: say @app.task(name=...)") from None


def _check_function(name: str, function: Any) -> None:
    if isinstance(function, classmethod) or not callable(function):
        raise ConfigError(
            f"task {name}: {function!r} is no function; declare a function of a module, or a static method"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"task {name}: it yields, and a task returns; return a list, or submit a task for each item")


def _executor(definition: Definition, options: Mapping[str, Any]) -> Executor | None:
    executor, runtime = options.get("executor"), options.get("runtime")
    if definition.is_async:
        if executor is not None:
            raise ConfigError(f'task {definition.name} is async def: choose its loop, runtime="trio" or "asyncio"')
        if runtime is not None and runtime not in RUNTIMES:
            raise ConfigError(f'task {definition.name} has runtime={runtime!r}: use "trio" or "asyncio"')
        return RUNTIMES[runtime or "trio"]
    if runtime is not None:
        raise ConfigError(f"task {definition.name} is def and has no event loop: runtime= is for async def")
    if executor not in (None, "thread", "process"):
        raise ConfigError(f'task {definition.name} has executor={executor!r}: use "thread" or "process"')
    return executor or "thread"
