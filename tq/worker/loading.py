"""A user's module that cannot be loaded: told from its own lines on, and not from the forty of ours that lead there."""

from __future__ import annotations

import importlib
import traceback
from types import TracebackType
from typing import Final

from tq.errors import ConfigError, TqError
from tq.worker import handlers

LOADERS: Final = (__file__.rpartition("loading")[0], importlib.__file__, "<frozen importlib")
"""Beginnings of the files whose frames stand before those of the module."""


def load_told(target: str) -> handlers.Loaded:
    """As ``handlers.load``. Raises ConfigError for what the module itself raises, too, with the traceback in the message."""
    try:
        return handlers.load(target)
    except TqError:
        raise
    except Exception as error:
        error.__traceback__ = behind_loaders(error.__traceback__)
        told = "".join(traceback.format_exception(error)).rstrip()
        raise ConfigError(f"module {target.partition(':')[0]!r} cannot be loaded:\n{told}") from error


def behind_loaders(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(LOADERS):
        trace = trace.tb_next
    return trace
