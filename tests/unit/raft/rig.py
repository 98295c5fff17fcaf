"""A node on a simulated disk, and what tests ask of it."""

from __future__ import annotations

from typing import Any

from pysyncobj.node import Node as Member

from tq.raft.guard import Guard
from tq.raft.journal import Journal
from tq.raft.node import Entry, Node
from tq.raft.recovery import open_journal
from tq.raft.sync import InlineSync, SyncStrategy
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom

SEGMENT_BYTES = 600


def journal_on(disk: SimDisk, *, floor: int = 0, segment_bytes: int = SEGMENT_BYTES, tail_bytes: int = 1000) -> Journal:
    return open_journal(
        disk, SeededRandom(5), floor_index=floor, segment_bytes=segment_bytes, tail_bytes_max=tail_bytes
    )


def node_on(
    disk: SimDisk, *, applied: int = 0, sync: SyncStrategy | None = None, segment_bytes: int = SEGMENT_BYTES,
    tail_bytes: int = 1000, clock: VirtualClock | None = None, peers: list[str] | None = None,
) -> Node:  # fmt: skip
    clock = clock or VirtualClock()
    return Node(
        node_id="n1", peers=peers or [], disk=disk, clock=clock, random=SeededRandom(7),
        sync=sync or InlineSync(clock), applied_index=applied, election_ms=(600, 1_200), heartbeat_ms=150,
        segment_bytes=segment_bytes, tail_bytes_max=tail_bytes,
    )  # fmt: skip


def leader_on(disk: SimDisk, **options: Any) -> Node:
    """A node that leads, with all that is committed taken."""
    node = node_on(disk, **options)
    node.turn()
    assert node.is_leader
    take_all(node)
    return node


def take_all(node: Node) -> list[Entry]:
    entries: list[Entry] = []
    while some := node.take_committed(100):
        entries += some
    return entries


def commit(node: Node, *datas: bytes) -> list[Entry]:
    """Propose, turn, and take what is committed."""
    for data in datas:
        node.propose(data)
    node.turn()
    return take_all(node)


def depose(guard: Guard, term: int) -> None:
    """What a message of a higher term does to SyncObj: a vote request that cannot be granted."""
    request = {"type": "request_vote", "term": term, "last_log_term": -1, "last_log_index": 0}
    guard._core._feed(Member("n2"), request, 0.0)


def fill(journal: Journal, count: int, *, term: int = 1, size: int = 50, synced: bool = True) -> None:
    """Append ``count`` entries, one sync each."""
    if journal.term < term:
        journal.set_term(term, "n1")
    for _ in range(count):
        index = journal.last_index + 1
        journal.append(b"\x01" + content(index, size), index, term)
        if synced:
            journal.sync()


def content(index: int, size: int = 50) -> bytes:
    return (b"entry %d " % index).ljust(size, b".")


def segment_paths(disk: SimDisk) -> list[str]:
    return [f"raft/{name}" for name in disk.list("raft") if name.endswith(".seg")]
