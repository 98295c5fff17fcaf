"""``python -m tests.soak``, behind ``make soak``: a steady load for an hour, and whether anything creeps up meanwhile.

What leaks does so slowly: memory, disk, descriptors, and the time of a call. So the load is far below what the brokers
can do, and is the same from the first minute to the last; each minute is a line of the table. In the end the last quarter of
the run is held against the second (the first is warming up). Retention is short, so that from the fifth minute on
as much is purged as is submitted: after that nothing may grow, the disk neither. Figures of time mean something on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import attrs

from tq import TaskSpec
from tq.bench.bed import Bed
from tq.bench.facts import memory_mb, processor_seconds
from tq.bench.load import waiting
from tq.bench.measure import spread
from tq.bench.processes import end_on_sigterm

BATCHES_PER_S = 20
SETTINGS = {"retention": {"finished_keep_tasks": 50_000, "tombstone_keep_ms": 180_000}}
GROWTH_MAX = 1.15  # of the last quarter over the second one; what is measured is noisy
GROWTH_MIN_MB = 8.0  # is noise, however large a share it is
MIB = 1024 * 1024


@attrs.frozen
class Minute:
    """What stood at its end, and what its calls took.

    broker_mb, worker_mb: anonymous memory, the largest of them. fds: the most of a broker. cpu_us: of all brokers together,
    a task. log_mb, store_mb: on the disk of the largest broker.
    """

    tasks: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    waiting: int
    broker_mb: float
    worker_mb: float
    fds: int
    cpu_us: float
    log_mb: float
    store_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--nodes", type=int, choices=(1, 3, 5, 7), default=1)
    parser.add_argument("--rate", type=int, default=500, help="tasks a second")
    options = parser.parse_args()
    end_on_sigterm()
    names = [field.name for field in attrs.fields(Minute)]
    print(f"{'minute':>6}", *(f"{name:>10}" for name in names), flush=True)
    seen: list[Minute] = []
    with Bed(options.nodes, settings=SETTINGS) as bed:
        bed.start_workers(1, 100)
        for number in range(1, options.minutes + 1):
            minute = run_minute(bed, options.rate)
            seen.append(minute)
            print(f"{number:>6}", *(f"{value:>10.5g}" for value in attrs.astuple(minute)), flush=True)
    wrong = creeps(seen)
    print(*wrong or ["nothing crept up"], sep="\n")
    return 1 if wrong else 0


def run_minute(bed: Bed, rate: int) -> Minute:
    """A batch each twentieth of a second; what is late is not left out, but follows at once."""
    size = max(1, rate // BATCHES_PER_S)
    cpu_begun_s = sum(processor_seconds(broker.pid) for broker in bed.brokers)
    begun, times, tasks = time.monotonic(), [], 0
    while (late_s := time.monotonic() - begun) < 60:
        if tasks >= rate * late_s:
            time.sleep(1 / BATCHES_PER_S / 4)
            continue
        call = time.perf_counter()
        bed.client.submit_many([TaskSpec(type="bench.noop", payload=b"x" * 100) for _ in range(size)])
        times.append(time.perf_counter() - call)
        tasks += size
    cpu_us = (sum(processor_seconds(broker.pid) for broker in bed.brokers) - cpu_begun_s) / tasks * 1e6
    took = spread(times)
    return Minute(
        tasks,
        took.p50_ms,
        took.p99_ms,
        took.max_ms,
        waiting(bed.client),
        max(memory_mb(broker.pid)[0] for broker in bed.brokers),
        max(memory_mb(worker.pid)[0] for worker in bed.workers),
        max(len(os.listdir(f"/proc/{broker.pid}/fd")) for broker in bed.brokers),
        cpu_us,
        max(disk_mb(broker.data / "raft") for broker in bed.brokers),
        max(disk_mb(broker.data / "store") for broker in bed.brokers),
    )


def creeps(seen: list[Minute]) -> list[str]:
    """What is more in the last quarter than in the second, in words."""
    quarter = len(seen) // 4
    if quarter == 0:
        return []
    wrong = []
    for name, floor in (
        ("broker_mb", GROWTH_MIN_MB), ("worker_mb", GROWTH_MIN_MB), ("fds", 4), ("cpu_us", 20), ("p50_ms", 1), ("waiting", 500), ("store_mb", GROWTH_MIN_MB)
    ):  # fmt: skip
        before, after = (
            statistics.median(getattr(minute, name) for minute in part)
            for part in (seen[quarter : 2 * quarter], seen[-quarter:])
        )
        if after > before * GROWTH_MAX and after - before > floor:
            wrong.append(f"{name} crept up: {before:.1f} in the second quarter, {after:.1f} in the last")
    return wrong


def disk_mb(path: Path) -> float:
    """What it occupies, not how long it is: files may have holes."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()) / MIB


if __name__ == "__main__":
    sys.exit(main())
