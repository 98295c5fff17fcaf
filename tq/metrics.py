"""Prometheus metrics, collected when they are asked for out of what the parts already count (``statistics()``).

Names are part of the public surface. Never a label by task id; queues and events are labels, both bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class BrokerCollector(Collector):
    def __init__(self, stats: Callable[[], dict[str, Any]], queues: Callable[[], list[dict[str, Any]]]) -> None:
        """stats: as of STATS. queues: as of QUEUES."""
        self._stats = stats
        self._queues = queues

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        yield from _tasks(stats, self._queues())
        yield from _times(stats)
        yield from _node(stats)
        yield from _peers(stats)


def _tasks(stats: dict[str, Any], queues: list[dict[str, Any]]) -> Iterable[Metric]:
    total = CounterMetricFamily("tq_tasks", "Changes of state, by queue and event", labels=["queue", "event"])
    for queue, event, count in stats["events"]:
        total.add_metric([queue, event], count)
    yield total
    pending = GaugeMetricFamily("tq_tasks_pending", "Tasks ready to run", labels=["queue", "band"])
    running = GaugeMetricFamily("tq_tasks_running", "Tasks that are leased to a worker", labels=["queue"])
    scheduled = GaugeMetricFamily("tq_tasks_scheduled", "Tasks that wait for their time", labels=["queue"])
    oldest = GaugeMetricFamily(
        "tq_queue_oldest_ready_seconds", "Age of the task that has been ready longest", labels=["queue"]
    )
    paused = GaugeMetricFamily("tq_queue_paused", "1 while nothing is granted from it", labels=["queue"])
    bound = GaugeMetricFamily(
        "tq_queue_max_length", "Tasks that may wait in it, where that is bounded", labels=["queue"]
    )
    for queue in queues:
        name = queue["name"]
        for band, count in queue["pending"].items():
            pending.add_metric([name, band], count)
        running.add_metric([name], queue["running"])
        scheduled.add_metric([name], queue["scheduled"])
        oldest.add_metric([name], queue["oldest_ready_age_ms"] / 1000)
        settings = queue["settings"]
        paused.add_metric([name], int(settings["paused"] is not None))
        if settings["max_length"] is not None:
            bound.add_metric([name], settings["max_length"])
    yield from (pending, running, scheduled, oldest, paused, bound)
    yield CounterMetricFamily("tq_leases_expired", "Leases that ran out", value=stats["leases_expired"])
    yield CounterMetricFamily("tq_stale_results", "Outcomes refused for their fence", value=stats["stale_results"])


def _node(stats: dict[str, Any]) -> Iterable[Metric]:
    raft, applier, store, proposer = stats["raft"], stats["applier"], stats["store"], stats["proposer"]
    yield GaugeMetricFamily("tq_workers", "Worker sessions", value=stats["workers"])
    yield GaugeMetricFamily("tq_connections", "Connections of clients and workers", value=stats["connections"])
    yield GaugeMetricFamily("tq_claims_parked", "Claims that wait for a task", value=stats["claims_parked"])
    yield CounterMetricFamily("tq_requests", "Requests received", value=stats["requests"])
    yield GaugeMetricFamily("tq_raft_term", "Current term", value=raft["term"])
    yield GaugeMetricFamily("tq_raft_is_leader", "1 on the leader", value=int(raft["role"] == "LEADER"))
    yield GaugeMetricFamily("tq_raft_commit_index", "Highest committed index", value=raft["commit_index"])
    yield GaugeMetricFamily("tq_raft_applied_index", "Highest applied index", value=applier["applied_index"])
    yield GaugeMetricFamily(
        "tq_raft_checkpointed_index", "Highest index durable in the store", value=applier["checkpointed_index"]
    )  # fmt: skip
    yield GaugeMetricFamily("tq_raft_fsync_seconds", "p99 of the last journal syncs", value=raft["sync_p99_ms"] / 1000)
    yield GaugeMetricFamily(
        "tq_checkpoint_seconds", "Time of the last checkpoint", value=applier["checkpoint_last_ms"] / 1000
    )  # fmt: skip
    yield CounterMetricFamily("tq_log_entries", "Log entries proposed by this node", value=proposer["entries"])
    yield CounterMetricFamily("tq_log_commands", "Commands in them", value=proposer["commands"])
    yield CounterMetricFamily("tq_requests_refused", "Refused for lack of room", value=proposer["refused"])
    yield GaugeMetricFamily("tq_journal_bytes", "Size of the journal", value=raft["journal_bytes"])
    yield GaugeMetricFamily("tq_store_used_bytes", "Pages in use in the store", value=store["used_bytes"])
    yield GaugeMetricFamily("tq_disk_free_bytes", "Free disk under the data folder", value=stats["disk_free_bytes"])
    yield GaugeMetricFamily("tq_disk_is_low", "1 while submissions are refused", value=int(stats["disk_is_low"]))


def _times(stats: dict[str, Any]) -> Iterable[Metric]:
    for name, text in (
        ("submit", "From a submission read to its answer"),
        ("claim_wait", "From a claim to its answer, where tasks were granted"),
    ):
        told = stats[f"{name}_seconds"]
        buckets = [("+Inf" if bound is None else str(bound), count) for bound, count in told["buckets"]]
        yield HistogramMetricFamily(f"tq_{name}_seconds", text, buckets=buckets, sum_value=told["sum"])


def _peers(stats: dict[str, Any]) -> Iterable[Metric]:
    yield CounterMetricFamily(
        "tq_raft_elections", "Elections that this node started", value=stats["raft"]["terms_begun"]
    )  # fmt: skip
    yield GaugeMetricFamily(
        "tq_clock_offset_seconds", "This node's wall clock less the median of all", value=stats["clock_offset_ms"] / 1000
    )  # fmt: skip
    yield GaugeMetricFamily(
        "tq_clock_is_wrong", "1 while this node should not lead for it", value=int(stats["clock"] == "far")
    )  # fmt: skip
    relayed = GaugeMetricFamily(
        "tq_relayed_connections", "Clients of this node at the leader; of other nodes here", labels=["direction"]
    )  # fmt: skip
    for direction, count in stats["relay"].items():
        relayed.add_metric([direction], count)
    yield relayed
    reachable = GaugeMetricFamily("tq_raft_peer_reachable", "1 if messages can be sent to it", labels=["peer"])
    waiting = GaugeMetricFamily("tq_raft_peer_waiting_bytes", "Queued for a peer, not yet sent", labels=["peer"])
    dropped = CounterMetricFamily("tq_raft_peer_dropped", "Messages dropped for want of room", labels=["peer"])
    refused = GaugeMetricFamily("tq_raft_peer_refused", "1 while a node is refused here", labels=["peer"])
    for peer, told in stats["peers"].items():
        refused.add_metric([peer], int(told["refused"] is not None))
        if "reachable" in told:  # else it is no member
            reachable.add_metric([peer], int(told["reachable"]))
            waiting.add_metric([peer], told["waiting_bytes"])
            dropped.add_metric([peer], told["dropped"])
    yield from (reachable, waiting, dropped, refused)


def render(collector: Collector) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
