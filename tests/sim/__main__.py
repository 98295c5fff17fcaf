"""``python -m tests.sim``, behind ``make sim``: play simulated stories for hours, new seeds one after the other.

A failure is told with its seed, and the run goes on; at the end it counts, and this ends with 1. How many stories of
each kind ran, and of which seeds, is told in between and at the end (Ctrl-C and SIGTERM end it, too). Each kind gets the
same time, and begins at the same seed: a run that begins where another one ended repeats nothing.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable

import attrs
import structlog

from tests.sim import (
    test_broker_random,
    test_cluster_random,
    test_power_loss_journal,
    test_power_loss_node,
    test_raft_random,
)

CRITICAL = 50


@attrs.define
class Kind:
    """One kind of story. ``play`` raises if something is wrong, and returns how often it was tried."""

    name: str
    what: str  # is counted
    play: Callable[[int], int]
    seeds: int = 0
    tries: int = 0
    seconds: float = 0.0
    failed: list[int] = attrs.field(factory=list)


def _cluster(seed: int) -> int:
    test_cluster_random.play(seed)
    return 1


def _group(seed: int) -> int:
    test_raft_random.play(seed)
    return 1


def _broker(seed: int) -> int:
    test_broker_random.run_seed(seed)
    return 1


def _node(seed: int) -> int:
    return test_power_loss_node.at_every_step(seed, late=seed % 2 == 1)


def _journal(seed: int) -> int:
    return test_power_loss_journal.at_every_step(seed, late=seed % 2 == 1)


def kinds() -> list[Kind]:
    return [
        Kind("cluster", "stories of three brokers", _cluster),
        Kind("group", "stories of three to seven members of Raft", _group),
        Kind("broker", "stories of one broker", _broker),
        Kind("node", "power losses of a broker", _node),
        Kind("journal", "power losses of a journal", _journal),
    ]


class Runner:
    """
    Args:
        seed: the first of each kind.
        seeds_max: of each kind; None: until the time is over.
        failures_max: a kind that failed so often is not played any more.
    """

    def __init__(
        self, chosen: list[Kind], seed: int, *, end_s: float, seeds_max: int | None, failures_max: int, every_s: float
    ) -> None:
        self.kinds = chosen
        self.seed = seed
        self.end_s = end_s
        self.seeds_max = seeds_max
        self.failures_max = failures_max
        self.every_s = every_s
        self._tell_s = time.monotonic() + every_s

    def run(self) -> None:
        while (kind := self._next()) is not None:
            self._play(kind)
            if time.monotonic() >= self._tell_s:
                self._tell_s = time.monotonic() + self.every_s
                self.tell(time.strftime("%H:%M:%S"))

    def _next(self) -> Kind | None:
        """The one that had the least time; None: all is done."""
        if time.monotonic() >= self.end_s:
            return None
        left = [
            kind
            for kind in self.kinds
            if len(kind.failed) < self.failures_max and (self.seeds_max is None or kind.seeds < self.seeds_max)
        ]
        return min(left, key=lambda kind: kind.seconds, default=None)

    def _play(self, kind: Kind) -> None:
        seed = self.seed + kind.seeds
        began_s = time.monotonic()
        try:
            kind.tries += kind.play(seed)
        except Exception:  # noqa: BLE001 - whatever it is, it is what this looks for
            kind.failed.append(seed)
            print(traceback.format_exc())
            print(f"FAILED {kind.name} seed {seed}: make sim KIND={kind.name} SEED={seed} RUNS=1", flush=True)
        kind.seeds += 1
        kind.seconds += time.monotonic() - began_s

    def tell(self, title: str) -> None:
        print(title)
        for kind in self.kinds:
            if not kind.seeds:
                continue
            last = self.seed + kind.seeds - 1
            rate = kind.tries / max(kind.seconds, 0.001) * 60
            failed = f"; {len(kind.failed)} FAILED: {kind.failed}" if kind.failed else ""
            print(f"  {kind.name:8} {kind.tries} {kind.what}, {rate:.0f} a minute, seeds {self.seed} to {last}{failed}")
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    names = [kind.name for kind in kinds()]
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all")
    parser.add_argument("--seed", type=int, help="the first; else one by the clock")
    parser.add_argument("--runs", type=int, help="seeds of each kind, instead of minutes")
    parser.add_argument("--kind", action="append", choices=names, help="only these; may be given several times")
    parser.add_argument("--failures", type=int, default=20, help="a kind that failed so often is played no more")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between counts")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = int(time.time()) * 100_000 if options.seed is None else options.seed
    end_s = time.monotonic() + options.minutes * 60 if options.runs is None else float("inf")
    chosen = [kind for kind in kinds() if not options.kind or kind.name in options.kind]
    runner = Runner(
        chosen, seed, end_s=end_s, seeds_max=options.runs, failures_max=options.failures, every_s=options.every
    )
    print(f"from seed {seed}", flush=True)
    try:
        runner.run()
    except KeyboardInterrupt:
        print("stopped")
    runner.tell("in all")
    return 1 if any(kind.failed for kind in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
