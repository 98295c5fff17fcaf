"""The brokers of a torture run: one, or the nodes of a cluster with ways between them that can be cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.faulty.machine import Machine, Machines, why_not
from tests.torture.failed import TortureFailed
from tq import Client
from tq.bench.processes import Broker, Ground
from tq.bench.ways import Ways
from tq.errors import TqError
from tq.store.dump import state_digest
from tq.store.lmdb_store import LmdbStore
from tq.world import RealClock, RealDisk

SETTINGS = {
    "leases": {"lease_ms": 2_000, "heartbeat_ms": 500, "session_ms": 2_000, "crashes_max": 20},
    "limits": {"disk_free_min_bytes": 0},
    "log": {"level": "info", "format": "text"},
}
LOG_KEEP_BYTES = 1 << 20  # a few seconds of the run: who is away for longer needs a snapshot
INSTALLED = "installed a snapshot"
STORE = "store"
READY_SECONDS_MAX = 60.0
HEALED_SECONDS_MAX = 20.0
CAUGHT_UP_SECONDS_MAX = 45.0
SETTLED_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 40.0
SETTLE_TRIES = 5


class Group:
    """Leave its ``with`` block to end the ways; the processes belong to the ground."""

    def __init__(self, ground: Ground, nodes: int, profile: str) -> None:
        self.ways = Ways() if nodes > 1 else None
        if nodes > 1:
            more = {"cluster": {"profile": profile}, "storage": {"log_keep_bytes": LOG_KEEP_BYTES}}
            self.brokers = ground.brokers(nodes, {**SETTINGS, **more}, self.ways)
        else:
            self.brokers = [ground.broker(SETTINGS)]
        self.machines: dict[str, Machine] = {}  # of several nodes, where machines can be played
        if nodes > 1 and why_not() is None:
            machines = Machines(ground.folder)
            self.machines = {broker.name: machines.under(broker) for broker in self.brokers}
        self.by_name = {broker.name: broker for broker in self.brokers}
        self.addresses = ",".join(broker.address for broker in self.brokers)

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.ways is not None:
            self.ways.close()

    def start(self) -> None:
        for broker in self.brokers:
            broker.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        for broker in self.brokers:
            broker.wait_ready(READY_SECONDS_MAX)

    def addresses_for(self, number: int) -> str:
        """What a client or worker is told: every second one has one node alone, and lives with what happens to it."""
        if number % 2 == 0:
            return self.addresses
        return self.brokers[number // 2 % len(self.brokers)].address

    def leader(self, among: Sequence[str]) -> str | None:
        """Which of these nodes leads, if one does."""
        return next((name for name in among if self.by_name[name].alive and self.by_name[name].leads()), None)

    def healed(self) -> float:
        """Seconds until every node takes a read that only the leader can vouch for, and none lags. Raises TortureFailed."""
        begun = time.monotonic()
        self.wait_ready()
        for broker in self.brokers:
            with Client(broker.address) as client:
                try:
                    client.list(limit=1, linearizable=True, timeout=HEALED_SECONDS_MAX)
                except TqError as error:
                    raise TortureFailed(f"{broker.name} does not serve: {error}\n{broker.tail()}") from error
        if len(self.brokers) > 1:
            self._catch_up()
        return time.monotonic() - begun

    def _catch_up(self) -> None:
        """Until all nodes have applied what one of them has now."""
        end = time.monotonic() + CAUGHT_UP_SECONDS_MAX
        with Client(self.addresses) as client:
            nodes = client.cluster_status()["nodes"]
            goal = max(node.get("last", 0) for node in nodes)
            while not all(node.get("applied", 0) >= goal for node in nodes):
                if time.monotonic() > end:
                    facts = {node["id"]: (node.get("role"), node.get("applied")) for node in nodes}
                    tails = "\n".join(broker.tail() for broker in self.brokers)
                    raise TortureFailed(f"not all nodes have come to {goal}: {facts}\n{tails}")
                time.sleep(0.1)
                nodes = client.cluster_status()["nodes"]

    def snapshots(self) -> int:
        """How many were installed, by what the nodes say."""
        return sum(broker.log.read_text("utf-8", "replace").count(INSTALLED) for broker in self.brokers)

    def stop(self) -> None:
        """All of them, gracefully and at once. Raises TortureFailed: one ended in another way."""
        for broker in self.brokers:
            if broker.alive:
                broker.terminate()
        for broker in self.brokers:
            broker.wait(STOP_SECONDS_MAX)
            if broker.exit_code != 0:
                raise TortureFailed(f"{broker.name} ended with {broker.exit_code}\n{broker.tail()}")

    def stop_and_compare(self, say: Callable[[str], None]) -> tuple[int, set[bytes]]:
        """Stop all nodes; the index that all had applied, and the fingerprints of their states: one, if all is well.

        What one of them decides while the others stop already is its own; then all start and try again.
        """
        for _ in range(SETTLE_TRIES):
            self._settle()
            self.stop()
            ends = [_state(broker) for broker in self.brokers]
            indexes = {index for index, _digest in ends}
            if len(indexes) == 1:
                return ends[0][0], {digest for _index, digest in ends}
            say(f"  stopped at different indexes: {sorted(indexes)}")
            self.start()
        raise TortureFailed("the nodes never stopped at one index")

    def _settle(self) -> None:
        """Until all nodes have applied all there is."""
        if len(self.brokers) == 1:
            return
        end = time.monotonic() + SETTLED_SECONDS_MAX
        with Client(self.addresses) as client:
            while True:
                nodes = client.cluster_status()["nodes"]
                ends = {(node.get("applied"), node.get("last")) for node in nodes}
                if all(node["reachable"] for node in nodes) and len(ends) == 1:
                    return
                if time.monotonic() > end:
                    raise TortureFailed(f"the nodes do not come to the same index: {nodes}")
                time.sleep(0.1)


def _state(broker: Broker) -> tuple[int, bytes]:
    """Applied index and fingerprint of a node that does not run."""
    disk = RealDisk(str(broker.data))
    disk.lock()
    store = LmdbStore.open(disk, STORE, RealClock())
    try:
        return store.checkpointed_index, state_digest(store.txn)
    finally:
        store.close()
        disk.unlock()
