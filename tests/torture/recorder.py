"""Writes one process's part of a history (tq/sim/checkers/records.py): a line per write, so a kill tears at most the last."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any


class Recorder:
    """Safe to use from several threads. ``by`` names the writer, unique over the whole run."""

    def __init__(self, folder: Path, by: str) -> None:
        self.by = by
        self._file = os.open(folder / f"{by}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._op = 0

    def call(self, verb: str, *, by: str | None = None, **fields: Any) -> tuple[str, int]:
        """Written before the request leaves; give the answer to ``answered``."""
        with self._lock:
            self._op += 1
            key = (by or self.by, self._op)
        self._write({"op": key[1], "by": key[0], "t": time.monotonic_ns(), "call": verb, **fields})
        return key

    def answered(self, key: tuple[str, int], **fields: Any) -> None:
        self._write({"op": key[1], "by": key[0], "t": time.monotonic_ns(), **fields})

    def final(self, record: dict[str, Any]) -> None:
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(record, separators=(",", ":")).encode() + b"\n")
