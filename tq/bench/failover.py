"""How long nobody accepts a task after the leader was killed, under load."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tq import Client
from tq.bench.bed import Bed
from tq.bench.processes import Broker, ProcessFailed
from tq.bench.tasks import NOOP

WORKERS = 2
SLOTS = 500
FEED_BATCH = 100
EVEN_SECONDS = 1.0  # of load before a kill
LAG_MAX = 200  # entries: so near to the leader a node counts as caught up
CAUGHT_UP_SECONDS_MAX = 60.0
LOAD_SECONDS = 3_600.0  # longer than it takes; its end is that of the bed


def pauses_ms(nodes: int, profile: str, kills: int) -> Iterator[float]:
    """From before each kill to behind the answer to a task that a client submits at once."""
    with Bed(nodes, profile) as bed:
        bed.start_workers(WORKERS, SLOTS)
        bed.go(bed.prepare("feed", LOAD_SECONDS, batch=FEED_BATCH, type=NOOP))
        for _ in range(kills):
            _caught_up(bed)
            time.sleep(EVEN_SECONDS)
            leader = bed.leader()
            with Client(bed.addresses) as client:
                client.submit(NOOP)  # it is connected
                begun = time.monotonic()
                leader.kill()
                client.submit(NOOP)
                yield (time.monotonic() - begun) * 1e3
            leader.start_ready()


def _caught_up(bed: Bed) -> None:
    """Wait until all nodes are near the leader: two may not be down at once. Raises ProcessFailed."""
    end = time.monotonic() + CAUGHT_UP_SECONDS_MAX
    while time.monotonic() < end:
        nodes = bed.client.cluster_status()["nodes"]
        if all(node["reachable"] for node in nodes):
            lag = max(node["last"] for node in nodes) - min(node["applied"] for node in nodes)
            if lag <= LAG_MAX and any(node["serving"] for node in nodes):
                return
        time.sleep(0.05)
    raise ProcessFailed(f"a node did not catch up in {CAUGHT_UP_SECONDS_MAX:g} s\n{_tails(bed.brokers)}")


def _tails(brokers: list[Broker]) -> str:
    return "\n".join(broker.tail(10) for broker in brokers)
