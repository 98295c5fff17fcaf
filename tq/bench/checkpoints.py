"""What the store costs when it is large: ``python -m tq.bench.checkpoints [tasks] [--directory PATH]``.

Submits that many tasks, then claims and completes a tenth of them, with a checkpoint every CHECKPOINT_MS as in a broker;
prints how long checkpoints took, how large the file is, and what digest, dump, load and opening cost.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tq import limits
from tq.bench import facts
from tq.machine import commands as c
from tq.machine.apply import Machine, encode_entry
from tq.spec import Spec, encode
from tq.store.dump import dump, load, state_digest
from tq.store.lmdb_store import LmdbStore
from tq.world import RealClock, RealDisk

TASKS_DEFAULT = 1_000_000
SUBMIT_N = 500
CLAIM_N = 100
PAYLOAD_BYTES = 100
SESSION = b"bench-session-01"
START_MS = 1_700_000_000_000


class _Run:
    """One store, and how long its checkpoints took, in ms."""

    def __init__(self, store: LmdbStore, monotonic_s: Callable[[], float]) -> None:
        self._store = store
        self._machine = Machine(store.txn)
        self._monotonic_s = monotonic_s
        self._index = 0
        self._due_s = monotonic_s()
        self.checkpoints_ms: list[float] = []

    def submit(self, tasks: int) -> None:
        for first in range(0, tasks, SUBMIT_N):
            ids = [START_MS.to_bytes(6, "big") + n.to_bytes(10, "big") for n in range(first, first + SUBMIT_N)]
            self._apply(c.Submit([encode(Spec(id, "echo", bytes(PAYLOAD_BYTES))) for id in ids]))

    def work(self, tasks: int) -> None:
        self._apply(c.SessionOpen(SESSION, "bench", ["echo"], ["default"]))
        for _ in range(0, tasks, CLAIM_N):
            grants = self._apply(c.Claim(SESSION, self._index, [], CLAIM_N))
            assert isinstance(grants, list)
            self._apply(
                c.Report(SESSION, [[grant[0][2:18], grant[3], 0, ["text/plain", b"ok"]] for grant in grants], 1)
            )

    def checkpoint(self) -> None:
        began_s = self._monotonic_s()
        self._store.checkpoint(self._index)
        ended_s = self._monotonic_s()
        self.checkpoints_ms.append((ended_s - began_s) * 1000)
        self._due_s = ended_s + limits.CHECKPOINT_MS_DEFAULT / 1000

    def _apply(self, command: c.Command) -> object:
        self._index += 1
        answer = self._machine.apply(self._index, encode_entry(START_MS + self._index, [command])).answers[0]
        if self._monotonic_s() >= self._due_s or self._store.dirty_bytes >= limits.CHECKPOINT_DIRTY_BYTES_MAX:
            self.checkpoint()
        return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", type=int, nargs="?", default=TASKS_DEFAULT)
    parser.add_argument("--directory", help="on the disk to be measured; a temporary one if not given")
    options = parser.parse_args()
    clock = RealClock()
    monotonic_s = clock.monotonic_s
    with tempfile.TemporaryDirectory(prefix="tq-bench-", dir=options.directory) as directory:
        print("\n".join(facts.gather(Path(directory)).lines()))
        disk = RealDisk(directory)
        store = LmdbStore.open(disk, "store", clock)
        run = _Run(store, monotonic_s)
        for name, work, tasks in (("submit", run.submit, options.tasks), ("work", run.work, options.tasks // 10)):
            run.checkpoints_ms = []
            _show(f"{name} {tasks:,}", monotonic_s, lambda work=work, tasks=tasks: work(tasks))  # type: ignore[misc]
            run.checkpoint()
            _show_checkpoints(run.checkpoints_ms)
        size = store.statistics()
        print(f"file {size.file_bytes:,} bytes, in use {size.used_bytes:,}, map {size.map_bytes:,}")
        with store.reader() as reader:
            _show("digest", monotonic_s, lambda: state_digest(reader))
            pieces: list[bytes] = []
            _show("dump", monotonic_s, lambda: dump(reader, pieces.append))
        print(f"dump {sum(map(len, pieces)):,} bytes")
        other = LmdbStore.open(disk, "other", clock)
        _show("load", monotonic_s, lambda: load(other, pieces))
        other.close()
        store.close()
        _show("open", monotonic_s, lambda: Machine(LmdbStore.open(disk, "store", clock).txn))


def _show_checkpoints(took_ms: list[float]) -> None:
    took_ms = sorted(took_ms)
    middle, high = took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100]
    print(
        f"  {len(took_ms)} checkpoints, ms: median {middle:.1f}, p99 {high:.1f}, most {took_ms[-1]:.1f},"
        f" together {sum(took_ms) / 1000:.1f} s"
    )


def _show(name: str, monotonic_s: Callable[[], float], call: Callable[[], object]) -> None:
    began_s, cpu_s = monotonic_s(), time.process_time()
    call()
    print(f"{name}: {monotonic_s() - began_s:.2f} s, of processor {time.process_time() - cpu_s:.2f} s")


if __name__ == "__main__":
    main()
