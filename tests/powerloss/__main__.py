"""``python -m tests.powerloss [--runs N] [--seed N]``: the power goes at every call of each run, in every way.

Then the process is killed at some of its calls instead, and the power goes at every call of the one that follows it.
"""

from __future__ import annotations

import argparse
import random
import sys

import structlog

from tests.powerloss import run

LIVES = 3
STEPS = 30
KILLS = 3
STEPS_AGAIN = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if (reason := run.why_none()) is not None:
        print(f"nothing can be recorded: {reason}", file=sys.stderr)
        return 2
    for number in range(options.runs):
        seed = options.seed + number
        recordings = [run.record(recorder, seed, LIVES, STEPS) for recorder in run.recorders()]
        if any(recording != recordings[0] for recording in recordings):
            print(f"seed {seed}: the recorders saw different calls", file=sys.stderr)
            return 1
        report = run.Report()
        print(f"seed {seed}, recorded by {', '.join(recorder.__name__ for recorder in run.recorders())}", flush=True)
        run.lose_power(recordings[0], seed, run.everywhere, report)
        print("\n".join(f"  {line}" for line in report.lines()), flush=True)
        report = run.Report()
        for kill in range(KILLS):
            at = random.Random(f"{seed} {kill}").randrange(len(recordings[0]))
            killed = run.Killed.at(recordings[0], at)
            print(f"  killed behind call {at}", flush=True)
            again = run.record(run.recorders()[0], seed, 1, STEPS_AGAIN, killed)
            run.lose_power(again, seed, run.everywhere, report, killed)
        print("\n".join(f"  {line}" for line in report.lines()), flush=True)
    print("nothing that was told is lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
