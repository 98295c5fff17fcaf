"""The shape of Celery's calls, on tq: for moving a program over one task at a time.

    from tq.contrib.celery import Celery

    app = Celery("shop", broker="127.0.0.1:7379")

    @app.task(bind=True, max_retries=3)
    def charge(self, order, amount=1): ...

    charge.delay(4711)
    charge.apply_async((4711,), {"amount": 2}, countdown=60).get(timeout=10)

Nothing of Celery is needed. What stands here does as Celery does; what tq has not (chains, groups, rate limits) or does
otherwise on purpose (pickle) is refused by name, never taken and ignored. docs/celery.md has the whole list.

One thing differs whatever one says: a task runs **at least** once, as with ``acks_late`` and ``task_reject_on_worker_lost``.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import update_wrapper
from typing import Any, Final, NoReturn

from tq.app.app import App
from tq.app.handle import TaskHandle
from tq.app.names import name_of
from tq.app.task import Task
from tq.client.ids import TaskId
from tq.client.models import TaskInfo
from tq.client.specs import Retry
from tq.errors import ConfigError, NotFound, TaskCancelled, TaskExpired, TaskFailed, TaskSkipped, Unsupported
from tq.verdicts import RetryAfter
from tq.worker.context import Context, current
from tq.worker.handlers import Handlers

RETRIES_DEFAULT: Final = 3
RETRY_DELAY_DEFAULT: Final = 180.0
BACKOFF_MAX_DEFAULT: Final = 600.0
JITTER_SHARE: Final = 0.5

PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED = "PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"
_STATES: Final = {
    "waiting": PENDING, "scheduled": PENDING, "pending": PENDING, "running": STARTED, "completed": SUCCESS,
    "dead": FAILURE, "cancelled": REVOKED, "expired": REVOKED, "skipped": REVOKED,
}  # fmt: skip

_ALWAYS: Final = {
    "acks_late": True, "acks_on_failure_or_timeout": True, "reject_on_worker_lost": True, "track_started": True,
    "serializer": "json", "store_errors_even_if_ignored": True,
}  # fmt: skip
"""What is so whatever one says: the same value is taken, another one refused."""


class NotHere(Unsupported, AttributeError):
    """A name that Celery has and this has not."""


class MaxRetriesExceededError(Exception):
    """``self.retry()`` in the last attempt, without an exception of its own."""


class Celery:
    """An ``App`` in the shape of Celery's. ``tq worker MODULE`` runs it, ``tq.testing`` takes it; ``tq`` is the App itself.

    Args:
        main: as in Celery, a name; tasks are named after their modules anyway.
        broker: ``"host:port,..."``; ``TQ_BROKERS``, then ``127.0.0.1:7379`` unless given.
        task_default_queue: where tasks wait that name no queue.

    Raises:
        ConfigError: ``broker`` is the URL of something else, or there is a ``backend``.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        task_default_queue: str = "default",
    ) -> None:
        if broker is not None and "://" in broker:
            raise ConfigError(f"broker={broker!r}: tq has brokers of its own; give their addresses, as 127.0.0.1:7379")
        if backend is not None:
            raise ConfigError(f"backend={backend!r}: the brokers keep results; leave it out")
        self.main = main
        self.tq = App(broker)
        self.task_default_queue = task_default_queue
        self.tasks: dict[str, CeleryTask] = {}

    # ---- what tq asks of an app ----------------------------------------------------------------------

    @property
    def handlers(self) -> Handlers:
        return self.tq.handlers

    @property
    def worker_middleware(self) -> list[Any]:
        return self.tq.worker_middleware

    @property
    def resources(self) -> Mapping[str, Any]:
        return self.tq.resources

    @property
    def queues(self) -> list[str]:
        return self.tq.queues

    @property
    def brokers(self) -> str | None:
        """See ``App.brokers``."""
        return self.tq.brokers

    @brokers.setter
    def brokers(self, brokers: str | None) -> None:
        self.tq.brokers = brokers

    def use(self, client: Any) -> Any:
        """See ``App.use``."""
        return self.tq.use(client)

    # ---- what Celery has -----------------------------------------------------------------------------

    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """``@app.task`` and ``@app.task(bind=True, max_retries=5, ...)``.

        Takes name, bind, queue, priority (0 to 255, higher first), max_retries, default_retry_delay, autoretry_for,
        dont_autoretry_for, retry_backoff, retry_backoff_max, retry_jitter, retry_kwargs, time_limit, soft_time_limit,
        expires, ignore_result.

        Raises:
            Unsupported: there is no such thing here; it is named.
        """
        if function is not None:
            return self._declare(function, options)
        return lambda function: self._declare(function, options)

    def _declare(self, function: Callable[..., Any], options: Mapping[str, Any]) -> CeleryTask:
        task = CeleryTask(self, function, {"queue": self.task_default_queue, **options})
        self.tasks[task.name] = task
        return task

    def send_task(
        self, name: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Submit a task of this app by its name. Raises NotFound: the app has none of that name."""
        if name not in self.tasks:
            raise NotFound(f"this app has no task {name!r}; it has {', '.join(sorted(self.tasks)) or 'none'}")
        return self.tasks[name].apply_async(args, kwargs, **options)

    def AsyncResult(self, id: TaskId) -> AsyncResult:
        return AsyncResult(self.tq, self.tq.handle(id))

    def close(self) -> None:
        self.tq.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotHere(f"Celery has {name!r}, and this has not: docs/celery.md says what to use instead")


class CeleryTask:
    """Calling it runs the function here. ``tq`` is the task of the App."""

    def __init__(self, app: Celery, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.app = app
        self._is_bound = bool(options.get("bind"))
        self._function = function
        self.max_retries = options.get("max_retries", RETRIES_DEFAULT)
        settings = _settings(options)
        self.default_retry_delay = float(options.get("default_retry_delay", RETRY_DELAY_DEFAULT))
        self.tq: Task[..., Any] = app.tq.task(
            name=options.get("name") or name_of(function), give_up_on=_gives_up(options), **settings
        )(self._as_called())
        update_wrapper(self, function)

    @property
    def name(self) -> str:
        return self.tq.name

    def __repr__(self) -> str:
        return f"<CeleryTask {self.name}>"

    def _as_called(self) -> Callable[..., Any]:
        """The function without ``self``, with its signature."""
        if not self._is_bound:
            return self._function
        signature = inspect.signature(self._function)

        def bound(*args: Any, **kwargs: Any) -> Any:
            return self._function(self, *args, **kwargs)

        update_wrapper(bound, self._function)
        del bound.__dict__["__wrapped__"]  # it has one parameter more
        parameters = list(signature.parameters.values())[1:]
        bound.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return bound

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._as_called()(*args, **kwargs)

    run = __call__

    # ---- submitting ----------------------------------------------------------------------------------

    def delay(self, /, *args: Any, **kwargs: Any) -> AsyncResult:
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Takes countdown, eta, expires, queue, priority, task_id, headers, time_limit, soft_time_limit, ignore_result.

        Raises:
            Unsupported: there is no such option here. InvalidRequest: the arguments do not fit the function.
        """
        task = self.tq.options(**_submit_options(options)) if options else self.tq
        return AsyncResult(self.app.tq, task.submit(*(args or ()), **(kwargs or {})))

    # ---- in a handler --------------------------------------------------------------------------------

    @property
    def request(self) -> Request:
        """Of the task that runs here. Raises NotInHandler."""
        return Request(current())

    def retry(
        self,
        exc: BaseException | None = None,
        countdown: float | None = None,
        eta: datetime.datetime | None = None,
        max_retries: int | None = None,
    ) -> NoReturn:
        """Ends this attempt, and lets the next one begin after ``countdown`` seconds. In the last attempt ``exc`` is raised.

        Raises:
            Unsupported: more retries than the task was submitted with, or an ``eta``.
        """
        if eta is not None:
            raise Unsupported("self.retry(eta=...): give the seconds as countdown=")
        if max_retries is not None and (self.max_retries is None or max_retries > self.max_retries):
            raise Unsupported(
                f"self.retry(max_retries={max_retries}): the task has {self.max_retries}; say more in @app.task(max_retries=...)"
            )
        bound = self.max_retries if max_retries is None else max_retries
        retries = self.request.retries
        if bound is not None and retries >= bound:
            raise exc or MaxRetriesExceededError(f"{self.name} was tried again {retries} times")
        wait_s = self.default_retry_delay if countdown is None else countdown
        raise RetryAfter(wait_s, f"retry {retries + 1} in {wait_s:g} s: {exc!r}") from exc

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotHere(f"a task of Celery has {name!r}, and this has not: docs/celery.md says what to use instead")


class Request:
    """``self.request``: what Celery tells of the task that runs."""

    def __init__(self, context: Context) -> None:
        self.id = context.id
        self.task = context.type
        self.retries = context.attempt - 1
        self.headers = dict(context.headers)
        self.delivery_info = {"routing_key": context.queue, "redelivered": context.crashes > 0}


class AsyncResult:
    """A ``TaskHandle`` in the shape of Celery's result; ``tq`` is the handle."""

    def __init__(self, app: App, handle: TaskHandle[Any]) -> None:
        self.tq = handle
        self._app = app

    @property
    def id(self) -> str:
        return self.tq.id

    task_id = id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def get(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """What the function returned. Raises what ``TaskHandle.result`` does; without ``propagate`` it returns a failure instead.

        Raises WaitTimeout, where Celery raises a TimeoutError of its own.
        """
        try:
            return self.tq.result(timeout)
        except (TaskFailed, TaskCancelled, TaskExpired, TaskSkipped) as error:
            if propagate:
                raise
            return error

    def _info(self) -> TaskInfo | None:
        try:
            return self.tq.status()
        except NotFound:
            return None

    @property
    def state(self) -> str:
        """PENDING (also of a task that nobody knows, as in Celery), STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        info = self._info()
        if info is None:
            return PENDING
        if info.state == "scheduled" and info.attempt:
            return RETRY
        return _STATES[info.state]

    status = state

    def ready(self) -> bool:
        return self.state in (SUCCESS, FAILURE, REVOKED)

    def successful(self) -> bool:
        return self.state == SUCCESS

    def failed(self) -> bool:
        return self.state == FAILURE

    @property
    def result(self) -> Any:
        """The value, the failure, or None while there is neither."""
        return self.get(timeout=0, propagate=False) if self.ready() else None

    @property
    def traceback(self) -> str | None:
        info = self._info()
        return None if info is None or not info.error else info.error[2]

    def revoke(self, terminate: bool = False, wait: bool = False, timeout: float | None = None) -> None:
        """Cancel it. A running one is stopped with or without ``terminate``."""
        self.tq.cancel(wait=(timeout or 30.0) if wait else None)

    def forget(self) -> None:
        """Remove an ended task, with its result. Raises InvalidState while it has not ended."""
        self._app.client.purge(self.id)


# ---- options -----------------------------------------------------------------------------------------------


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Celery's options of a declaration as ours. Raises Unsupported."""
    left = dict(options)
    for known in ("name", "bind", "autoretry_for", "dont_autoretry_for", "retry_kwargs"):
        left.pop(known, None)
    settings = _common(left)
    settings["retry"] = _retry(left, options.get("retry_kwargs") or {})
    settings["queue"] = left.pop("queue")
    expires = left.pop("expires", None)
    if expires is not None:
        settings["expires_in"] = _seconds_left(expires)
    _refuse(left)
    return settings


def _submit_options(options: Mapping[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in options.items() if value is not None}
    settings = _common(left)
    for theirs, ours in (
        ("countdown", "delay"),
        ("eta", "not_before"),
        ("task_id", "id"),
        ("queue", "queue"),
        ("headers", "headers"),
    ):
        if theirs in left:
            settings[ours] = left.pop(theirs)
    if "expires" in left:
        settings["expires_in"] = _seconds_left(left.pop("expires"))
    _refuse(left)
    return settings


def _common(left: dict[str, Any]) -> dict[str, Any]:
    """Takes out of ``left`` what a declaration and a submit both have."""
    settings: dict[str, Any] = {}
    limits_s = [left.pop(name) for name in ("time_limit", "soft_time_limit") if left.get(name) is not None]
    if limits_s:
        settings["timeout"] = float(min(limits_s))
    if "priority" in left:
        settings["priority"] = left.pop("priority")
    if left.pop("ignore_result", False):
        settings["result_ttl"] = 0
    for name, value in _ALWAYS.items():
        if name in left and left[name] == value:
            del left[name]
    return settings


def _retry(left: dict[str, Any], more: Mapping[str, Any]) -> Retry:
    retries = more.get("max_retries", left.pop("max_retries", RETRIES_DEFAULT))
    left.pop("max_retries", None)
    if retries is None:
        raise Unsupported("max_retries=None: there is no task without end; give a number, as 1000")
    delay_s = float(more.get("countdown", left.pop("default_retry_delay", RETRY_DELAY_DEFAULT)))
    left.pop("default_retry_delay", None)
    backoff, cap_s = left.pop("retry_backoff", False), float(left.pop("retry_backoff_max", BACKOFF_MAX_DEFAULT))
    jitter = JITTER_SHARE if left.pop("retry_jitter", True) and backoff else 0.0
    if backoff:
        return Retry(int(retries) + 1, backoff_base=float(backoff), factor=2, cap=cap_s, jitter=jitter)
    return Retry(int(retries) + 1, backoff_base=delay_s, factor=1, cap=max(delay_s, 1.0), jitter=jitter)


def _gives_up(options: Mapping[str, Any]) -> Callable[[BaseException], bool]:
    """A failure is final, as in Celery, unless it stands in ``autoretry_for``."""
    retried = tuple(options.get("autoretry_for") or ())
    excluded = tuple(options.get("dont_autoretry_for") or ())
    return lambda error: not isinstance(error, retried) or isinstance(error, excluded)


def _refuse(left: Mapping[str, Any]) -> None:
    for name, value in left.items():
        if name in _ALWAYS:
            raise Unsupported(f"{name}={value!r}: it is {_ALWAYS[name]!r} here, whatever one says")
        raise Unsupported(f"{name}={value!r}: there is no such option here; docs/celery.md says what to use instead")


def _seconds_left(expires: float | datetime.datetime) -> float:
    if isinstance(expires, datetime.datetime):
        raise Unsupported("expires as a date: give the seconds from now")
    return float(expires)
