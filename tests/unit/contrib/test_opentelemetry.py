"""Spans as a real SDK sees them, on a broker in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tq.app.app import App
from tq.client.specs import Retry
from tq.contrib.opentelemetry import TracingClient, TracingWorker
from tq.errors import NotFound, TaskFailed
from tq.testing import MemoryBroker, memory_broker
from tq.verdicts import Snooze
from tq.worker.context import current


class Traced:
    def __init__(self, *, child: bool) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.app = App(
            middleware=[TracingClient(self.provider)],
            worker_middleware=[TracingWorker(child=child, tracer_provider=self.provider)],
        )

        @self.app.task(name="greet", retry=Retry(max_attempts=2, backoff_base=1))
        def greet(name: str) -> str:
            if name == "later" and self.started < 1:
                self.started += 1
                raise Snooze(1)
            if name == "nobody":
                raise ValueError("who?")
            return current().headers.get("traceparent", "")

        @self.app.task(name="agreet")
        async def agreet() -> str:
            return "hello"

        self.greet, self.agreet, self.started = greet, agreet, 0

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]


@pytest.fixture(params=[False, True], ids=["linked", "child"])
def traced(request: pytest.FixtureRequest) -> Traced:
    return Traced(child=request.param)


@pytest.fixture
def broker(traced: Traced) -> Iterator[MemoryBroker]:
    with memory_broker() as broker:
        client = broker.new_client(middleware=[TracingClient(traced.provider)])
        with traced.app.use(client):
            broker.worker(traced.app)
            yield broker


def test_an_attempt_knows_its_submit(traced: Traced, broker: MemoryBroker, request: pytest.FixtureRequest) -> None:
    tracer = traced.provider.get_tracer("test")
    with tracer.start_as_current_span("request") as outer:
        handle = traced.greet.submit("Ada")
    sent_as = handle.result(timeout=10)
    (send,), (process,) = traced.spans(SpanKind.PRODUCER), traced.spans(SpanKind.CONSUMER)
    assert send.parent is not None
    assert send.parent.span_id == outer.get_span_context().span_id
    assert sent_as.split("-")[1:3] == [f"{send.context.trace_id:032x}", f"{send.context.span_id:016x}"]
    assert process.attributes is not None
    assert process.attributes["messaging.message.id"] == handle.id
    assert (process.name, send.name) == ("process greet", "send greet")
    if "child" in request.node.name:
        assert process.parent is not None
        assert process.parent.span_id == send.context.span_id
    else:
        assert process.parent is None
        assert [link.context.span_id for link in process.links] == [send.context.span_id]
    assert traced.exporter.get_finished_spans()[1].events[0].name == "tq.task.submitted"


def test_each_attempt_is_a_span_and_failures_are_told(traced: Traced, broker: MemoryBroker) -> None:
    with pytest.raises(TaskFailed):
        traced.greet.submit("nobody").result(timeout=60)
    first, second = traced.spans(SpanKind.CONSUMER)
    assert first.status.status_code is second.status.status_code is StatusCode.ERROR
    assert [event.name for event in first.events] == ["exception"]
    assert [(span.attributes or {})["tq.task.attempt"] for span in (first, second)] == [1, 2]


def test_a_snooze_is_no_failure(traced: Traced, broker: MemoryBroker) -> None:
    traced.greet.submit("later").result(timeout=60)
    first, second = traced.spans(SpanKind.CONSUMER)
    assert first.status.status_code is second.status.status_code is StatusCode.UNSET
    assert [event.name for event in first.events] == ["snoozed"]


def test_coroutines_too(traced: Traced, broker: MemoryBroker) -> None:
    assert traced.agreet.submit().result(timeout=10) == "hello"
    assert [span.name for span in traced.spans(SpanKind.CONSUMER)] == ["process agreet"]


def test_without_an_sdk_nothing_travels() -> None:
    app = App()
    app.task(name="plain")(lambda: None)
    with memory_broker() as broker:
        with app.use(broker.new_client(middleware=[TracingClient()])):
            handle = app.tasks["plain"].submit()
            assert handle.status().headers == {}
        with pytest.raises(NotFound):
            broker.client.get("0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90")
