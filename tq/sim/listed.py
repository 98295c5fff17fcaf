"""What a list must show: the state of every task at every index, made of the events of the log and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tq.machine.answers import EventKind
from tq.machine.states import ENDS, GROUPS, State

LEADS_TO: dict[int, State | None] = {
    EventKind.CREATED: State.PENDING,  # SCHEDULED follows where it is not
    EventKind.READY: State.PENDING,
    EventKind.SCHEDULED: State.SCHEDULED,
    EventKind.STARTED: State.RUNNING,
    EventKind.COMPLETED: State.COMPLETED,
    EventKind.CANCELLED: State.CANCELLED,
    EventKind.EXPIRED: State.EXPIRED,
    EventKind.DEAD: State.DEAD,
    EventKind.PURGED: None,
}
"""Other kinds change nothing, or are followed by one of these in the same entry."""


class Listed:
    def __init__(self) -> None:
        self._kinds: dict[bytes, tuple[str, str]] = {}  # queue and type
        self._states: dict[bytes, list[tuple[int, State | None]]] = {}  # (index, state), as it happened

    def saw(self, index: int, kind: int, id: bytes, queue: str, type_: str) -> None:
        """The next event of the log."""
        if kind in LEADS_TO:
            self._kinds[id] = (queue, type_)
            self._states.setdefault(id, []).append((index, LEADS_TO[kind]))

    def check(
        self,
        index: int,
        fields: dict[str, Any],
        limit: int,
        after: bytes | None,
        ids: list[bytes],
        *,
        oldest_first: bool,
        is_all: bool,
    ) -> None:
        """``ids`` were answered at ``index``, to a list behind the task ``after``; ``is_all``: without a cursor."""
        states = _states(fields.get("state"))
        wanted = [id for id in sorted(self._states) if self._meets(id, index, states, fields)]
        what = f"a list of {fields} at {index}"
        if states is not None and states <= ENDS and "id_prefix" not in fields:
            # In the order of their ends, of which events say nothing within a millisecond.
            assert len(set(ids)) == len(ids), f"{what} shows a task twice"
            assert set(ids) <= set(wanted), f"{what} shows what does not match"
            assert not is_all or after is not None or set(ids) == set(wanted), f"{what} does not show all that match"
            return
        if not oldest_first:
            wanted.reverse()
        if after is not None:
            wanted = [id for id in wanted if (id > after if oldest_first else id < after)]
        assert ids == wanted[: len(ids)], f"{what} differs from the log"
        assert not is_all or len(ids) == len(wanted), f"{what} ends too early"
        assert is_all or len(ids) == limit, f"{what} is short"

    def _meets(self, id: bytes, index: int, states: frozenset[State] | None, fields: dict[str, Any]) -> bool:
        state = self._state(id, index)
        queue, type_ = self._kinds[id]
        return (
            state is not None
            and (states is None or state in states)
            and fields.get("queue", queue) == queue
            and fields.get("type", type_) == type_
            and id.hex().startswith(fields.get("id_prefix", ""))
        )

    def _state(self, id: bytes, index: int) -> State | None:
        last = None
        for at, state in self._states[id]:
            if at > index:
                break
            last = state
        return last


def _states(named: str | Iterable[str] | None) -> frozenset[State] | None:
    if named is None:
        return None
    found: set[State] = set()
    for name in [named] if isinstance(named, str) else named:
        found |= GROUPS[name] if name in GROUPS else {State[name.upper()]}
    return frozenset(found)
