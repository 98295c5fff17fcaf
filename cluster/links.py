"""The ways between the nodes of a cluster on one machine, as a process: here nodes can be cut off from each other.

``up --links`` starts it on a file that names where each node listens. It adds where each node finds each other one, and
from then on looks several times a second which nodes the file says are cut off. How a cut behaves: ``tq/bench/ways.py``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from cluster.spec import ClusterSpec
from tq.bench.ways import Ways

LOOK_SECONDS = 0.1


class Links:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def of(cluster: ClusterSpec) -> Links:
        return Links(cluster.folder / "links.json")

    @property
    def are_used(self) -> bool:
        return self.path.exists()

    def ask(self, cluster: ClusterSpec) -> None:
        """For ways between all nodes, none of them cut."""
        self._write({"targets": {node.id: node.peer_listen for node in cluster.nodes}, "cut": []})

    def offer(self, ways: dict[tuple[str, str], str]) -> None:
        self._write({**self._read(), "ways": [[*pair, address] for pair, address in ways.items()]})

    def ways(self) -> dict[tuple[str, str], str] | None:
        """(from, to) -> address; None: not yet."""
        found = self._read().get("ways")
        return None if found is None else {(source, target): address for source, target, address in found}

    @property
    def targets(self) -> dict[str, str]:
        return dict(self._read()["targets"])

    @property
    def cut(self) -> frozenset[str]:
        """Nodes that are cut off."""
        return frozenset(self._read()["cut"])

    def set_cut(self, id: str, is_cut: bool) -> None:
        self._write({**self._read(), "cut": sorted(self.cut | {id} if is_cut else self.cut - {id})})

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self.path.read_text()))

    def _write(self, value: dict[str, Any]) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(value, indent=1))
        os.replace(new, self.path)


def run(links: Links) -> None:
    """Until the process is ended."""
    with Ways() as ways:
        targets = links.targets
        pairs = [(source, target) for source in targets for target in targets if source != target]
        links.offer({pair: ways.add(*pair, targets[pair[1]]) for pair in pairs})
        cut: frozenset[str] = frozenset()
        while True:
            wanted = links.cut
            if wanted != cut:
                ways.heal_all()
                for node in wanted:
                    ways.isolate(node)
                cut = wanted
            threading.Event().wait(LOOK_SECONDS)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    run(Links(Path(sys.argv[1])))
