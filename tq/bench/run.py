"""The benchmark: ``tq bench``. Runs scenarios one after the other and prints our figures beside the budgets.

A figure is of this machine at this time: processors, disk and versions stand above the table, and a run beside
other work measures the other work, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from tq.bench import facts, report
from tq.bench.measure import Line
from tq.bench.processes import ProcessFailed, end_on_sigterm
from tq.bench.scenarios import FULL, ONE_NODE_ONLY, QUICK, SCENARIOS, Scale
from tq.errors import TqError


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 measured, whatever the figures; 1 something failed; 2 usage."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    end_on_sigterm()
    names = options.scenarios or [name for name in SCENARIOS if options.nodes == 1 or name not in ONE_NODE_ONLY]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"tq bench: no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    if options.output is not None and not report.has_markers(options.output, options.nodes):
        print(
            f"tq bench: {options.output} lacks the markers between which the figures of {options.nodes} node(s) go",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="tq-bench-") as folder:
        machine = facts.gather(Path(folder))
    print("\n".join(machine.lines()), file=sys.stderr, flush=True)
    scale = attrs.evolve(QUICK if options.quick else FULL, nodes=options.nodes)
    if options.seconds is not None:
        scale = attrs.evolve(scale, seconds=options.seconds, work_seconds=3 * options.seconds)
    try:
        lines = measure(names, scale, lambda line: print(line, file=sys.stderr, flush=True), options.rounds)
    except (ProcessFailed, TqError) as error:
        print(f"tq bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tq bench: interrupted; what was measured until then is above", file=sys.stderr)
        return 130
    print(report.as_json(machine, lines) if options.json else report.as_text(machine, lines))
    if options.output is not None:
        report.write(options.output, report.as_markdown(machine, lines), options.nodes)
    return 0


def measure(names: Sequence[str], scale: Scale, say: Callable[[str], None], rounds: int = 1) -> list[Line]:
    """Run scenarios by name, in order; ``say`` gets each line as soon as it is there.

    rounds: of each scenario; the lines of the best are kept, because a busy machine only takes away.
    """
    lines: list[Line] = []
    others = facts.Others()
    for name in names:
        found: list[list[Line]] = []
        for _ in range(rounds):
            found.append([])
            for line in SCENARIOS[name](scale):
                found[-1].append(attrs.evolve(line, others=others.percent()))
                say("  ".join(cell for cell in report.row(found[-1][-1]) if cell))
        lines += best(found)
    return lines


def best(found: Sequence[list[Line]]) -> list[Line]:
    """The round whose first line is the best; its other lines come with it, so that all are of one run."""

    def goodness(lines: list[Line]) -> float:
        first = lines[0]
        value = first.value or 0.0
        return value if first.better == "higher" else -value

    return max(found, key=goodness)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tq bench", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one or more of {', '.join(SCENARIOS)}; all")
    parser.add_argument(
        "--output", type=Path, help="a page with markers, as docs/performance.md, to write the table to"
    )
    parser.add_argument("--nodes", type=int, choices=(1, 3, 5, 7), default=1, help="of the cluster that is measured")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes, to try it: figures mean little"
    )
    parser.add_argument("--rounds", type=_rounds, default=1, help="run each scenario so often and keep its best run")
    parser.add_argument("--seconds", type=_seconds, help="of each load (10), and a third of S5's and S9's")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3_600:
        raise argparse.ArgumentTypeError("from 0.1 to 3600")
    return seconds


def _rounds(text: str) -> int:
    if not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("from 1 to 100")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
