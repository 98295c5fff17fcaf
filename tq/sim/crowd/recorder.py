"""The history: what was asked and heard, in the order in which it happened."""

from __future__ import annotations

import json
from typing import Any


class Recorder:
    """The history, as lines of ``tq.sim.checkers.records``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._op = 0
        self._time = 0

    def call(self, by: str, verb: str, **fields: Any) -> tuple[str, int]:
        self._op += 1
        self._write({"op": self._op, "by": by, "t": self._tick(), "call": verb, **fields})
        return by, self._op

    def answered(self, key: tuple[str, int], **fields: Any) -> None:
        self._write({"op": key[1], "by": key[0], "t": self._tick(), **fields})

    def final(self, id: bytes, task: dict[str, Any]) -> None:
        body = None if task["result"] is None else bytes(task["result"]).decode()
        rows = [row for row in task["history"] if row["fence"] and row["outcome"] != "stale"]
        facts = {name: task[name] for name in ("state", "fence", "attempt", "crashes", "reason")}
        facts |= {name: [row[name[:-1]] for row in rows] for name in ("fences", "outcomes")}
        facts["dropped"] = task["history_dropped"]
        self._write({"final": id.hex(), "body": body, **facts})

    def _tick(self) -> int:
        self._time += 1
        return self._time

    def _write(self, record: dict[str, Any]) -> None:
        self.lines.append(json.dumps(record))
