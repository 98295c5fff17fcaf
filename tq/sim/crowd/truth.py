"""All events that were ever applied, in order: what a listener may be held to."""

from __future__ import annotations

from typing import Any

from tq.broker.broker import Broker
from tq.machine.answers import Applied
from tq.sim.listed import Listed


class Truth:
    """All events that were ever applied, in order: what a listener may be held to."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._before: dict[tuple[int, int], tuple[int, int] | None] = {}
        self._last: tuple[int, int] | None = None
        self.listed = Listed()

    def watch(self, broker: Broker) -> None:
        applied = broker.events.applied

        def see(entry: Applied) -> None:
            for ordinal, event in enumerate(entry.events):
                kind, id, queue, type_ = event[:4]
                key, row = (entry.index, ordinal), (kind, id)
                if key in self._rows:
                    assert self._rows[key] == row, f"event {key} is another one after a restart"
                    continue
                assert self._last is None or key > self._last
                self._rows[key] = row
                machine = broker.applier.machine
                self.listed.saw(entry.index, kind, id, machine.queue_name(queue), machine.type_name(type_))
                self._before[key] = self._last
                self._last = key
            applied(entry)

        broker.events.applied = see  # type: ignore[method-assign, assignment]

    def check(self, row: list[Any], after: tuple[int, int] | None) -> None:
        """``row`` was heard, and everything behind ``after`` had been promised (None: nothing was)."""
        key = (row[0], row[1])
        assert self._rows[key] == (row[2], row[3]), f"event {key} is not what was applied"
        assert after is None or self._before[key] == after, f"event {key} came behind {after}: events are missing"
