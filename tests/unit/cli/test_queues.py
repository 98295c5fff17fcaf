"""tq queues and tq queue-depth: what is set, and what waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.fake import FakeClient, run
from tq.cli import show
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
    assert done.stdout == "mail is paused; tq queues resume mail ends it\n"
    assert run(client, "queues", "resume", "mail").stdout == "mail is not paused\n"
    assert client.asked == [("pause", ("mail",), {"reason": "provider is down"}), ("resume", ("mail",), {})]
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
    assert client.asked == [("set_queue", ("mail",), settings)]


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


# ---- queue-depth -----------------------------------------------------------------------------------------


def depth(width: int, **how: Any) -> list[str]:
    return lines(run(FakeClient(queues=QUEUES), "queue-depth", terminal=True, size=(width, 24), **how).stdout)


def test_bars_by_band_wide() -> None:
    assert depth(100) == [
        "queue   pending  high  normal  low  running  oldest  scheduled  █ high ▓ normal ░ low",
        "mail          8     5       2    1        3    7m2s             ██▓░",
        "images       80            80                    3s          4  " + "▓" * 33,
        "idle",
    ]  # fmt: skip


def test_bars_by_band_narrow() -> None:
    assert depth(50) == [
        "queue   pending  high  normal",
        "mail          8     5       2  █▓░",
        "images       80            80  " + "▓" * 16,
        "idle",
        "█ high ▓ normal ░ low",
    ]  # fmt: skip
    assert max(map(len, depth(50))) <= 50


def test_bars_have_colours_where_they_are_wanted() -> None:
    assert "\x1b[31m" in "".join(depth(100, colour=True))
    assert "\x1b" not in "".join(depth(100))


def test_in_a_pipe_there_are_numbers_only() -> None:
    row = table(run(FakeClient(), "queue-depth").stdout)[0]
    assert (row["name"], row["high"], row["normal"], row["low"], row["pending_total"], row["running"]) == (
        "mail", "5", "2", "1", "8", "3"
    )  # fmt: skip
    assert json.loads(run(FakeClient(), "queue-depth", "-o", "json").stdout)[0]["pending"]["high"] == 5


def test_a_bar_shows_what_is_not_zero() -> None:
    bar = dict(show.bar({"high": 1, "low": 10_000}, 10_001, 40, show.BAND_MARKS))
    assert (len(bar["high"]), len(bar["low"])) == (1, 40)
    assert show.bar({}, 0, 40, show.BAND_MARKS) == []
    assert show.band_marks("latin-1") == show.BAND_MARKS_ASCII
    assert show.band_marks("utf-8") == show.band_marks(None) == show.BAND_MARKS
