"""What was read is what the log says: all committed entries are applied once more, by a machine of its own, and each read
is compared with the state at the index that its answer named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tq.errors import NotFound
from tq.machine import queries
from tq.machine.apply import Machine, Settings
from tq.raft.node import Entry
from tq.sim.checkers.records import Read
from tq.sim.checkers.tasks import Breach
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore

Shown = tuple[str | None, int]


def check_replay(
    entries: Iterable[Entry], settings: Settings, reads: Iterable[Read], digests: dict[int, bytes]
) -> Iterator[Breach]:
    """``digests``: of nodes, by index."""
    by_index: defaultdict[int, list[Read]] = defaultdict(list)
    for read in reads:
        if read.state is not None:  # "no such task" names no index
            by_index[read.index].append(read)
    store = MemoryStore()
    machine = Machine(store.txn, settings)
    for entry in entries:
        if entry.data:
            machine.apply(entry.index, entry.data)
        for read in by_index.pop(entry.index, ()):
            told = _show(store, bytes.fromhex(read.id))
            if told != (read.state, read.fence):
                yield Breach(
                    "read", read.id, f"shown as {read.state} under {read.fence} at {read.index}; it was {told}"
                )
        digest = digests.get(entry.index)
        if digest is not None and digest != state_digest(store.txn):
            yield Breach("state", "", f"nodes have another state after entry {entry.index} than the log makes")
    for index in by_index:
        yield Breach("read", by_index[index][0].id, f"answered at {index}, which was never committed")


def _show(store: MemoryStore, id: bytes) -> Shown:
    try:
        task = queries.get_task(store.txn, id, 0)
    except NotFound:
        return None, 0
    return task["state"], task["fence"] or 0
