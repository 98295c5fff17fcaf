"""--watch, which is the same for all commands that have it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.fake import FakeClient, run, task
from tq.cli.base import wrapped
from tq.client.models import Page, QueueInfo
from tq.errors import BrokerUnavailable

COMMANDS = {
    "list": "list", "queues": "queues", "queue-depth": "queues", "workers": "workers", "stats": "stats",
    "cluster-status": "cluster_status",
}  # fmt: skip
"""Command -> the verb that it asks again and again."""


def watched(
    command: str, *args: str, answers: list[Any] | None = None, looks: int = 3, **how: Any
) -> tuple[Result, list[float]]:
    """Ctrl-C after so many looks. answers: of the verb, an error is raised; the last one stays."""
    paused: list[float] = []
    client = FakeClient()
    if answers is not None:
        left = list(answers)

        def answer(**_fields: Any) -> Any:
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Exception):
                raise found
            return found

        client.answers[COMMANDS[command]] = answer

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == looks:
            raise KeyboardInterrupt

    return run(client, command, *args, pause=pause, **how), paused


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_of_json_a_look_until_ctrl_c(command: str) -> None:
    result, paused = watched(command, "--watch", "--output", "json")
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 3
    assert paused == [1.0] * 3
    assert result.exit_code == 130


@pytest.mark.parametrize("command", COMMANDS)
def test_a_broker_that_is_lost_is_said_and_looked_for(command: str) -> None:
    known = FakeClient().answers[COMMANDS[command]]
    result, _paused = watched(
        command, "-w", "-o", "json", answers=[known, BrokerUnavailable("no broker answers"), known]
    )
    assert len(result.stdout.splitlines()) == 2
    assert "tq: no broker answers" in result.stderr


def test_every_says_how_often_and_means_watch() -> None:
    assert watched("queues", "--every", "5s", "-o", "json")[1] == [5.0] * 3
    assert watched("queues", "--watch", "--every", "1m", "-o", "json")[1] == [60.0] * 3
    for wrong in ("0", "soon"):
        result, _paused = watched("queues", "--every", wrong)
        assert result.exit_code == 2
        assert "--every" in result.stderr


def test_a_terminal_is_drawn_anew() -> None:
    result, _paused = watched("queues", "--watch", terminal=True)
    assert result.stdout.count("\x1b[H\x1b[2J") == 3
    assert result.stdout.count("every 1s, at 13:46:40 UTC; Ctrl-C ends\n") == 3


def test_a_terminal_gets_no_more_lines_than_it_has() -> None:
    many = Page([task() for _ in range(100)], None)
    result, _paused = watched("list", "--watch", answers=[many], looks=1, terminal=True, size=(160, 24))
    assert len(result.stdout.splitlines()) + len(result.stderr.splitlines()) <= 24
    assert "and 81 more that have no room here" in result.stderr
    queues = [QueueInfo(f"q{number}", pending={"low": 1}) for number in range(60)]
    result, _paused = watched("queue-depth", "--watch", answers=[queues], looks=1, terminal=True, size=(100, 24))
    assert len(result.stdout.splitlines()) + len(result.stderr.splitlines()) <= 24


def test_what_has_no_room_is_said_within_the_lines_too() -> None:
    many = Page([task() for _ in range(100)], None)
    result, _paused = watched("list", "--watch", answers=[many], looks=1, terminal=True, size=(40, 12))
    said = [line for text in result.stderr.splitlines() for line in wrapped(text, 40).splitlines()]
    assert said[0] == "and 95 more that have no room here"
    assert len(said) > 2  # the columns that have no room take two lines or more
    assert len(result.stdout.splitlines()) + len(said) <= 12
    numbers = {f"n{number}": number for number in range(60)}
    result, _paused = watched("stats", "--watch", answers=[numbers], looks=1, terminal=True, size=(80, 24))
    assert len(result.stdout.splitlines()) + len(result.stderr.splitlines()) <= 24
    assert "n0   0" in result.stdout
    assert "and 40 more that have no room here" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dumb_terminal_gets_no_escape_codes(command: str) -> None:
    result, _paused = watched(command, "--watch", looks=2, terminal=True, colour=True, term="dumb")
    assert "\x1b" not in result.stdout + result.stderr
    first, second = result.stdout.split("\n\n")
    assert first.splitlines() == second.splitlines()


def test_a_pipe_has_a_table_a_look_and_yaml_a_document() -> None:
    result, _paused = watched("queues", "--watch", looks=2)
    first, second = result.stdout.split("\n\n")
    assert first.splitlines() == second.splitlines()
    assert watched("queues", "--watch", "-o", "yaml")[0].stdout.count("---\n") == 3
