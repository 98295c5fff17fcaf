"""The shell round a node: it waits, and calls. Nothing is decided here.

A pass lets the proposer fill an entry, turns the node, hands out what is committed and tells role changes; the
order is a rule (see node.py). After it the shell sleeps until the bell is rung or the node has something to do by
time. Whoever has more to propose rings; a bell rung during a pass means another one, with a chance between them for
the rest of the loop, so that what comes at once shares an entry. A pass just to see that nothing is left would cost a
lone request a tenth of its time.

What other members said gains nothing by waiting: it comes alone, and somebody waits for the answer. So whoever has
given it to the node lets a pass ``run_now``, on its own task.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import trio

from tq import limits
from tq.errors import InternalError
from tq.raft.node import Entry, Node
from tq.raft.reads import ReadEnd

_FAILED_S = 1.0  # the exception itself should end the process, and say more


class Bell:
    """Wakes one waiting task; may be rung from any thread. Rings while nobody waits are kept as one.

    The time-out of a wait is an alarm that a task of its own sets and that mostly only moves to later: a cancel scope
    for each wait would cost a lone request a twentieth of its time. ``close`` ends that task.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        self._is_rung = False
        self._waiting: trio.lowlevel.Task | None = None
        self._due_s = math.inf
        self._alarm = trio.CancelScope()
        self._is_open = True
        trio.lowlevel.spawn_system_task(self._watch)

    def ring(self) -> None:
        if threading.get_ident() == self._loop_thread:
            self._ring()
        else:
            try:
                self._token.run_sync_soon(self._ring, idempotent=True)
            except trio.RunFinishedError:
                return  # the loop has ended: nobody is left to wake

    async def wait(self, timeout_s: float) -> None:
        """Return when rung, or after ``timeout_s``."""
        if self._is_rung:
            self._is_rung = False
            await trio.lowlevel.checkpoint()
            return
        self.set_timeout(timeout_s)
        self._waiting = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)

    def set_timeout(self, timeout_s: float) -> None:
        """Of the wait that goes on, from now."""
        self._due_s = trio.current_time() + timeout_s
        if self._due_s < self._alarm.deadline:
            self._alarm.deadline = self._due_s

    def close(self) -> None:
        self._is_open = False
        self._alarm.cancel()

    def _ring(self) -> None:
        if self._waiting is None:
            self._is_rung = True
        else:
            task, self._waiting = self._waiting, None
            trio.lowlevel.reschedule(task)

    def _stop_waiting(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _watch(self) -> None:
        while self._is_open:
            with self._alarm:
                await trio.sleep_forever()
            if trio.current_time() >= self._due_s:
                self._due_s = math.inf
                if self._waiting is not None:
                    self._ring()
            self._alarm = trio.CancelScope(deadline=self._due_s)


class Passes:
    """One pass after the other, without waiting in between: what the shell below and the simulator both drive.

    Args:
        before_turn: may propose.
        on_committed: gets each entry once, in order.
        on_role: called with True when the node leads, with False when it does no more.
        on_reads: gets the ends of linearizable reads, after the entries that were committed with them.
    """

    def __init__(
        self,
        node: Node,
        before_turn: Callable[[], None],
        on_committed: Callable[[list[Entry]], None],
        on_role: Callable[[bool], None],
        on_reads: Callable[[list[ReadEnd]], None],
    ) -> None:
        self._node = node
        self._before_turn = before_turn
        self._on_committed = on_committed
        self._on_role = on_role
        self._on_reads = on_reads
        self._led_term = 0

    def run_once(self) -> bool:
        """Whether anything was done; then another pass may find more. Raises what the node or a callback does."""
        node = self._node
        last_index = node.last_index
        self._before_turn()
        node.turn()
        worked = node.last_index != last_index
        while entries := node.take_committed(limits.ENTRY_TARGET_BYTES):
            worked = True
            self._on_committed(entries)
        # Who installs a snapshot may win an election, and knows what was committed before only when it is installed.
        waits = node.is_leader and node.installation is not None
        for change in node.take_changes() if not waits else ():
            leads = node.is_leader and change.term == node.term
            if self._led_term and (not leads or change.term != self._led_term):
                self._led_term = 0
                self._on_role(False)
            if leads and self._led_term == 0:
                self._led_term = change.term
                self._on_role(True)
            worked = True
        if reads := node.take_reads():
            worked = True
            self._on_reads(reads)
        node.take_outcomes()  # the proposer goes by entries and role
        return worked


async def run(
    node: Node,
    before_turn: Callable[[], None],
    on_committed: Callable[[list[Entry]], None],
    on_role: Callable[[bool], None],
    on_reads: Callable[[list[ReadEnd]], None],
) -> None:
    """Drive ``node`` until cancelled, with the callbacks of ``Passes``. An exception out of it or a callback ends
    this: the process must stop.
    """
    bell = Bell()
    passes = Passes(node, before_turn, on_committed, on_role, on_reads)
    has_failed = False

    def run_now() -> None:
        nonlocal has_failed
        has_failed, told = True, has_failed
        try:
            passes.run_once()
            has_failed = told
            bell.set_timeout(node.wait_ms() / 1000)
        finally:
            if has_failed:
                bell.ring()

    node.wake = bell.ring
    node.run_now = run_now
    try:
        while not has_failed:
            passes.run_once()
            wait_ms = node.wait_ms()
            if wait_ms == 0:
                await trio.lowlevel.checkpoint()
            else:
                await bell.wait(wait_ms / 1000)
        await trio.sleep(_FAILED_S)
        raise InternalError("a pass of Raft failed, and whoever ran it went on: the node stops")
    finally:
        node.wake = node.run_now = None
        bell.close()
