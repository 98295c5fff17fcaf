"""``python -m tests``, behind ``make test``: all tests, in two processes at once.

Tests of real processes wait most of the time, the others compute: together they take two thirds of the time. The first half's
output comes when both are done. ``--failed``: those that failed the last time, once more.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

HALVES = {"cluster": ["tests/cluster"], "rest": ["tests", "--ignore=tests/cluster"]}
FAILED = ["--last-failed", "--last-failed-no-failures", "none"]
NOTHING_TO_DO = 5
"""What pytest ends with if it has run no test."""


def command(half: str, *, failed: bool) -> list[str]:
    """Each half remembers its own failures."""
    options = ["--durations=15", "-o", f"cache_dir=.pytest_cache/{half}", *(FAILED if failed else ())]
    return [sys.executable, "-m", "pytest", *options, *HALVES[half]]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--failed"]):
        print("usage: python -m tests [--failed]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background; tests raise it
    failed = bool(arguments)
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command("cluster", failed=failed), stdout=output, stderr=subprocess.STDOUT) as cluster:
            rest = subprocess.run(command("rest", failed=failed), check=False).returncode
        output.seek(0)
        sys.stdout.buffer.write(output.read())
    print(f"tests: cluster ended with {cluster.returncode}, the rest with {rest}", flush=True)
    return int(any(code not in (0, NOTHING_TO_DO if failed else 0) for code in (cluster.returncode, rest)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
