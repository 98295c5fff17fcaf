"""The process that is recorded: ``python -m tests.powerloss.recorded ROOT DIARY SEED LIVES STEPS``.

It is the node of ``tests/sim/one_node.py`` on a real disk. What that promises goes into the diary as lines of JSON, one
write each, before anything later is written to the disk: committed entries, terms led, the lines of the history, and
the time when it has moved. With a diary that is not empty it goes on where the process before was killed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

from tests.sim.one_node import Life, World
from tq.raft.node import Entry
from tq.spec import parse
from tq.store.lmdb_store import LmdbStore
from tq.world import RealDisk

STORE_DIRECTORY = "store"
MAP_BYTES = 1 << 28


class RealWorld(World):
    def __init__(self, root: str, seed: int, diary: int | None) -> None:
        super().__init__(seed, late=False, payload_bytes_max=6_000)
        self._root = root
        self._diary = diary
        self._open()

    def _open(self) -> None:
        self.disk = RealDisk(self._root)
        self.store = LmdbStore.open(self.disk, STORE_DIRECTORY, self.clock, map_bytes=MAP_BYTES)

    def stop_dead(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self.store.close()
        self.disk.unlock()

    def pass_time(self, ms: int) -> None:
        super().pass_time(ms)
        self._note({"wall_ms": self.clock.wall_ms()})

    def remember(self, diary: Iterable[str]) -> None:
        """What an earlier process was seen to promise; go on at the time it had come to."""
        wall_ms = self.clock.wall_ms()
        for line in diary:
            note = json.loads(line)
            if "entry" in note:
                index, term, data = note["entry"]
                self.entries[index] = (term, bytes.fromhex(data))
            elif "term" in note:
                self.led.append(note["term"])
            elif "wall_ms" in note:
                wall_ms = note["wall_ms"]
            else:
                self.resume(note["history"])
        self.clock.advance_ms(wall_ms - self.clock.wall_ms())
        submitted = {raw for line in self.lines for raw in _specs(json.loads(line))}
        self.specs = sorted(map(bytes.fromhex, submitted), key=lambda raw: parse(raw).id)

    def check_power(self) -> None:
        pass

    def committed(self, entry: Entry) -> None:
        is_new = entry.index not in self.entries
        super().committed(entry)
        if is_new:
            self._note({"entry": [entry.index, entry.term, entry.data.hex()]})

    def leads(self, term: int) -> None:
        super().leads(term)
        self._note({"term": term})

    def _write(self, record: dict[str, Any]) -> None:
        super()._write(record)
        self._note({"history": record})

    def _note(self, record: dict[str, Any]) -> None:
        if self._diary is not None:
            line = json.dumps(record).encode() + b"\n"
            assert os.write(self._diary, line) == len(line)


def _specs(record: dict[str, Any]) -> list[str]:
    return [row[1] for row in record["tasks"]] if record.get("call") == "submit" else []


def main(root: str, diary: str, seed: int, lives: int, steps: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    descriptor = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    world = RealWorld(root, seed, descriptor)
    world.remember(Path(diary).read_text().splitlines())
    for _ in range(lives):
        life = Life(world)
        for _ in range(steps):
            life.step()
        if world.random.below(2):
            life.stop()
        world.stop_dead()
    world.close()
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
