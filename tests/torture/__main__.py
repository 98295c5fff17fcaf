"""``python -m tests.torture --nodes N --minutes M --seed S``, behind ``make torture NODES=N MINUTES=M``."""

from __future__ import annotations

import argparse
import sys

from tests.torture.run import main

parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
parser.add_argument("--minutes", type=float, default=5.0, help="how long clients and faults go on")
parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to draw the same faults and tasks")
parser.add_argument("--nodes", type=int, choices=(1, 3, 5, 7), default=1, help="of the cluster")
parser.add_argument("--profile", choices=("default", "fast"), default="fast", help="cluster.profile of several nodes")
options = parser.parse_args()
sys.exit(main(options.minutes * 60, options.seed, options.nodes, options.profile))
