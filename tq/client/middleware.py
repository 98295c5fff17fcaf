"""What users put between their calls and the wire: headers for tracing, defaults, refusals, counts and times.

One class for the blocking and the asynchronous client: nothing here waits. Middleware stands in a list; ``before_submit``
goes through it from first to last, ``after_submit`` from last to first, and ``around`` puts the first one outermost.
A client without middleware does not pay for it, one with it pays only for the methods that are overridden.

An exception is raised where the client was called. From ``before_submit`` (and from ``around``, before its steps) it
means that nothing was sent, of a batch too. From ``after_submit`` it comes when the task is in.
"""

from __future__ import annotations

from collections.abc import Iterable

from tq.client.models import Submitted
from tq.client.specs import TaskSpec
from tq.client.steps import T, Verb
from tq.errors import InvalidRequest


class ClientMiddleware:
    """Override what you need. One object may serve several clients, and threads, at once."""

    def before_submit(self, spec: TaskSpec) -> TaskSpec:
        """What is submitted instead: ``attrs.evolve(spec, headers=...)``, or ``spec`` as it is. Raise to refuse it."""
        return spec

    def after_submit(self, spec: TaskSpec, submitted: Submitted) -> None:
        """What became of it; ``spec`` is as it was sent. Not called where no answer came: ``around`` sees that."""

    def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
        """Round every request. ``verb``: ``"submit"``, ``"wait"``, ``"claim"`` ...

        Write a generator: ``result = yield from steps`` does the request, or raises its error; return the result. A
        caller that is cancelled ends it with ``GeneratorExit``. Events that come later are not requests.
        """
        return steps


class Chain:
    """The middleware of one client."""

    def __init__(self, middleware: Iterable[ClientMiddleware]) -> None:
        """Raises InvalidRequest for what is no middleware."""
        given = tuple(middleware)
        for one in given:
            if not isinstance(one, ClientMiddleware):
                raise InvalidRequest.of("middleware", one, "must be objects of subclasses of ClientMiddleware")
        self._befores = [one for one in given if type(one).before_submit is not ClientMiddleware.before_submit]
        self._afters = [one for one in reversed(given) if type(one).after_submit is not ClientMiddleware.after_submit]
        self._arounds = [one for one in reversed(given) if type(one).around is not ClientMiddleware.around]

    @property
    def sees_submits(self) -> bool:
        return bool(self._befores or self._afters)

    @property
    def sees_requests(self) -> bool:
        return bool(self._arounds)

    def before(self, spec: TaskSpec) -> TaskSpec:
        for one in self._befores:
            spec = one.before_submit(spec)
            if not isinstance(spec, TaskSpec):
                raise InvalidRequest.of(
                    "middleware", spec, f"{type(one).__name__}.before_submit must return a TaskSpec"
                )
        return spec

    def after(self, spec: TaskSpec, submitted: Submitted) -> None:
        for one in self._afters:
            one.after_submit(spec, submitted)

    def around(self, verb: str, steps: Verb[T]) -> Verb[T]:
        for one in self._arounds:
            steps = one.around(verb, steps)
        return steps
