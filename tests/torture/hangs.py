"""Calls that came back later than they may, told by when their writer wrote next."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tq.sim.checkers.history import Breach

CALL_SECONDS_MAX = 30.0
"""What a client gives a call unless told otherwise."""
SLACK_SECONDS = 8.0
"""The longest pause of the process itself, two calls in a row without a record, and a busy machine."""


def find(name: str, lines: Iterable[str]) -> tuple[list[Breach], float]:
    """Of one writer that does one thing after the other. The breaches, and the longest call in seconds."""
    called: tuple[str, int] | None = None
    longest = 0.0
    breaches = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break  # torn: its writer was killed
        if "t" not in record:
            continue
        if called is not None:
            verb, begun = called
            seconds = (record["t"] - begun) / 1e9
            longest = max(longest, seconds)
            if seconds > CALL_SECONDS_MAX + SLACK_SECONDS:
                breaches.append(Breach("hung", name, f"{verb} took {seconds:.1f} s"))
        called = (record["call"], record["t"]) if "call" in record else None
    return breaches, longest
