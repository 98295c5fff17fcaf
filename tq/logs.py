"""Logs: structlog on standard error, for people (text) or machines (one JSON object a line).

An event is a short phrase that never changes; what varies is in named values beside it. Tracebacks never show the
values of variables: tasks carry people's data.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

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
        format_: one of FORMATS. Text has colours on a terminal, unless NO_COLOR is set.

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
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _json() -> list[structlog.typing.Processor]:
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]


def _text() -> list[structlog.typing.Processor]:
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    # Not the default formatter: with rich installed, it prints the variables of each frame.
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]
