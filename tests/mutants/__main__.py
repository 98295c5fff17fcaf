"""``python -m tests.mutants``, behind ``make mutants``: plant each bug in a copy and see that it is caught, and by what.

Scripted tests run first, up to the first that fails; then random stories, up to the first that fails. A bug that
neither catches ends this with 1: the proof has a hole.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.mutants.mutants import MUTANTS
from tests.mutants.plant import plant
from tests.mutants.suites import first_failure, sources

SCRIPTS = [
    "following", "elections", "leading", "transfer", "members", "voting", "snapshots", "guard", "messages", "node", "journal",
]  # fmt: skip
TESTS = [f"tests/unit/raft/test_{name}.py" for name in SCRIPTS] + [
    "tests/sim/test_raft_group.py",
    "tests/sim/test_lost_disks.py",
    "tests/sim/test_power_loss_journal.py",
]
STORIES = "tests/sim/test_raft_random.py::test_short"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", help="those whose name contains this")
    parser.add_argument("--no-stories", action="store_true", help="scripted tests alone, which is faster")
    parser.add_argument("--check", action="store_true", help="see that each can be planted, and run nothing")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.only or options.only in mutant.name]
    survivors = []
    by_stories = 0
    with sources() as copy:
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            before = plant(copy, mutant.name, mutant.changes)
            script = None if options.check else first_failure(copy, TESTS)
            story = None if options.check or options.no_stories else first_failure(copy, [STORIES])
            for file, text in before.items():
                file.write_text(text)
            if options.check:
                continue
            by_stories += story is not None
            if script is None and story is None:
                survivors.append(mutant.name)
            print(f"{number}/{len(chosen)} {mutant.name} ({time.monotonic() - began:.0f} s)")
            print(f"    script: {script or 'NOT CAUGHT'}")
            if not options.no_stories:
                print(f"    random: {story or '-'}", flush=True)
    if options.check:
        print(f"{len(chosen)} can be planted")
        return 0
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught, {by_stories} by random stories too or alone")
    for name in survivors:
        print(f"survived: {name}")
    return 1 if survivors else 0


sys.exit(main())
