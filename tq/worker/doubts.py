"""Queues that a worker was told to serve, and that nobody else names: mostly a slip.

A queue needs no birth: it may be served before its first task. So nothing is refused; where the cluster knows queues, or the app
has a name that is near, and this one is unknown to both, it is said once, in the log.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tq.protocol import messages as m

DEFAULT: Final = "default"
UNKNOWN: Final = "nobody knows this queue"
"""The event of the log."""


class Doubts:
    """``ask`` with each registration until one was answered."""

    def __init__(self, queues: Sequence[str], known: Iterable[str]) -> None:
        """queues: that somebody typed. known: those that the app's tasks name."""
        self._known = {DEFAULT, *known}
        self._open = [name for name in queues if name not in self._known]
        self._rid = 0

    def __bool__(self) -> bool:
        """There is something to ask."""
        return bool(self._open)

    def ask(self, rid: int) -> m.Queues:
        self._rid = rid
        return m.Queues(rid)

    def answered(self, reply: m.QueuesReply) -> list[dict[str, Any]]:
        """What to say of each queue without tasks and settings, as values of a line of the log."""
        if reply.rid != self._rid:
            return []
        theirs = {str(queue["name"]) for queue in reply.queues}
        asked, self._open = self._open, []
        said: list[dict[str, Any]] = []
        for name in asked:
            if name in theirs:
                continue
            near = difflib.get_close_matches(name, sorted(self._known | theirs), 1)
            if not (theirs or near):
                continue
            meant = f"did you mean {near[0]!r}? " if near else ""
            hint = f"{meant}It has no tasks and no settings, and no task of the app names it; its tasks will be run if some come"
            said.append({"queue": name, "hint": hint})
        return said
