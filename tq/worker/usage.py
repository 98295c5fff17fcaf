"""What a worker says of itself in each heartbeat: processor, memory, tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psutil

from tq.worker.core import WorkerCore


def rss_bytes(pid: int | None = None) -> int:
    """Memory of a process, by default this one; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


class Usage:
    """Called on the heartbeats' thread. Child processes are counted in, as long as they run."""

    def __init__(self, core: WorkerCore, slots: int, children: Callable[[], Iterable[int]]) -> None:
        self._core = core
        self._slots = slots
        self._children = children
        self._own = psutil.Process()
        self._own.cpu_percent()  # the first call begins the measurement
        self._known: dict[int, psutil.Process] = {}

    def __call__(self) -> dict[str, Any]:
        """cpu_percent: of one processor, since the last call. stuck: handlers that run although their tasks are over."""
        cpu, rss = self._own.cpu_percent(), self._own.memory_info().rss
        pids = set(self._children())
        self._known = {pid: process for pid, process in self._known.items() if pid in pids}
        for pid in pids:
            try:
                process = self._known.get(pid)
                if process is None:
                    process = self._known[pid] = psutil.Process(pid)
                cpu += process.cpu_percent()
                rss += process.memory_info().rss
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                self._known.pop(pid, None)
        statistics = self._core.statistics
        running = list(self._core.jobs.running.values())  # a copy in one step: the loop goes on meanwhile
        return {
            "cpu_percent": round(cpu),
            "rss_bytes": rss,
            "processes": 1 + len(self._known),
            "slots": self._slots,
            "running": len(running),
            "stuck": sum(1 for job in running if job.is_given_up),
            "claimed": statistics.claimed,
            "completed": statistics.completed,
            "failed": statistics.failed,
            "stopped": statistics.stopped,
            "stale": statistics.stale,
        }
