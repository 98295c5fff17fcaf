"""Leader only: propose the end of leases that ran out and of sessions that fell silent."""

from __future__ import annotations

from tq import limits
from tq.broker.leases import Leases
from tq.broker.services import Propose
from tq.errors import Backpressure, NotLeader
from tq.machine.commands import LeasesExpire, SessionsEnd

SLICE = 500
ITEM_BYTES = 32
SESSIONS_SLICE = 1  # one may hold SESSION_TASKS_MAX


class ExpireLeases:
    def __init__(self, leases: Leases, propose: Propose) -> None:
        self._leases = leases
        self._propose = propose

    def run_once(self) -> None:
        try:
            for session in self._leases.sessions_due(SESSIONS_SLICE):
                self._propose(SessionsEnd([session]), limits.SESSION_TASKS_MAX, ITEM_BYTES, _ignore)
            due = self._leases.leases_due(SLICE)
            if due:
                self._propose(LeasesExpire(due), len(due), len(due) * ITEM_BYTES, _ignore)
        except (Backpressure, NotLeader):
            return  # overloaded: those leases are looked at again in a while


def _ignore(_answer: object, _index: int) -> None:
    """What came of it is in the effects of the entry; if it was lost, the next look proposes again."""
