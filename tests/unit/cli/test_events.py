"""tq events: a line each, filtered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.fake import ID, FakeClient, FakeEvents, run
from tq.cli import events
from tq.cli.watch import QUIET_S
from tq.client.models import EVENT_KINDS, Page, TaskEvent
from tq.errors import BrokerUnavailable


def event(index: int, kind: str = "started", **fields: Any) -> TaskEvent:
    known = {"id": ID, "time": 1.5, "queue": "default", "type": "echo", "fence": 7}
    return TaskEvent(index, 0, kind, **{**known, **fields})


SOME = [event(9), event(10, "completed"), event(11, "failed", queue="mail", type="send", extra={"error": "no"})]


def test_lines_of_json() -> None:
    client = FakeClient(events=FakeEvents(SOME))
    result = run(client, "events", "--after", "8.3", "--limit", "2", "-o", "json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["kind"], row["fence"]) for row in rows] == [("started", "7"), ("completed", "7")]
    assert client.asked[0] == ("events", (None,), {"after": (8, 3), "timeout": QUIET_S})


def test_lines_of_a_pipe_and_of_one_task() -> None:
    client = FakeClient(events=FakeEvents(SOME))
    result = run(client, "events", ID)
    assert (
        result.stdout.splitlines()[2] == f'1970-01-01T00:00:01.500Z\t11.0\tfailed\t{ID}\tmail\tsend\t{{"error": "no"}}'
    )
    assert client.asked[0][1] == (ID,)


@pytest.mark.parametrize(
    ("args", "indexes"),
    [
        (["--kind", "failed"], [11]),
        (["--kind", "started,completed"], [9, 10]),
        (["-k", "started", "-k", "failed"], [9, 11]),
        (["--queue", "mail"], [11]),
        (["--type", "echo", "--limit", "1"], [9]),
        (["--type", "echo", "--queue", "mail"], []),
    ],
)
def test_filters(args: list[str], indexes: list[int]) -> None:
    result = run(FakeClient(events=FakeEvents(SOME)), "events", *args, "-o", "json")
    assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == indexes


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (160, f'00:00:01.500  failed      {ID}  send @mail {{"error": "no"}}'),
        (80, f'00:00:01.500  failed      {ID}  send @mail {{"er…'),
        (40, f"00:00:01.500  failed      {ID}  send @m…"),
    ],
)
def test_on_a_terminal_a_line_is_a_line(width: int, line: str) -> None:
    result = run(FakeClient(events=FakeEvents(SOME[2:])), "events", terminal=True, size=(width, 24))
    assert result.stdout == f"{line}\n"


def test_an_event_of_a_queue_names_no_task() -> None:
    paused = event(12, "queue_paused", id="", queue="mail", type="", extra=["ann@here", "holiday"])
    result = run(FakeClient(events=FakeEvents([paused])), "events", terminal=True, size=(100, 24))
    assert result.stdout == f"00:00:01.500  queue_paused  {'queue mail':<36}  ann@here,holiday\n"


def test_missing_events_are_said() -> None:
    class Gap(FakeEvents):
        complete = False

    result = run(FakeClient(events=Gap(SOME)), "events")
    assert result.stderr == "events are missing before 9.0: the broker keeps a bounded number of them\n"


def test_that_no_broker_answers_is_said_once_and_that_one_does_again() -> None:
    answers: list[Any] = [
        Page([], None),
        BrokerUnavailable("no broker"),
        BrokerUnavailable("no broker"),
        Page([], None),
    ]

    def list_(**_fields: Any) -> Page:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Page)
        return found

    happened = FakeEvents(SOME)
    happened.turns = 5
    result = run(FakeClient(events=happened, list=list_), "events")
    assert len(result.stdout.splitlines()) == len(SOME)
    assert result.stderr == "tq: no broker; waiting for a broker\ntq: a broker answers again\n"


@pytest.mark.parametrize("args", [["--kind", "nonsense"], ["--after", "x"], ["--after", "1"], ["--limit", "0"]])
def test_wrong_usage(args: list[str]) -> None:
    client = FakeClient()
    assert run(client, "events", *args).exit_code == 2
    assert client.asked == []


def test_kinds_are_those_of_the_client() -> None:
    assert set(events.KIND_COLOURS) <= set(EVENT_KINDS)
    assert events._kinds("c") == [kind for kind in EVENT_KINDS if kind[0] == "c"]
