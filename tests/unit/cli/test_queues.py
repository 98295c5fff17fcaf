"""tq queues: what is set, and how it is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.fake import FakeClient, run
from tq.client.models import QueueInfo, QueuePause, QueueSettings
from tq.client.specs import Retry

QUEUES = [
    QueueInfo("mail", pending={"low": 1, "normal": 2, "high": 5}, running=3, oldest_ready_age=422.0),
    QueueInfo("images", pending={"normal": 80}, scheduled=4, oldest_ready_age=3.0),
    QueueInfo("idle"),
]
SET = QueueInfo(
    "mail",
    pending={"normal": 2},
    settings=QueueSettings(
        paused=QueuePause("ann", 1.0, "provider down"),
        max_length=10_000,
        timeout=30.0,
        finished_keep=7_200.0,
        retry=Retry(max_attempts=8),
    ),
)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def table(text: str) -> list[dict[str, str]]:
    header, *rest = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in rest]


# ---- queues --------------------------------------------------------------------------------------------


def test_the_queues_and_what_is_set() -> None:
    (row,) = table(run(FakeClient(queues=[SET]), "queues").stdout)
    assert (row["name"], row["pending_total"], row["paused"], row["max_length"], row["timeout"], row["finished_keep"], row["retry"]) == (
        "mail", "2", "by ann: provider down", "10000", "30s", "2h", "8 attempts, 5s x2 up to 1h"
    )  # fmt: skip
    shown = json.loads(run(FakeClient(queues=[SET]), "queues", "-o", "json").stdout)
    settings = shown[0]["settings"]
    assert (settings["paused"]["by"], settings["timeout"], shown[0]["pending_total"]) == ("ann", 30.0, 2)


def test_the_queues_on_a_narrow_terminal() -> None:
    result = run(FakeClient(queues=[SET, QUEUES[1]]), "queues", terminal=True, size=(58, 24))
    assert lines(result.stdout) == [
        "name    pending  running  scheduled  dead  paused",
        "mail          2        0          0     0  by ann: provid…",
        "images       80        0          4     0",
    ]
    assert "no room for max length" in result.stderr


def test_pause_and_resume() -> None:
    client = FakeClient()
    done = run(client, "queues", "pause", "mail", "--reason", "provider is down")
    assert run(client, "queues", "resume", "mail").stdout == "mail was not paused\n"
    client.answers["queues"] = [SET]
    assert done.stdout == "mail is paused; tq queues resume mail ends it\n"
    assert run(client, "queues", "resume", "mail").stdout == "mail is not paused any more\n"
    assert [asked for asked in client.asked if asked[0] != "queues"] == [
        ("pause", ("mail",), {"reason": "provider is down"}), ("resume", ("mail",), {}), ("resume", ("mail",), {})
    ]  # fmt: skip
    assert json.loads(run(client, "queues", "pause", "mail", "-o", "json").stdout)["paused"]["by"] == "ann@here"
    assert run(client, "queues", "set", "mail", "--max-length", "10000").stdout == "mail: max length 10000\n"


@pytest.mark.parametrize(
    ("args", "settings"),
    [
        (["--max-length", "10000"], {"max_length": 10_000}),
        (["--max-length", "default"], {"max_length": None}),
        (["--max-attempts", "8"], {"retry": Retry(max_attempts=8)}),
        (["--max-attempts", "default"], {"retry": None}),
        (["--attempt-timeout", "30s", "--expires-in", "1h"], {"timeout": 30.0, "expires_in": 3_600.0}),
        (["--result-ttl", "2d", "--keep-finished", "7d"], {"result_ttl": 172_800.0, "finished_keep": 604_800.0}),
        (["--keep-dead", "default"], {"dead_keep": None}),
    ],
)
def test_set(args: list[str], settings: dict[str, Any]) -> None:
    client = FakeClient()
    assert run(client, "queues", "set", "mail", *args).exit_code == 0
    assert client.asked[1:] == [("set_queue", ("mail",), settings)]


@pytest.mark.parametrize(
    "args",
    [
        ["set", "mail"],
        ["set", "mail", "--max-length", "many"],
        ["set", "mail", "--keep-dead", "x"],
        ["pause"],
        ["mail"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    client = FakeClient()
    assert run(client, "queues", *args).exit_code == 2
    assert client.asked == []


def test_no_queues_is_said() -> None:
    for command in ("queues", "queue-depth"):
        result = run(FakeClient(queues=[]), command, terminal=True)
        assert (result.stdout, result.stderr) == ("", "no queues yet: they come to be with their first task\n")
        assert run(FakeClient(queues=[]), command, "-o", "json").stdout == "[]\n"
