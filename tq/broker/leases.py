"""Leases and sessions as the leader sees them: who has shown life, and when.

Heartbeats are not logged. This object is the leader's memory of them; what it concludes (a lease ran out, a
session is lost) is proposed by ``expire_leases`` and happens only when the log says so. A new leader knows
nothing of the past and gives every lease and session one full term.

Rules
- Lease time passes only while this node looks: a broker that was stopped (SIGSTOP, a suspended machine) does
  not find all leases expired at once, because its workers' heartbeats could not be heard meanwhile.
- All leases have the same length, so the order of renewal is the order of expiry: the order of a dict is the queue.
- Claims and results are signs of life of a session; only a heartbeat renews leases, by name.
- Every task has a lease and few have more to say: a lease is a tuple, and what is rare stands beside, by fence.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import attrs

from tq.world import Clock

LOOK_GAP_MS_MAX = 1_000  # a longer gap between two looks is taken as this
PROPOSE_AGAIN_MS = 2_000


class Lease(NamedTuple):
    id: bytes
    session: bytes
    due_ms: int  # in lease time


_new = tuple.__new__  # a third of the time of calling the class


@attrs.define
class SessionLife:
    """A worker session. ``stats`` is what its last heartbeat said; ``info`` what it said of itself when it registered."""

    name: str
    types: tuple[str, ...]
    queues: tuple[str, ...]
    due_ms: int
    heard_wall_ms: int
    opened_wall_ms: int
    quiet_until_ms: int = 0
    stats: dict[str, Any] = attrs.field(factory=dict)
    info: dict[str, Any] = attrs.field(factory=dict)
    draining: bool = False


class Leases:
    def __init__(self, clock: Clock, lease_ms: int, session_ms: int) -> None:
        self._clock = clock
        self.lease_ms = lease_ms
        self.session_ms = session_ms
        self._time_ms = 0
        self._looked_ms = clock.monotonic_ms()
        self._leases: dict[int, Lease] = {}  # by fence, the next to run out first
        self._quiet_until_ms: dict[int, int] = {}  # its end is proposed; not again before this
        self._progress: dict[int, dict[str, Any]] = {}  # what its handler said last
        self._by_fence: tuple[dict[int, Any], ...] = (self._leases, self._quiet_until_ms, self._progress)
        self._cancel_grace_ms: dict[bytes, dict[int, int]] = {}  # by session and fence
        self.sessions: OrderedDict[bytes, SessionLife] = OrderedDict()

    # ---- the leader's term -------------------------------------------------------------------------

    def clear(self) -> None:
        for held in self._by_fence:
            held.clear()
        self._cancel_grace_ms.clear()
        self.sessions.clear()

    def open(self, session: bytes, name: str, types: Iterable[str], queues: Iterable[str]) -> None:
        now_ms = self._look()
        if session in self.sessions:
            self.touch(session)
            return
        wall_ms = self._clock.wall_ms()
        self.sessions[session] = SessionLife(
            name, tuple(types), tuple(queues), now_ms + self.session_ms, wall_ms, wall_ms
        )  # fmt: skip

    def close(self, session: bytes) -> None:
        self.sessions.pop(session, None)

    def granted(self, session: bytes, fence_first: int, ids: Sequence[bytes]) -> None:
        """Leases of these tasks, under this fence and the next ones."""
        due_ms = self._look() + self.lease_ms
        self._leases.update({fence: _new(Lease, (id, session, due_ms)) for fence, id in enumerate(ids, fence_first)})

    def released(self, leases: Iterable[tuple[bytes, int]]) -> None:
        fences = [fence for _id, fence in leases]
        if self._cancel_grace_ms:
            self._forget_cancels(fences)
        for held in self._by_fence:
            if held:
                for fence in fences:
                    held.pop(fence, None)

    def cancelling(self, fence: int, grace_ms: int) -> None:
        """From now on each heartbeat of the holder is answered with this cancel, until the lease is over."""
        lease = self._leases.get(fence)
        if lease is not None:
            self._cancel_grace_ms.setdefault(lease.session, {})[fence] = grace_ms

    def held(self) -> Counter[bytes]:
        """How many leases each session has."""
        return Counter(lease.session for lease in self._leases.values())

    # ---- signs of life -----------------------------------------------------------------------------

    def touch(self, session: bytes) -> bool:
        """The session has shown life. False: it is not known (ended, or never was)."""
        life = self.sessions.get(session)
        if life is None:
            return False
        life.due_ms = self._look() + self.session_ms
        life.heard_wall_ms = self._clock.wall_ms()
        self.sessions.move_to_end(session)
        return True

    def heartbeat(self, session: bytes, tasks: list[list[Any]]) -> tuple[list[list[Any]], list[list[Any]]]:
        """Renew the leases named. Returns (cancel: [id, fence, grace_ms], lost: [id, fence])."""
        due_ms = self._look() + self.lease_ms
        leases = self._leases
        lost: list[list[Any]] = []
        for id, fence in tasks:
            lease = leases.get(fence)
            if lease is None or lease.session != session or lease.id != id:
                lost.append([id, fence])
                continue
            del leases[fence]  # to the end of the queue
            leases[fence] = lease._replace(due_ms=due_ms)
        cancels = sorted(self._cancel_grace_ms.get(session, {}).items())
        return [[leases[fence].id, fence, grace_ms] for fence, grace_ms in cancels], lost

    def progress(self, session: bytes, items: list[list[Any]]) -> None:
        """``[id, fence, done, total, note]`` each: the last word counts. What is no longer held is passed over."""
        at_ms = self._clock.wall_ms()
        for id, fence, done, total, note in items:
            lease = self._leases.get(fence)
            if lease is not None and lease.session == session and lease.id == id:
                self._progress[fence] = {"done": done, "total": total, "note": note, "at_ms": at_ms}

    def progress_of(self, fence: int) -> dict[str, Any] | None:
        """What the handler of this grant said last; None: nothing, since this node leads."""
        return self._progress.get(fence)

    # ---- conclusions -------------------------------------------------------------------------------

    def leases_due(self, limit: int) -> list[list[object]]:
        """``[id, fence]`` of leases that ran out; each is named again only if it is still there after a while."""
        now_ms = self._look()
        due: list[list[object]] = []
        for fence, lease in self._leases.items():
            if lease.due_ms > now_ms or len(due) == limit:
                break
            if self._quiet_until_ms.get(fence, 0) <= now_ms:
                self._quiet_until_ms[fence] = now_ms + PROPOSE_AGAIN_MS
                due.append([lease.id, fence])
        return due

    def sessions_due(self, limit: int) -> list[bytes]:
        """Sessions without a sign of life for ``session_ms``; named again only if still there after a while."""
        now_ms = self._look()
        due: list[bytes] = []
        for session, life in self.sessions.items():
            if life.due_ms > now_ms or len(due) == limit:
                break
            if life.quiet_until_ms <= now_ms:
                life.quiet_until_ms = now_ms + PROPOSE_AGAIN_MS
                due.append(session)
        return due

    def __len__(self) -> int:
        return len(self._leases)

    def _forget_cancels(self, fences: Iterable[int]) -> None:
        for fence in fences:
            lease = self._leases.get(fence)
            if lease is not None and lease.session in self._cancel_grace_ms:
                cancels = self._cancel_grace_ms[lease.session]
                cancels.pop(fence, None)
                if not cancels:
                    del self._cancel_grace_ms[lease.session]

    def _look(self) -> int:
        """Lease time now. It never passes faster than the clock, and not while nobody looks."""
        monotonic_ms = self._clock.monotonic_ms()
        self._time_ms += min(monotonic_ms - self._looked_ms, LOOK_GAP_MS_MAX)
        self._looked_ms = monotonic_ms
        return self._time_ms
