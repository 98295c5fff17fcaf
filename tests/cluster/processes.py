"""Brokers and workers as processes, for tests: settings with short times, and waits that look instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tq.bench.processes import Broker, Ground, Process, ProcessFailed, free_ports

__all__ = ["SHORT_LEASES", "Broker", "Ground", "Process", "ProcessFailed", "eventually", "free_ports"]

SHORT_LEASES: Mapping[str, Mapping[str, Any]] = {
    "leases": {"lease_ms": 1_500, "heartbeat_ms": 400, "session_ms": 1_500},
    "limits": {"disk_free_min_bytes": 0},
}


def eventually(what: str, look: Callable[[], bool], process: Process, timeout: float = 30.0) -> None:
    """Wait until ``look()`` is true, while ``process`` lives. AssertionError with its log otherwise."""
    end = time.monotonic() + timeout
    while not look():
        assert process.alive, f"{process.name} ended while waiting for: {what}\n{process.tail()}"
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}\n{process.tail()}"
        try:
            process.wait(0.02)
        except ProcessFailed:
            pass  # it lives: look again
