"""Group commit: what waits becomes one log entry, and each command's answer finds its way back.

Rules
- At most one entry of ours is in flight. Commands that arrive meanwhile form the next one, so the load itself
  sets the size of the group: a lone command leaves at once, a thousand share one sync.
- An entry is closed at ENTRY_OPERATIONS_MAX tasks or ENTRY_TARGET_BYTES, and holds at least one command.
- Every command is answered exactly once: with its answer when this node applied the entry at the (term, index)
  it was proposed at; or with an error when that entry was lost, or leadership is. None hangs.
- The queue is bounded in commands and bytes; above that the caller gets Backpressure and nothing is kept.

Rejected: several entries in flight (no gain with one disk; harder answers), one entry a command (an eighth of
the throughput).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs

from tq import limits
from tq.broker.merge import Done, merge
from tq.errors import Backpressure, BrokerUnavailable, NotLeader, PayloadTooLarge, TqError
from tq.machine.apply import encode_entry
from tq.machine.commands import Command

Item = tuple[Command, int, int, Done]
"""Command, tasks it touches at most, its bytes roughly, whom to answer.

Done is called once with (answer, index); the answer is a TqError where the command was refused or lost.
"""


class LogNode(Protocol):
    """What the proposer needs of ``tq.raft.node.Node``."""

    @property
    def is_leader(self) -> bool: ...
    @property
    def transfer_target(self) -> str | None: ...
    def propose(self, data: bytes) -> tuple[int, int]: ...


class LogTime(Protocol):
    def next_ms(self) -> int: ...


@attrs.frozen
class ProposerStatistics:
    queued_commands: int
    queued_bytes: int
    entries: int
    commands: int
    refused: int


class Proposer:
    """Collects commands on the leader. ``wake`` is called when there is something to propose."""

    def __init__(self, node: LogNode, log_time: LogTime, wake: Callable[[], None]) -> None:
        self._node = node
        self._log_time = log_time
        self._wake = wake
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._flight: tuple[int, int, list[Done]] | None = None  # term, index, one per command
        self._entries = 0
        self._commands = 0
        self._refused = 0

    def propose(self, command: Command, operations: int, size: int, done: Done) -> None:
        """Queue a command.

        Args:
            operations: tasks it touches at most.
            size: its bytes in the entry, roughly.

        Raises:
            Backpressure: the queue is at its bound.
            NotLeader: this node does not lead.
        """
        if not self._node.is_leader:
            raise NotLeader("this node is not the leader; nothing was done", retry_after=0.1)
        if (
            len(self._queue) >= limits.PROPOSER_QUEUE_COMMANDS_MAX
            or self._queued_bytes + size > limits.PROPOSER_QUEUE_BYTES_MAX
        ):
            self._refused += 1
            raise Backpressure(
                "the broker has as many requests as it can hold; send fewer at once",
                retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
            )
        self._queue.append((command, operations, size, done))
        self._queued_bytes += size
        self._wake()

    def before_turn(self) -> None:
        """Propose the next entry if none is in flight. While leadership is handed over, all waits: for the next leader
        (``leadership_lost``), or for this one if that comes to nothing."""
        if self._flight is not None or not self._queue or not self._node.is_leader:
            return
        if self._node.transfer_target is not None:
            return
        taken = self._take()
        merged = merge([(item[0], item[3]) for item in taken])
        data = encode_entry(self._log_time.next_ms(), [command for command, _done in merged])
        while len(data) > limits.ENTRY_BYTES_MAX:
            # Sizes are estimates of who proposes. One that was far too low must cost this entry, not the node.
            half = len(taken) // 2
            if half == 0:
                taken[0][3](_too_large(len(data)), 0)
                if self._queue:
                    self._wake()
                return
            self._put_back(taken[half:])
            del taken[half:]
            merged = merge([(item[0], item[3]) for item in taken])
            data = encode_entry(self._log_time.next_ms(), [command for command, _done in merged])
        self._entries += 1
        self._commands += len(taken)
        term, index = self._node.propose(data)
        self._flight = (term, index, [done for _command, done in merged])

    def _take(self) -> list[Item]:
        """What goes into the next entry: one command, and those behind it that fit."""
        taken: list[Item] = []
        operations = entry_bytes = 0
        while self._queue:
            item = self._queue[0]
            if taken and (
                operations + item[1] > limits.ENTRY_OPERATIONS_MAX or entry_bytes + item[2] > limits.ENTRY_TARGET_BYTES
            ):
                break
            self._queue.popleft()
            taken.append(item)
            operations += item[1]
            entry_bytes += item[2]
        self._queued_bytes -= entry_bytes
        return taken

    def _put_back(self, items: list[Item]) -> None:
        self._queue.extendleft(reversed(items))
        self._queued_bytes += sum(item[2] for item in items)

    def applied(self, term: int, index: int, answers: list[object]) -> None:
        """This node applied the entry at ``index``: answer whoever proposed it, or tell them that it was lost."""
        if self._flight is None or self._flight[1] > index:
            return
        flight_term, flight_index, dones = self._flight
        self._flight = None
        if self._queue:
            self._wake()
        if (flight_term, flight_index) != (term, index):
            raise_for = _lost("another leader wrote at this index")
            for done in dones:
                done(raise_for, index)
            return
        for done, answer in zip(dones, answers, strict=True):
            done(answer, index)

    def leadership_lost(self, leader: str | None) -> None:
        """Answer all that waits: what is in flight is unknown, what was only queued was not done."""
        if self._flight is not None:
            dones = self._flight[2]
            self._flight = None
            for done in dones:
                done(_lost("the leader changed while this was in flight"), 0)
        waiting = list(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        for _command, _operations, _size, done in waiting:
            done(NotLeader("this node is not the leader any more; nothing was done", leader=leader), 0)

    @property
    def is_idle(self) -> bool:
        return self._flight is None and not self._queue

    @property
    def has_room(self) -> bool:
        """It is far from refusing anything."""
        return len(self._queue) < limits.PROPOSER_QUEUE_COMMANDS_MAX // 2

    @property
    def has_work(self) -> bool:
        return self._flight is None and bool(self._queue)

    def statistics(self) -> ProposerStatistics:
        return ProposerStatistics(
            len(self._queue), self._queued_bytes, self._entries, self._commands, self._refused
        )  # fmt: skip


def _lost(why: str) -> TqError:
    return BrokerUnavailable(f"whether this was done is unknown: {why}; send it again with the same ids", retry_after=0)


def _too_large(size: int) -> TqError:
    bound = limits.ENTRY_BYTES_MAX
    return PayloadTooLarge(
        f"this request makes {size} bytes of log: at most {bound} go into one entry; send it in smaller parts",
        detail={"field": "request", "value": size, "bound": bound},
    )
