"""Facts of this machine that a figure is worth nothing without."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import attrs
import psutil

from tq.bench.measure import Spread, spread

SYNC_BYTES = 4_096
LOOK_SECONDS_MIN = 0.1
STEPS = 100_000
STEPS_ROUNDS = 5
LIBRARIES = ("tq", "trio", "cbor2", "lmdb", "pysyncobj")


@attrs.frozen
class Facts:
    """python_step_ns: one step of a fixed loop: what this interpreter makes of this processor just now.
    sync: times of a small write and fdatasync. busy_before: percent of all cores, by others, over a second.
    is_realtime: as under ``chrt``, which keeps other work from disturbing.
    """

    cores: int
    memory_gb: float
    processor: str
    kernel: str
    python: str
    python_step_ns: float
    libraries: dict[str, str]
    sync: Spread
    busy_before: float
    is_realtime: bool

    def lines(self) -> list[str]:
        versions = " · ".join(f"{name} {version}" for name, version in self.libraries.items())
        return [
            f"{self.cores} cores ({self.processor}), {self.memory_gb:.1f} GB, Linux {self.kernel}",
            f"busy with other work before: {self.busy_before:.0f} % of the cores"
            + (" · run at real-time priority" if self.is_realtime else ""),
            f"Python {self.python}, {self.python_step_ns:.0f} ns a step · {versions}",
            f"write and fdatasync of 4 KiB: p50 {self.sync.p50_ms:.2f} ms, p99 {self.sync.p99_ms:.2f} ms",
        ]


def gather(folder: Path, syncs: int = 200, busy_seconds: float = 1.0) -> Facts:
    """Look at this machine; the disk is the one of ``folder``."""
    return Facts(
        cores=len(os.sched_getaffinity(0)),
        memory_gb=psutil.virtual_memory().total / 1e9,
        processor=_processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        python_step_ns=_step_ns(),
        libraries={name: metadata.version(name) for name in LIBRARIES},
        sync=spread(_sync_seconds(folder / "sync-probe", syncs)),
        busy_before=psutil.cpu_percent(interval=busy_seconds),
        is_realtime=os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO),
    )


def _step_ns() -> float:
    """The best of some rounds. How an interpreter was built makes a third of its speed, a shared host more."""
    times = []
    for _ in range(STEPS_ROUNDS):
        kept: dict[int, tuple[int, str]] = {}
        begun = time.perf_counter()
        for number in range(STEPS):
            kept[number & 7] = (number, str(number))
        times.append(time.perf_counter() - begun)
    return min(times) / STEPS * 1e9


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _sync_seconds(path: Path, count: int) -> list[float]:
    block = b"\xa5" * SYNC_BYTES
    times = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            begun = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
    return times


def memory_mb(pid: int) -> tuple[float, float]:
    """Anonymous and resident memory of a process in MB. Mapped pages of the store count in the second alone."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "VmRSS"):
            fields[name] = int(value.split()[0]) / 1024
    return fields["RssAnon"], fields["VmRSS"]


class Others:
    """How much of the machine's processors goes to work that is not ours."""

    def __init__(self, look: Callable[[], tuple[float, float]] | None = None) -> None:
        self._look = look or processor_use
        self._seen = self._look()
        self._percent = 0.0

    def percent(self) -> float:
        """Of all cores, since the last call. Called again at once: the same."""
        total, others = self._look()
        if total - self._seen[0] > LOOK_SECONDS_MIN:
            share = (others - self._seen[1]) / (total - self._seen[0])
            self._percent = min(100.0, max(0.0, share * 100))
            self._seen = total, others
        return self._percent


def processor_use() -> tuple[float, float]:
    """Processor seconds of this machine since it started, used or idle; and those that others used.

    Ours are this process and those of its children that have ended.
    """
    machine, own = psutil.cpu_times(), os.times()
    used = machine.user + machine.nice + machine.system + machine.irq + machine.softirq + machine.steal
    return used + machine.idle + machine.iowait, used - sum(own[:4])


def processor_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
