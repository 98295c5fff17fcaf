"""Logs as another process would read them from standard error."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import datetime

import pytest
import structlog

from tq import logs
from tq.errors import ConfigError

SECRET = "payload-of-a-customer"


def logged(level: str, format_: str, code: str) -> str:
    """Standard error of a process that configures logs and runs ``code``; standard output must stay empty."""
    program = f"import structlog; from tq import logs; logs.configure({level!r}, {format_!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


FAILS = f"""
log = structlog.get_logger("tq.test")
def handler():
    secret = {SECRET!r}
    raise ValueError("no such mailbox")
try:
    handler()
except ValueError:
    log.exception("handler raised", task="t1")
"""


def test_json_is_one_object_a_line() -> None:
    code = 'log = structlog.get_logger().bind(node="n1"); log.info("serves", index=7, raw=b"x"); log.warning("two\\nlines")'
    first, second = map(json.loads, logged("info", "json", code).splitlines())
    assert (first["event"], first["level"], first["node"], first["index"]) == ("serves", "info", "n1", 7)
    assert first["raw"] == "b'x'"  # what JSON has no word for is shown, not refused
    assert datetime.fromisoformat(first["timestamp"]).utcoffset() is not None
    assert (second["event"], second["level"]) == ("two\nlines", "warning")


def test_text_is_for_people() -> None:
    line = logged("info", "text", 'structlog.get_logger().bind(node="n1").info("serves", index=7)')
    assert "[info" in line
    assert "serves" in line
    assert "node=n1" in line
    assert "index=7" in line
    assert "\x1b" not in line  # no colours where nobody sees them


@pytest.mark.parametrize(
    ("environ", "is_coloured"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)]
)
def test_a_terminal_has_colours_if_it_can_show_them(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], is_coloured: bool
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (renderer,) = logs._text()
    text = renderer(None, "info", {"event": "serves", "level": "info"})  # type: ignore[arg-type]
    assert ("\x1b" in str(text)) == is_coloured


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_level(level: str, expected: list[str]) -> None:
    code = "log = structlog.get_logger()\nfor level in ('debug', 'info', 'warning', 'error'): getattr(log, level)('x')"
    assert [json.loads(line)["level"] for line in logged(level, "json", code).splitlines()] == expected


def test_a_logger_made_before_follows() -> None:
    code = 'logs.configure("error", "json"); log.info("quiet"); log.error("loud")'
    program = f'log = structlog.get_logger("early")\n{code}'
    assert [json.loads(line)["event"] for line in logged("info", "json", program).splitlines()] == ["loud"]


def test_context_is_added() -> None:
    code = 'structlog.contextvars.bind_contextvars(task="t1"); structlog.get_logger().info("runs")'
    assert json.loads(logged("info", "json", code))["task"] == "t1"


def test_a_traceback_in_json_has_frames_and_no_variables() -> None:
    (line,) = logged("info", "json", FAILS).splitlines()
    error = json.loads(line)["exception"][0]
    assert (error["exc_type"], error["exc_value"]) == ("ValueError", "no such mailbox")
    assert [frame["name"] for frame in error["frames"]] == ["<module>", "handler"]
    assert SECRET not in line


def test_a_traceback_in_text_has_frames_and_no_variables() -> None:
    text = logged("info", "text", FAILS)
    assert "in handler" in text
    assert "ValueError: no such mailbox" in text
    assert SECRET not in text


@pytest.mark.parametrize(("level", "format_"), [("loud", "text"), ("INFO", "text"), ("info", "xml")])
def test_what_is_not_known_is_refused(level: str, format_: str) -> None:
    with pytest.raises(ConfigError, match="must be one of"):
        logs.configure(level, format_)


# ---- nobody reads ----------------------------------------------------------------------------------


class Stream:
    """Takes ``takes`` bytes a call; 0 is a stream that would have to wait, an error is raised."""

    def __init__(self, takes: int | OSError = 1 << 20) -> None:
        self.takes = takes
        self.written = b""

    def write(self, data: memoryview, /) -> int | None:
        if isinstance(self.takes, OSError):
            raise self.takes
        taken = bytes(data[: self.takes])
        self.written += taken
        return len(taken) or None


@pytest.mark.parametrize("takes", [BrokenPipeError(), OSError(errno.ENOSPC, "disk full"), 0])
@pytest.mark.parametrize("format_", logs.FORMATS)
def test_what_could_not_be_written_is_told_once_it_can(takes: int | OSError, format_: str) -> None:
    stream = Stream()
    lines = logs.Lines(stream, format_)
    lines.write("one\n")
    stream.takes = takes
    lines.write("two\n")
    lines.write("three\n")
    assert (stream.written, lines.lost) == (b"one\n", 2)
    stream.takes = 3
    lines.write("four \udce9\n")
    first, told, last = stream.written.decode().splitlines()
    assert (first, last, lines.lost) == ("one", "four \\udce9", 0)
    assert "could not be written" in told
    assert (json.loads(told)["lost"] == 2) if format_ == "json" else told.endswith("lost=2")


def test_a_process_whose_log_nobody_reads_lives_on() -> None:
    program = """
import sys, structlog
from tq import logs
logs.configure("info", "text")
log = structlog.get_logger()
sys.stdin.readline()  # by now the reader has gone
for n in range(1000):
    log.info("still here", n=n, text="x" * 1000)
print("alive", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    out, _ = process.communicate("go on\n", timeout=60)
    assert (out, process.returncode) == ("alive\n", 0)


def test_silence_lets_only_the_worst_through(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        logs.silence()
        log = structlog.get_logger()
        log.error("a simulated fault")
        log.critical("this is none")
    finally:
        structlog.configure(**before)
    said = "".join(capsys.readouterr())
    assert "this is none" in said
    assert "a simulated fault" not in said
