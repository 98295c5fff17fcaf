"""Reads what the broker says of every task at the end of a run, and writes it behind the histories."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.torture.recorder import Recorder
from tq import Client
from tq.errors import NotFound

THREADS = 8


def read_ends(client: Client, recorder: Recorder, ids: Sequence[str]) -> int:
    """Read each id; those the broker does not know are left out. Returns how many were found."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = [record for record in pool.map(lambda key: _read(client, key), ids) if record is not None]
    for record in found:
        recorder.final(record)
    return len(found)


def _read(client: Client, key: str) -> dict[str, Any] | None:
    try:
        info = client.get(bytes.fromhex(key))
    except NotFound:
        return None
    rows = [row for row in info.history if row.fence and row.outcome != "stale"]
    return {
        "final": key,
        "state": info.state,
        "fence": info.fence,
        "attempt": info.attempt,
        "crashes": info.crashes,
        "reason": info.reason,
        "body": None if info.result is None else bytes(info.result).decode(),
        "fences": [row.fence for row in rows],
        "outcomes": [row.outcome for row in rows],
        "dropped": info.history_dropped,
    }
