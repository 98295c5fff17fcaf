"""A member comes back with another data directory: the leader's part. docs/operations.md has the operator's, raft/voting.py why
it takes two lists, and why that is safe.

Whoever asks is answered when the entry that admits the directory is committed. All of it may be asked again: for a directory
that is admitted already, the answer is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from tq import limits
from tq.errors import Backpressure, InvalidRequest, NotLeader, TqError
from tq.raft.members import Admission
from tq.raft.node import Node

WAITING_MAX: Final = 100  # to be told

Done = Callable[[dict[str, Any] | TqError], None]


class Replacing:
    """
    Args:
        reachable: who can be reached now.
        wake: the node has something to do.
    """

    def __init__(
        self, node: Node, node_id: str, cluster_id: bytes, reachable: Callable[[], Collection[str]],
        wake: Callable[[], None], log: Any,
    ) -> None:  # fmt: skip
        self._node = node
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._reachable = reachable
        self._wake = wake
        self._log = log
        self._waiting: list[tuple[str, bytes, Done]] = []

    def ask(self, name: object, incarnation: object, done: Done) -> None:
        """Admit ``incarnation`` for ``name``; None: say whether that could be done now, and do nothing.

        Raises NotLeader, Backpressure, InvalidRequest: nothing was done, and ``done`` is not called.
        """
        if not isinstance(name, str):
            raise InvalidRequest.of("node", name, "the id of a node")
        if incarnation is None:
            self._check(name)
            done({})
            return
        if not isinstance(incarnation, bytes) or len(incarnation) != limits.ID_BYTES:
            raise InvalidRequest.of("incarnation", incarnation, f"{limits.ID_BYTES} bytes")
        if len(self._waiting) >= WAITING_MAX:
            raise Backpressure(f"{WAITING_MAX} requests wait for a rebuild to be admitted", retry_after=1)
        seat = self._node.admitted.get(name)
        is_admitted = seat is not None and seat.incarnation == incarnation
        if not is_admitted and not any(waiting[:2] == (name, incarnation) for waiting in self._waiting):
            self._check(name)
            _, index = self._node.replace_voter(name, incarnation)
            self._log.warning("replaces the data directory of a node", peer=name, index=index)
            self._wake()
        self._waiting.append((name, incarnation, done))
        self.run_once()

    def run_once(self) -> None:
        """After each turn: who waits for what is committed now, or will not be by this leader, is answered."""
        if not self._waiting:
            return
        node = self._node
        waiting, self._waiting = self._waiting, []
        for name, incarnation, done in waiting:
            seat: Admission | None = node.admitted.get(name)
            if not node.is_leader:
                done(NotLeader("this node does not lead any more; ask again", retry_after=0.1))
            elif seat is None or seat.incarnation != incarnation or seat.index > node.commit_index:
                self._waiting.append((name, incarnation, done))
            else:
                members = {id: known.incarnation for id, known in node.admitted.items()}
                done({"cluster": self._cluster_id, "index": seat.index, "members": members})

    def _check(self, name: str) -> None:
        """Raises NotLeader, InvalidRequest: it would do harm, or could not come to its end."""
        node = self._node
        if not node.is_leader:
            raise NotLeader("this node does not lead the cluster", retry_after=0.1)
        if name == self._node_id:
            raise InvalidRequest(f"{name} runs, and leads the cluster: stop its broker first, if it is to be rebuilt")
        if name not in node.voters and name not in node.joining:
            raise InvalidRequest.of("node", name, f"one of {', '.join(node.voters)}")
        reachable = self._reachable()
        if name in reachable:
            raise InvalidRequest(f"{name} runs with the data directory that it has: stop its broker first")
        left = [voter for voter in node.voters if voter != name]
        able = [voter for voter in left if voter == self._node_id or voter in reachable]
        needed = len(left) // 2 + 1
        if len(left) < 2 or len(able) < needed:
            raise InvalidRequest(
                f"{name} cannot be rebuilt now: that takes {max(needed, 2)} of the other nodes, {', '.join(able)} can be reached;"
                " start those that are down, and try again"
            )
