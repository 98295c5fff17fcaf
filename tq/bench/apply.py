"""What applying costs: µs a task for submit, claim and report, on each store. ``python -m tq.bench.apply [tasks]``.

The budget is 20 µs over the three (LMDB). Each figure is the best of the rounds, because a busy machine only adds.
``--profile`` prints where the time of one round goes, on LMDB.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tq.machine import commands as c
from tq.machine.apply import Machine, encode_entry
from tq.spec import Spec, encode
from tq.store.lmdb_store import LmdbStore
from tq.store.memory import MemoryStore
from tq.store.store import Store
from tq.world import RealClock, RealDisk

TASKS_DEFAULT = 20_000
SUBMIT_N = 500
CLAIM_N = 100
ROUNDS = 5
SESSION = b"bench-session-01"
START_MS = 1_700_000_000_000
CHECKPOINT_ENTRIES = 40  # a checkpoint now and then, not timed, as in a broker


class Bench:
    """One store, one machine, and the time spent in ``apply`` by kind of entry."""

    def __init__(self, store: Store, monotonic_s: Callable[[], float]) -> None:
        self._store = store
        self._machine = Machine(store.txn)
        self._monotonic_s = monotonic_s
        self._index = 0
        self.spent_s: dict[str, float] = {}
        self._apply("session", c.SessionOpen(SESSION, "bench", ["echo"], ["default"]))

    def round(self, number: int, tasks: int) -> dict[str, float]:
        """µs a task, by kind."""
        self.spent_s.clear()
        ids = [START_MS.to_bytes(6, "big") + number.to_bytes(4, "big") + n.to_bytes(6, "big") for n in range(tasks)]
        specs = [encode(Spec(id, "echo", b"x" * 100)) for id in ids]
        for at in range(0, tasks, SUBMIT_N):
            self._apply("submit", c.Submit(specs[at : at + SUBMIT_N]))
        while grants := self._apply("claim", c.Claim(SESSION, self._index, [], CLAIM_N)):
            assert isinstance(grants, list)
            items = [[grant[0][2:18], grant[3], 0, ["text/plain", b"ok"]] for grant in grants]
            self._apply("report", c.Report(SESSION, items, 1))
        return {kind: spent_s * 1e6 / tasks for kind, spent_s in self.spent_s.items()}

    def _apply(self, kind: str, command: c.Command) -> object:
        self._index += 1
        data = encode_entry(START_MS + self._index, [command])
        began_s = self._monotonic_s()
        applied = self._machine.apply(self._index, data)
        self.spent_s[kind] = self.spent_s.get(kind, 0) + self._monotonic_s() - began_s
        if self._index % CHECKPOINT_ENTRIES == 0:
            self._store.checkpoint(self._index)
        return applied.answers[0]


def best(bench: Bench, tasks: int) -> dict[str, float]:
    rounds = [bench.round(number, tasks) for number in range(ROUNDS)]
    return {kind: min(row[kind] for row in rounds) for kind in rounds[0]}


@contextmanager
def stores() -> Iterator[dict[str, Store]]:
    clock = RealClock()
    with tempfile.TemporaryDirectory(prefix="tq-bench-") as directory:
        store = LmdbStore.open(RealDisk(directory), "store", clock)
        try:
            yield {"lmdb": store, "memory": MemoryStore()}
        finally:
            store.close()


def main(arguments: list[str]) -> None:
    numbers = [argument for argument in arguments if argument.isdigit()]
    tasks = int(numbers[0]) if numbers else TASKS_DEFAULT
    monotonic_s = RealClock().monotonic_s
    with stores() as found:
        if "--profile" in arguments:
            bench = Bench(found["lmdb"], monotonic_s)
            with cProfile.Profile() as profile:
                bench.round(0, tasks)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            return
        for name, store in found.items():
            figures = best(Bench(store, monotonic_s), tasks)
            shown = "  ".join(f"{kind} {figure:5.2f}" for kind, figure in figures.items())
            print(f"{name:7} µs a task: {shown}  sum {sum(figures.values()):5.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
