"""The power goes at every write and every sync of a run of a group of one.

The run proposes, checkpoints, compacts, rolls segments and restarts. Afterwards the node must start, and:
every entry that was handed out as committed and is not in the store's checkpoint is handed out again, with the same
term and bytes; nothing comes twice or out of order; nothing comes that was not proposed; no term is led twice.
The power goes a second time while the node recovers or soon after.

TQ_LONG=1 tries many more runs; ``make sim KIND=journal`` new seeds.
"""

from __future__ import annotations

import os

import pytest

from tq.raft.node import Entry, Node
from tq.raft.sync import InlineSync
from tq.sim.clock import VirtualClock
from tq.sim.disk import PowerLoss, SimDisk
from tq.sim.late_sync import LateSync
from tq.sim.random import SeededRandom

LONG = os.environ.get("TQ_LONG") == "1"
RUNS = 12 if LONG else 2
LOSSES = 12 if LONG else 3
SEGMENT_BYTES = 700
TAIL_BYTES = 200


class Witness:
    """Stands outside of the machine: what was promised, and the store with its checkpoint."""

    def __init__(self) -> None:
        self.promised: dict[int, tuple[int, bytes]] = {}
        self.proposed: dict[tuple[int, int], bytes] = {}
        self.led: list[int] = []
        self.checkpoint = 0
        self.applied = 0

    def begin_life(self) -> None:
        self.applied = self.checkpoint

    def take(self, entries: list[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied + 1, "lost or twice"
            self.applied = entry.index
            known = self.promised.setdefault(entry.index, (entry.term, entry.data))
            assert known == (entry.term, entry.data), "what was promised changed"
            if entry.data:
                assert self.proposed[entry.term, entry.index] == entry.data, "nobody proposed this"

    def leads(self, term: int) -> None:
        assert self.applied >= max(self.promised), "a leader does not know all that was promised"
        assert all(term > led for led in self.led), "a term is led twice"
        self.led.append(term)


class Life:
    """One process: a node and what drives it."""

    def __init__(self, disk: SimDisk, witness: Witness, random: SeededRandom, *, late: bool) -> None:
        clock = VirtualClock()
        self.witness = witness
        self.random = random
        self.late = LateSync() if late else None
        self.led = False
        witness.begin_life()
        self.node = Node(
            node_id="n1", peers=[], disk=disk, clock=clock, random=random, sync=self.late or InlineSync(clock),
            applied_index=witness.checkpoint, election_ms=(600, 1_200), heartbeat_ms=150,
            segment_bytes=SEGMENT_BYTES, tail_bytes_max=TAIL_BYTES,
        )  # fmt: skip

    def turn(self) -> None:
        self.node.turn()
        while entries := self.node.take_committed(100):
            self.witness.take(entries)
        assert self.node.commit_index <= self.node.durable_index <= self.node.last_index
        if self.node.is_leader and not self.led:
            self.led = True
            self.witness.leads(self.node.term)

    def step(self) -> None:
        choice = self.random.below(10)
        if choice < 6 and self.node.is_leader:
            for _ in range(1 + self.random.below(3)):
                data = b"\x83" + self.random.bytes(1 + self.random.below(120))[1:]  # begins as the broker's: an array
                self.witness.proposed[self.node.propose(data)] = data
        elif choice == 6:
            self.witness.checkpoint = self.witness.applied
        elif choice == 7:
            self.node.compact(self.witness.checkpoint)
        if self.late is not None and self.random.below(2):
            self.late.run()
        self.turn()

    def until_leader(self) -> None:
        for _ in range(3):
            if self.late is not None:
                self.late.run()
            self.turn()
        assert self.led


def play(disk: SimDisk, witness: Witness, seed: int, *, late: bool) -> None:
    random = SeededRandom(seed)
    for _ in range(4):
        life = Life(disk, witness, random, late=late)
        for _ in range(14):
            life.step()
        if random.below(2):
            life.node.close()
        disk.crash()


def recover(disk: SimDisk, witness: Witness, seed: int, *, late: bool) -> None:
    """Start after the power loss, go on for a while; the power goes again on the way."""
    random = SeededRandom(seed)
    disk.power_loss(random)
    disk.stop_at(disk.steps + 1 + random.below(30))
    try:
        play(disk, witness, seed, late=late)
    except PowerLoss:
        disk.power_loss(random)
    disk.stop_at(None)
    life = Life(disk, witness, random, late=late)
    life.until_leader()
    for _ in range(4):
        life.step()


@pytest.mark.parametrize("late", [False, True], ids=["inline", "thread"])
@pytest.mark.parametrize("seed", range(RUNS))
def test_power_loss_at_every_step(seed, late):
    whole = SimDisk()
    witness = Witness()
    play(whole, witness, seed, late=late)
    assert len(witness.promised) > 30
    assert whole.steps > 100
    compacted = "00000000000000000001.seg" not in whole.list("raft")
    assert compacted or seed > 1, "the run is to exercise compaction"
    at_every_step(seed, late=late)


def at_every_step(seed: int, *, late: bool) -> int:
    """How often the power went first."""
    whole = SimDisk()
    play(whole, Witness(), seed, late=late)
    for step in range(1, whole.steps + 1):
        for loss in range(LOSSES):
            disk = SimDisk()
            witness = Witness()
            disk.stop_at(step)
            with pytest.raises(PowerLoss):
                play(disk, witness, seed, late=late)
            try:
                recover(disk, witness, 1_000 * seed + loss, late=late)
            except BaseException as error:
                error.add_note(f"seed {seed}, power lost at step {step}, loss {loss}")
                raise
    return whole.steps * LOSSES
