"""Traces from a submit to the attempts that it led to, with OpenTelemetry.

    app = App(middleware=[TracingClient()], worker_middleware=[TracingWorker()])

A submit is a span of kind PRODUCER, whose context travels in the task's headers (``traceparent``, or whatever your propagator
writes). Each attempt is a span of kind CONSUMER, with a **link** to the submit and a trace of its own: a task may
start hours later, or ten times, and a trace that waits for it would never end. ``child=True`` makes it a child of the submit instead,
for tasks that follow at once.

Wants ``opentelemetry-api``: ``pip install tq[otel]``. Without an SDK that is set up, nothing is written and nothing travels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from tq.client.middleware import ClientMiddleware
from tq.client.models import Submitted
from tq.client.specs import TaskSpec
from tq.errors import TqError
from tq.verdicts import RetryAfter, Snooze, Verdict
from tq.version import VERSION
from tq.worker.context import Context
from tq.worker.middleware import Middleware

SYSTEM = "tq"


def _attributes(type: str, queue: str, operation: str, **more: Any) -> dict[str, Any]:
    """By OpenTelemetry's conventions for messaging, as far as they fit."""
    return {
        "messaging.system": SYSTEM, "messaging.operation.type": operation, "messaging.destination.name": queue,
        "tq.task.type": type, **more,
    }  # fmt: skip


class TracingClient(ClientMiddleware):
    """tracer_provider: the global one unless given."""

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("tq", VERSION, tracer_provider)

    def before_submit(self, spec: TaskSpec) -> TaskSpec:
        """The span is as short as the submit is for the caller: what the broker does is not in it."""
        attributes = _attributes(spec.type, spec.queue, "send")
        with self._tracer.start_as_current_span(f"send {spec.type}", kind=SpanKind.PRODUCER, attributes=attributes):
            headers = dict(spec.headers or {})
            propagate.inject(headers)
        return attrs.evolve(spec, headers=headers) if headers else spec

    def after_submit(self, spec: TaskSpec, submitted: Submitted) -> None:
        """The span of the caller learns the id, or the refusal."""
        error: TqError | None = submitted.error
        name = "tq.task.refused" if error is not None else "tq.task.submitted"
        attributes = {"tq.task.outcome": submitted.outcome, "messaging.message.id": submitted.id}
        trace.get_current_span().add_event(name, attributes)


class TracingWorker(Middleware):
    """
    Args:
        child: an attempt belongs to the trace of its submit, instead of being linked to it.
        tracer_provider: the global one unless given.
    """

    def __init__(self, *, child: bool = False, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("tq", VERSION, tracer_provider)
        self._is_child = child

    def around(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        with self._span(ctx):
            return call_next()

    async def around_async(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        with self._span(ctx):
            return await call_next()

    @contextmanager
    def _span(self, ctx: Context) -> Iterator[Span]:
        sender = propagate.extract(ctx.headers)
        sent = trace.get_current_span(sender).get_span_context()
        more: dict[str, Any] = (
            {"context": sender} if self._is_child else {"links": [Link(sent)] if sent.is_valid else []}
        )
        attributes = _attributes(
            ctx.type, ctx.queue, "process",
            **{"messaging.message.id": ctx.id, "tq.task.attempt": ctx.attempt, "tq.task.fence": str(ctx.fence)},
        )  # fmt: skip
        with self._tracer.start_as_current_span(
            f"process {ctx.type}", kind=SpanKind.CONSUMER, attributes=attributes, record_exception=False,
            set_status_on_exception=False, **more,
        ) as span:  # fmt: skip
            try:
                yield span
            except Snooze:
                span.add_event("snoozed")
                raise
            except BaseException as error:
                if not isinstance(error, Verdict) or isinstance(error, RetryAfter):
                    span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
                raise
