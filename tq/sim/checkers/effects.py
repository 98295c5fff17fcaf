"""Every node, in every life, makes the same of an entry: answers, events, grants, and now and then its whole state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tq.broker.broker import Broker
from tq.machine.answers import Applied
from tq.sim.checkers.breach import Breach
from tq.store.dump import state_digest

DIGEST_EVERY = 50  # entries; a digest reads the whole store


class Effects:
    """
    Attributes:
        digests: index to digest of the state after it.
        last_index: the highest that any node applied.
    """

    def __init__(self) -> None:
        self.digests: dict[int, bytes] = {}
        self.last_index = 0
        self._known: dict[int, bytes] = {}

    def watch(self, life: str, broker: Broker) -> None:
        """Look at all that ``broker`` applies."""
        apply: Callable[[Applied], None] = broker.events.applied

        def look(applied: Applied) -> None:
            self._look(life, broker, applied)
            apply(applied)

        broker.events.applied = look  # type: ignore[method-assign]

    def _look(self, life: str, broker: Broker, applied: Applied) -> None:
        index = applied.index
        self.last_index = max(self.last_index, index)
        made = hashlib.sha256(repr(applied).encode()).digest()
        if self._known.setdefault(index, made) != made:
            raise Breach(f"{life} makes something else of entry {index} than another node did: {applied!r:.500}")
        if index % DIGEST_EVERY == 0:
            self.compare(life, index, state_digest(broker.txn))

    def compare(self, life: str, index: int, digest: bytes) -> None:
        known = self.digests.setdefault(index, digest)
        if known != digest:
            raise Breach(f"{life} has another state after entry {index} than another node has")
