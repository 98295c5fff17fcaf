"""tq workers."""

from __future__ import annotations

import json

from tests.unit.cli.fake import ID, NOW, FakeClient, run
from tq.client.models import WorkerInfo

BUSY = WorkerInfo(
    ID, "build-7-4711-aa", ("compute", "echo", "fail", "sleep"), ("default", "work"), 2, NOW - 422, NOW - 3, False,
    {"slots": 4, "version": "0.1.0"}, {"cpu_percent": 12.5, "rss_bytes": 73_400_320},
)  # fmt: skip
LEAVING = WorkerInfo(ID, "w2", ("echo",), ("default",), 1, NOW - 9, NOW - 1, True, {}, {"stuck": 1})


def test_for_people() -> None:
    result = run(FakeClient(workers=[BUSY, LEAVING]), "workers", terminal=True)
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "name             busy  queues        types                    heard  draining  stuck  cpu   memory  opened  version",
        "build-7-4711-aa  2/4   default,work  compute,echo,fail,sleep  3s                      12 %  70 MiB  7m2s    0.1.0",
        "w2               1     default       echo                     1s     yes           1                9s",
    ]


def test_on_a_narrow_terminal() -> None:
    result = run(FakeClient(workers=[BUSY]), "workers", terminal=True, size=(80, 24))
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "no room for" in result.stderr


def test_in_a_pipe_and_for_programs() -> None:
    client = FakeClient(workers=[BUSY])
    header, line = run(client, "workers").stdout.splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (row["name"], row["running"], row["types"], row["cpu_percent"], row["slots"]) == (
        "build-7-4711-aa", "2", "compute,echo,fail,sleep", "12.5", "4"
    )  # fmt: skip
    assert row["heard_at"] == "1970-01-12T13:46:37.000Z"
    assert json.loads(run(client, "workers", "-o", "json").stdout)[0]["info"]["slots"] == 4


def test_none() -> None:
    result = run(FakeClient(workers=[]), "workers", terminal=True)
    assert (result.stdout, result.stderr) == ("", "no workers: start one with tq worker MODULE\n")
