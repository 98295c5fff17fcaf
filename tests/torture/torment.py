"""Does the faults of a plan when their time has come, and undoes them. They overlap, as faults do.

Of several nodes no more than a minority is down, stopped or cut off at a time, unless all die at once: what is tried is
that the cluster goes on, not that it waits. At the end everything runs again and every way is open.
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tests.torture.chaos import ALL, LEADER, MACHINE_ACTIONS, Fault
from tests.torture.failed import TortureFailed
from tests.torture.group import STOP_SECONDS_MAX, Group
from tq.bench.processes import Process

SLOW_SECONDS = (0.01, 0.05, 0.2)
SKEW_MS = (-3_600_000, -90_000, -7_000, 7_000, 90_000, 3_600_000)
GRIND_MS = (5, 50, 300)


class Torment:
    def __init__(
        self,
        group: Group,
        workers: Mapping[str, Process],
        clients: Mapping[str, Process],
        faults: Counter[str],
        say: Callable[[str], None],
        draw: random.Random,
    ) -> None:
        self._group = group
        self._processes: dict[str, Process] = {**group.by_name, **workers, **clients}
        self._workers = workers
        self._clients = clients
        self._faults = faults
        self._say = say
        self._draw = draw
        self._busy: set[str] = set()
        self._ends: list[tuple[float, int, str, Callable[[], None]]] = []  # (when, order, target, undo)
        self._order = itertools.count()

    def run(self, plan: Iterable[Fault], seconds: float) -> None:
        begun = time.monotonic()
        for fault in plan:
            self._until(begun + fault.at)
            for target in self._targets(fault):
                self._begin(fault, target, begun)
        self._until(begun + seconds)
        while self._ends:
            self._until(self._ends[0][0])
        for process in self._processes.values():
            self._check_alive(process)

    def _until(self, when: float) -> None:
        """Let time pass, and undo what is due until then."""
        while self._ends and self._ends[0][0] <= when:
            due, _order, target, undo = heapq.heappop(self._ends)
            time.sleep(max(0.0, due - time.monotonic()))
            undo()
            self._busy.discard(target)
        time.sleep(max(0.0, when - time.monotonic()))

    def _targets(self, fault: Fault) -> list[str]:
        """Whom it hits: nobody, if that one suffers already or too many nodes do."""
        nodes = list(self._group.by_name)
        idle = [name for name in nodes if name not in self._busy]
        if fault.target == ALL:
            return idle if len(idle) == len(nodes) else []
        target: str | None = fault.target
        if target == LEADER:
            target = self._group.leader(idle) or (self._draw.choice(idle) if idle else None)
        if target is None or target in self._busy:
            return []
        minority = max(1, (len(nodes) - 1) // 2)
        if target in nodes and len(nodes) - len(idle) >= minority:
            return []
        return [target]

    def _begin(self, fault: Fault, target: str, begun: float) -> None:
        process = self._processes[target]
        self._check_alive(process)
        kind = "client" if target in self._clients else "worker" if target in self._workers else "broker"
        if fault.target in (LEADER, ALL):
            kind = fault.target
        self._say(f"  {time.monotonic() - begun:5.1f} s {fault.action} {target} ({fault.seconds:g} s) {kind}")
        self._faults[f"{fault.action} {kind}"] += 1
        undo = self._do(fault.action, process)
        self._busy.add(target)
        heapq.heappush(self._ends, (time.monotonic() + fault.seconds, next(self._order), target, undo))

    def _do(self, action: str, process: Process) -> Callable[[], None]:
        """Returns how to undo it."""
        if action == "kill":
            process.kill()
            return process.start
        if action == "restart":
            # One that has just been started does not know the signal yet.
            codes = (0,) if self._group.by_name[process.name].ready() else (0, -signal.SIGTERM)
            process.terminate()
            return lambda: self._start_again(process, codes)
        if action == "pause":
            process.pause()
            return process.resume
        if action in MACHINE_ACTIONS:
            return self._spoil(action, process)
        ways, name = self._group.ways, process.name
        assert ways is not None, "a node alone has no ways"
        match action:
            case "cut":
                ways.isolate(name)
            case "deafen":
                ways.isolate(name, out=False)
            case "mute":
                ways.isolate(name, into=False)
            case "slow":
                delay_s = self._draw.choice(SLOW_SECONDS)
                for source, target in ways.of(name):
                    ways.slow(source, target, delay_s)
            case "break":
                for source, target in ways.of(name):
                    ways.break_(source, target)
        return lambda: ways.rejoin(name)

    def _spoil(self, action: str, process: Process) -> Callable[[], None]:
        """A full disk stops the node: it is started again when there is room."""
        machine = self._group.machines[process.name]
        match action:
            case "skew":
                machine.wall_offset_ms = self._draw.choice(SKEW_MS)
            case "fill":
                machine.is_full = True
            case "grind":
                machine.sync_ms = self._draw.choice(GRIND_MS)

        def undo() -> None:
            machine.repair()
            if not process.alive and action == "fill":
                process.start()

        return undo

    def _start_again(self, process: Process, codes: tuple[int, ...]) -> None:
        if process.wait(STOP_SECONDS_MAX) not in codes:
            raise TortureFailed(f"{process.name} stopped with {process.exit_code}\n{process.tail()}")
        process.start()

    def _check_alive(self, process: Process) -> None:
        if not process.alive:
            raise TortureFailed(f"{process.name} ended by itself with {process.exit_code}\n{process.tail()}")
