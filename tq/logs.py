"""Logs: structlog on standard error, for people (text) or machines (one JSON object a line).

An event is a short phrase that never changes; what varies is in named values beside it. Tracebacks never show the
values of variables: tasks carry people's data.

Whoever reads the log may go away, and its disk may be full: a broker does not end for that. What could not be written
is counted, and the count is the next line that can be.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import structlog

from tq.errors import ConfigError

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS: Final = ("text", "json")


def configure(level: str, format_: str) -> None:
    """Set up logging for this process; call once, first.

    Args:
        level: the least severe that is written, one of LEVELS.
        format_: one of FORMATS. Text has colours on a terminal, unless NO_COLOR is set or TERM is dumb.

    Raises:
        ConfigError: level or format is none of those.
    """
    for name, value, choices in (("level", level, LEVELS), ("format", format_, FORMATS)):
        if value not in choices:
            raise ConfigError(f'log {name} = "{value}": must be one of {", ".join(choices)}')
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_json() if format_ == "json" else _text()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=Lines(_unbuffered(), format_)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def silence() -> None:
    """Write nothing but what is critical: for whoever plays thousands of faults on purpose."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def hushed() -> Iterator[None]:
    """For a process that has not configured its logs: nothing below an error is written meanwhile."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.reset_defaults()


class Raw(Protocol):
    """An unbuffered stream: how much it took, or None if it would have to wait."""

    def write(self, data: memoryview, /) -> int | None: ...


class Lines:
    """What structlog writes to. Raises nothing; ``lost`` lines could not be written and were not told of yet."""

    def __init__(self, raw: Raw, format_: str) -> None:
        self.lost = 0
        self._raw = raw
        self._format = format_

    def write(self, text: str) -> None:
        try:
            if self.lost:
                self._write(self._told())
                self.lost = 0
            self._write(text)
        except OSError:
            self.lost += 1

    def flush(self) -> None:
        """Nothing is held back."""

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            taken = self._raw.write(rest)
            if not taken:
                raise BlockingIOError("the stream takes nothing now")
            rest = rest[taken:]

    def _told(self) -> str:
        event = "lines of the log could not be written"
        if self._format == "json":
            return json.dumps({"event": event, "level": "warning", "lost": self.lost}) + "\n"
        return f"[warning] {event} lost={self.lost}\n"


def _unbuffered() -> Raw:
    """Standard error below its buffers: after a failed write they would keep the line, and fail again at the end."""
    buffer = sys.stderr.buffer
    return getattr(buffer, "raw", buffer)


def _json() -> list[structlog.typing.Processor]:
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]


def _text() -> list[structlog.typing.Processor]:
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    # Not the default formatter: with rich installed, it prints the variables of each frame.
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
