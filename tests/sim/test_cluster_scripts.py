"""Scripts for three whole brokers: what clients and workers see while leaders change, networks fail and clocks are wrong.

All is real but disks, clocks, sockets and time itself (tq/sim/cluster.py); every checker of the cluster looks on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog

from tests.unit.broker.rig import cancelled, complete, id_of, lease, task, task_id
from tq.errors import BrokerUnavailable, NotLeader, from_wire
from tq.limits import READY_LAG_ENTRIES_MAX
from tq.machine.answers import SubmitOutcome
from tq.protocol import messages as m
from tq.sim.checkers.breach import Breach
from tq.sim.cluster import LEASES, SimCluster
from tq.sim.disk import SimDisk
from tq.sim.host import ELECTION_MS, HEARTBEAT_MS
from tq.sim.platter import Platter
from tq.store.dump import state_digest

FAIL_OVER_MS = 3 * ELECTION_MS[1]
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


class Talk:
    """A client of one node, that lets the cluster run until it is answered."""

    def __init__(self, cluster: SimCluster, node: str) -> None:
        self.cluster = cluster
        self.last_index = 0  # the highest that an answer named: it sees what it wrote, as every client does
        self.client = cluster.hosts[node].connect()
        self.call(m.Hello, 1, 1, "script")

    def ask(self, kind: type[m.Message], *fields: Any, **more: Any) -> int:
        return self.client.ask(kind, *fields, **more)

    def has(self, rid: int) -> bool:
        return rid in self.client.answers

    def answer(self, rid: int, within_ms: int = 2_000) -> Any:
        """The reply. Raises its error; Breach if it does not come in time."""
        self.cluster.run_until(lambda: self.has(rid), within_ms, f"an answer to {rid}")
        reply = self.client.answers[rid]
        if isinstance(reply, m.ErrorReply):
            raise from_wire(reply.error)
        self.last_index = max(self.last_index, getattr(reply, "index", 0))
        return reply

    def call(self, kind: type[m.Message], *fields: Any, **more: Any) -> Any:
        return self.answer(self.ask(kind, *fields, **more))

    def submit(self, *numbers: int, **more: Any) -> Any:
        return self.call(m.SubmitTask, [task(number, **more) for number in numbers])

    def state(self, number: int, **more: Any) -> str:
        more = {"min_index": self.last_index, **more}
        return str(self.call(m.GetTask, task_id(number), **more).task["state"])

    def register(self, number: int = 1) -> bytes:
        session = b"session%09d" % number
        self.call(m.RegisterWorker, session, f"worker-{number}", ["work"], ["default"])
        return session

    def ask_claim(self, session: bytes, seq: int = 1, n: int = 1, wait_ms: int = 0) -> int:
        return self.ask(m.ClaimTask, session, seq, [], n, wait_ms)

    def claim(self, session: bytes, seq: int = 1, n: int = 1, wait_ms: int = 0) -> list[Any]:
        grants: list[Any] = self.answer(self.ask_claim(session, seq, n, wait_ms)).grants
        return grants

    def beat(self, session: bytes, *grants: list[Any]) -> m.HeartbeatReply:
        reply: m.HeartbeatReply = self.call(m.Heartbeat, session, [lease(grant) for grant in grants])
        return reply

    def report(self, session: bytes, *items: list[Any]) -> list[Any]:
        reply: m.ResultReply = self.call(m.TaskResult, session, list(items))
        return reply.items


def started(seed: int = 1, size: int = 3) -> SimCluster:
    cluster = SimCluster(seed, size)
    cluster.start_all()
    cluster.elect()
    return cluster


def leader_and_followers(cluster: SimCluster) -> tuple[str, str, str]:
    leader = cluster.elect()
    near, other = sorted(cluster.followers())
    return leader, near, other


def equal_at_the_end(cluster: SimCluster) -> None:
    """All nodes come to hold the same, whatever happened."""
    cluster.heal()
    cluster.settle()
    digests = {state_digest(cluster.broker(name).txn) for name in cluster.hosts}
    assert len(digests) == 1


# ---- the group ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 5])
def test_any_node_answers_everything(size):
    cluster = started(size=size)
    for number, name in enumerate(cluster.hosts):
        talk = Talk(cluster, name)
        talk.submit(number)
        session = talk.register(number)
        (grant,) = talk.claim(session)
        assert talk.report(session, complete(grant)) == [0]
        for other in cluster.hosts:
            assert Talk(cluster, other).state(number, linearizable=True) == "completed"
    equal_at_the_end(cluster)


def test_it_forms_though_power_fails_at_every_step_of_it():
    """Each start of a node loses power at its next write, until all have promised and formed."""
    cluster = SimCluster(3)
    for step in range(12):
        for host in cluster.hosts.values():
            host.disk.stop_at(host.disk.steps + 1 + step)
            if not host.is_up:
                cluster.start(host.name)
        cluster.run(300)
    cluster.heal()
    cluster.elect()
    assert len({host.identity.cluster_id for host in cluster.hosts.values() if host.identity}) == 1
    Talk(cluster, "n1").submit(1)
    equal_at_the_end(cluster)


def test_a_node_whose_disk_was_lost_stays_outside():
    cluster = started()
    _leader, near, _other = leader_and_followers(cluster)
    cluster.kill(near)
    host = cluster.hosts[near]
    host.disk = SimDisk()
    host.platter = Platter()
    assert cluster.start(near)
    cluster.run(3_000)
    assert host.broker is None, "it votes again under its old name"
    assert host.peers is not None
    assert "another data directory" in host.peers.refusals[0]
    Talk(cluster, cluster.elect_among(near)).submit(1)


# ---- leaders change ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "power", "cut"])
def test_a_change_of_leader_is_a_short_pause(how):
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    talk.submit(1)
    took_ms = fail(cluster, leader, how)
    assert took_ms < FAIL_OVER_MS
    assert talk.state(1) == "pending"
    talk.submit(2)
    equal_at_the_end(cluster)


@pytest.mark.parametrize(("election_ms", "heartbeat_ms"), [(ELECTION_MS, HEARTBEAT_MS), ((600, 1_200), 150)])
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_leader_whose_process_ends_is_replaced_before_any_timer(seed, election_ms, heartbeat_ms):
    cluster = SimCluster(seed)
    for host in cluster.hosts.values():
        host.election_ms, host.heartbeat_ms = election_ms, heartbeat_ms
    cluster.start_all()
    cluster.elect()
    cluster.run(1_500)  # a connection that served for so long is made anew at once
    leader, near, _other = leader_and_followers(cluster)
    term = cluster.broker(leader).node.term
    assert fail(cluster, leader, "kill") < election_ms[0] / 3
    assert cluster.broker(near).node.term == term + 1
    equal_at_the_end(cluster)


@pytest.mark.parametrize("seed", range(1, 6))
def test_what_comes_while_nobody_leads_is_held_and_done(seed):
    """No client is sent away to wait: the request is answered when the new leader serves."""
    cluster = started(seed)
    cluster.run(1_500)
    leader, near, other = leader_and_followers(cluster)
    talks = [Talk(cluster, near), Talk(cluster, other)]
    cluster.kill(leader)
    cluster.run_until(lambda: cluster.broker(near).node.leader_id is None, 1_000, "it knows that nobody leads")
    asked = [talk.ask(m.SubmitTask, [task(number)]) for number, talk in enumerate(talks)]
    for talk, rid in zip(talks, asked, strict=True):
        assert talk.answer(rid, ELECTION_MS[0]).items == [0]
    equal_at_the_end(cluster)


def test_what_is_held_is_refused_when_no_leader_comes():
    cluster = started()
    cluster.run(1_500)
    leader, near, other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    cluster.kill(leader)
    cluster.kill(other)
    cluster.run_until(lambda: cluster.broker(near).node.leader_id is None, 1_000, "it knows that nobody leads")
    rid = talk.ask(m.SubmitTask, [task(1)])
    with pytest.raises(NotLeader):
        talk.answer(rid, 1_100)
    began_ms = cluster.now_ms
    with pytest.raises(NotLeader):
        talk.submit(1)
    assert cluster.now_ms - began_ms < 20, "by now it does not hope any more"
    equal_at_the_end(cluster)


def test_connections_that_break_again_and_again_change_no_leader():
    """All at once, as a router does that forgets them; each is made anew."""
    cluster = started()
    leader, _near, _other = leader_and_followers(cluster)
    term = cluster.broker(leader).node.term
    for _ in range(20):
        cluster.run(1_100)
        for wire in cluster.streams.wires():
            cluster.streams.reset(cluster.now_ms, wire)
    assert {cluster.broker(name).node.term for name in cluster.hosts} == {term}
    equal_at_the_end(cluster)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_follower_that_stops_brings_back_the_answers_of_the_leader(seed):
    """Else they would be told that nobody knows whether it was done."""
    cluster = started(seed)
    _leader, near, _other = leader_and_followers(cluster)
    talk, worker = Talk(cluster, near), Talk(cluster, near)
    parked = worker.ask_claim(worker.register(), wait_ms=30_000)
    cluster.streams.delay_ms = (20, 60)
    asked = [talk.ask(m.SubmitTask, [task(number, queue="other")]) for number in range(20)]
    cluster.run(5)
    began_ms = cluster.now_ms
    cluster.stop(near)
    assert [talk.client.answers[rid].TYPE for rid in asked] == [m.SubmitReply.TYPE] * 20
    assert cluster.now_ms - began_ms < 1_000, "it does not wait for the claim that is parked"
    assert not worker.has(parked)
    equal_at_the_end(cluster)


@pytest.mark.parametrize("how", ["kill", "power"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_node_that_comes_back_takes_requests_at_once(seed, how):
    """The others have not reached it for so long that they try once a second: its own call ends that pause."""
    cluster = started(seed)
    leader, near, _other = leader_and_followers(cluster)
    (cluster.kill if how == "kill" else cluster.lose_power)(near)
    cluster.run(7_000 + 100 * seed)
    assert near not in cluster.hosts[leader].reachable
    assert cluster.start(near)
    cluster.run(3 * HEARTBEAT_MS)  # it has dialed, was dialed, and has heard who leads
    Talk(cluster, near).submit(1)
    equal_at_the_end(cluster)


def fail(cluster: SimCluster, leader: str, how: str) -> int:
    """Let the leader fail, and another one lead. Returns how long that took."""
    if how == "kill":
        cluster.kill(leader)
    elif how == "power":
        cluster.lose_power(leader)
    elif how == "pause":
        cluster.hosts[leader].is_paused = True
    else:
        cluster.streams.isolate(leader, cluster.hosts)

    def leads_anew() -> bool:
        new = cluster.leader()
        others = [host for host in cluster.live() if host.name != leader]
        return new not in (None, leader) and all(host.node and host.node.leader_id == new for host in others)

    return cluster.run_until(leads_anew, 10_000, "a new leader")


@pytest.mark.parametrize("how", ["kill", "pause", "cut"])
def test_a_parked_claim_at_a_follower_is_told_and_goes_on_at_the_new_leader(how):
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    parked = worker.ask_claim(session, 1, wait_ms=30_000)
    cluster.run(200)
    assert not worker.has(parked)
    fail(cluster, leader, how)
    with pytest.raises((BrokerUnavailable, NotLeader)):
        worker.answer(parked)
    again = worker.ask_claim(session, 1, wait_ms=30_000)
    cluster.run(100)
    worker.submit(1)
    (grant,) = worker.answer(again).grants
    assert id_of(grant) == task_id(1)
    assert worker.report(session, complete(grant)) == [0]
    equal_at_the_end(cluster)


def test_a_parked_claim_at_the_old_leader_is_told_who_leads():
    cluster = started()
    leader, _near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, leader)
    session = worker.register()
    parked = worker.ask_claim(session, 1, wait_ms=30_000)
    cluster.run(100)
    cluster.streams.isolate(leader, cluster.hosts)
    with pytest.raises(NotLeader):
        worker.answer(parked)
    cluster.streams.heal()
    cluster.run_until(lambda: cluster.broker(leader).node.leader_id not in (None, leader), 5_000, "it follows")
    cluster.elect()
    assert worker.claim(session, 1) == []  # relayed to the new leader
    equal_at_the_end(cluster)


def test_a_submission_in_flight_is_unknown_and_sent_again_a_duplicate_or_new():
    """The leader is cut off with it: the log of the others decides."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    at_leader, at_follower = Talk(cluster, leader), Talk(cluster, near)
    cluster.streams.isolate(leader, cluster.hosts)
    direct = at_leader.ask(m.SubmitTask, [task(1)])
    relayed = at_follower.ask(m.SubmitTask, [task(2)])
    cluster.run(10)
    for talk, rid in ((at_leader, direct), (at_follower, relayed)):
        with pytest.raises((BrokerUnavailable, NotLeader)):
            talk.answer(rid, FAIL_OVER_MS * 4)
    cluster.streams.heal()
    cluster.elect()
    assert at_follower.submit(1, 2).items == [0, 0]
    assert [item[0] for item in at_follower.submit(1, 2).items] == [1, 1]
    equal_at_the_end(cluster)


def test_a_submission_whose_place_in_the_log_another_leader_took_is_unknown():
    """The old leader stands still with it in flight, and wakes up to a log that has something else there."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    old = Talk(cluster, leader)
    cluster.streams.isolate(leader, cluster.hosts)
    rid = old.ask(m.SubmitTask, [task(1)])
    cluster.run(2)
    cluster.hosts[leader].is_paused = True
    assert cluster.elect_among(leader) != leader
    cluster.streams.heal()
    cluster.run(1_000)
    cluster.elect()
    Talk(cluster, near).submit(2)
    cluster.hosts[leader].is_paused = False
    with pytest.raises(BrokerUnavailable):
        old.answer(rid)
    cluster.elect()
    assert Talk(cluster, near).submit(1).items == [0]
    equal_at_the_end(cluster)


def test_what_was_committed_and_not_answered_is_a_duplicate():
    """The leader dies when the others have the entry, before it can tell."""
    cluster = started()
    leader, near, other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    last = cluster.committed.last_index
    rid = talk.ask(m.SubmitTask, [task(1)])
    followers = [cluster.broker(name).node for name in (near, other)]
    cluster.run_until(lambda: all(node.durable_index > last for node in followers), 1_000, "both have it")
    assert cluster.committed.last_index == last
    cluster.kill(leader)
    with pytest.raises(BrokerUnavailable):
        talk.answer(rid)
    cluster.elect()
    assert [item[0] for item in talk.submit(1).items] == [1]
    equal_at_the_end(cluster)


def test_a_follower_gives_no_answer_of_its_own_to_what_the_leader_decides():
    """No leader, no majority: NOT_LEADER, soon, and nothing was done."""
    cluster = started()
    leader, near, other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    cluster.kill(leader)
    cluster.kill(other)
    cluster.run(2_000)
    for kind, fields in (
        (m.SubmitTask, ([task(1)],)), (m.CancelTask, ([task_id(1)], 0)), (m.GetTask, (task_id(1), 0, 0, True)),
        (m.ClaimTask, (b"session000000001", 1, [], 1, 0)), (m.Workers, ()),
    ):  # fmt: skip
        with pytest.raises(NotLeader):
            talk.answer(talk.ask(kind, *fields))  # type: ignore[arg-type]
    equal_at_the_end(cluster)


# ---- queues --------------------------------------------------------------------------------------------


def test_a_queue_that_was_paused_through_a_follower_is_paused_for_the_next_leader():
    cluster = started()
    leader, near, other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    settings = talk.call(m.SetQueue, b"a" * 16, "default", {"paused": True, "max_length": 1}, "ana").settings
    talk.submit(1)
    cluster.kill(leader)
    cluster.elect()
    assert talk.call(m.SetQueue, b"a" * 16, "default", {"paused": False}, "ben").settings == settings, (
        "the same operation"
    )
    assert Talk(cluster, other).call(m.Queues, talk.last_index).queues[0]["settings"] == settings
    session = talk.register()
    waiting = talk.ask_claim(session, 1, 1, 20_000)
    assert talk.submit(2).items[0][0] == SubmitOutcome.QUEUE_FULL
    cluster.run(500)
    assert not talk.has(waiting)
    Talk(cluster, other).call(m.SetQueue, b"b" * 16, "default", {"paused": False}, "ben")
    (grant,) = talk.answer(waiting).grants
    assert bytes(grant[0][2:18]) == task_id(1)
    equal_at_the_end(cluster)


# ---- reads ---------------------------------------------------------------------------------------------


def test_a_leader_that_is_cut_off_gives_no_linearizable_read():
    """It believes to lead, and its answer would be old: it may say nothing before it knows better."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    old, new = Talk(cluster, leader), Talk(cluster, near)
    new.submit(1)
    cluster.streams.isolate(leader, cluster.hosts)
    linear = old.ask(m.GetTask, task_id(1), 0, 0, True)
    assert old.state(1) == "pending"
    assert not old.has(linear)
    cluster.run_until(lambda: cluster.leader() not in (None, leader), 5_000, "another one leads")
    cluster.run(100)
    new.call(m.CancelTask, [task_id(1)], 0)
    with pytest.raises(NotLeader):
        old.answer(linear)
    assert new.state(1, linearizable=True) == "cancelled"
    equal_at_the_end(cluster)


def test_a_leader_whose_network_was_slow_for_a_moment_answers_linearizable_reads():
    cluster = started()
    leader, _near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, leader)
    talk.submit(1)
    cluster.streams.isolate(leader, cluster.hosts)
    linear = talk.ask(m.GetTask, task_id(1), 0, 0, True)
    cluster.run(50)
    assert not talk.has(linear)
    cluster.streams.heal()
    assert talk.answer(linear).task["state"] == "pending"


def test_a_follower_waits_for_the_index_that_a_client_has_seen():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    writer, reader = Talk(cluster, leader), Talk(cluster, near)
    cluster.streams.isolate(near, cluster.hosts)
    index = writer.submit(1).index
    waiting = [
        reader.ask(m.GetTask, task_id(1), 0, index),
        reader.ask(m.WaitTask, task_id(1), 0, 0, index),
        reader.ask(m.ListTasks, {}, 10, None, index),
        reader.ask(m.Queues, index),
    ]
    cluster.run(150)
    assert not any(reader.has(rid) for rid in waiting)
    cluster.streams.heal()
    for rid in waiting:
        assert reader.answer(rid).index >= index


def test_a_wait_at_a_follower_is_woken_by_the_end_of_its_task():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker, reader = Talk(cluster, leader), Talk(cluster, near)
    index = worker.submit(1).index
    waiting = reader.ask(m.WaitTask, task_id(1), 30_000, 0, index)
    session = worker.register()
    (grant,) = worker.claim(session)
    assert not reader.has(waiting)
    worker.report(session, complete(grant))
    assert reader.answer(waiting).ended


def test_events_go_on_at_a_node_that_is_behind():
    """Nothing twice, nothing missed: the listener comes from a node that had applied more."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    first, second = Talk(cluster, leader), Talk(cluster, near)
    first.call(m.Subscribe)
    cluster.streams.isolate(near, cluster.hosts)
    for number in range(5):
        first.submit(number)
    heard = [row for push in first.client.pushes for row in push.events]  # type: ignore[attr-defined]
    assert second.call(m.Subscribe, None, heard[-1][:2]).complete
    cluster.streams.heal()
    first.submit(5)
    cluster.run(500)
    more = [row for push in second.client.pushes for row in push.events]  # type: ignore[attr-defined]
    assert [row[3] for row in more if row[2] == 0] == [task_id(5)]


def test_a_snapshot_tells_who_waits_and_who_listens_at_the_node_that_takes_it():
    """What lies in between was never applied there: waits are over, and a listener knows that there is a gap."""
    cluster = SimCluster(1)
    for host in cluster.hosts.values():
        host.segment_bytes, host.keep_bytes = 2_000, 0
    cluster.start_all()
    leader, near, _other = leader_and_followers(cluster)
    writer, reader = Talk(cluster, leader), Talk(cluster, near)
    index = writer.submit(1).index
    session = writer.register()
    (grant,) = writer.claim(session)
    reader.call(m.Subscribe)
    reader.call(m.GetTask, task_id(1), 0, index)
    ends = reader.ask(m.WaitTask, task_id(1), 30_000, 0)
    cluster.streams.isolate(near, cluster.hosts)
    writer.report(session, complete(grant))
    for number in range(2, 40):
        index = writer.call(m.SubmitTask, [task(number, payload=bytes(500))]).index
        cluster.run(20)
    read = reader.ask(m.GetTask, task_id(39), 0, index)
    cluster.run(6_000)  # the connections are given up, with what was under way
    assert not reader.has(read)
    cluster.streams.heal()
    assert reader.answer(read).index >= index
    assert reader.answer(ends).ended
    assert cluster.installations == 1
    assert reader.client.pushes[-1].last  # type: ignore[attr-defined]
    assert not reader.call(m.Subscribe, None, [3, 0]).complete
    equal_at_the_end(cluster)


def test_who_listens_at_a_node_that_catches_up_hears_what_is_new():
    """What happened while the node was away is no news, though the node itself sees it only now."""
    cluster = SimCluster(1)
    cluster.start_all()
    leader, near, _other = leader_and_followers(cluster)
    writer = Talk(cluster, leader)
    cluster.streams.isolate(near, cluster.hosts)
    for number in range(1, 30):
        writer.submit(number, payload=bytes(100_000))
    cluster.run(6_000)
    cluster.streams.heal()
    behind = cluster.broker(near)
    cluster.run_until(
        lambda: (behind.node.told_index or 0) > behind.applied_index, 5_000, "it hears how far others are"
    )
    listener = Talk(cluster, near)
    assert behind.applied_index < writer.last_index, "it has caught up already: nothing is tried here"
    listener.call(m.Subscribe)
    index = writer.submit(30).index
    listener.call(m.GetTask, task_id(30), 0, index)
    heard = {bytes(row[3]) for push in listener.client.pushes for row in push.events}
    assert heard == {task_id(30)}


def test_a_node_is_ready_when_it_has_what_its_leader_has():
    """It knows its leader long before: who restarts one node after the other must not believe that to be enough."""
    cluster = SimCluster(1)
    for host in cluster.hosts.values():
        host.segment_bytes, host.keep_bytes = 2_000, 0
    cluster.start_all()
    leader, near, _other = leader_and_followers(cluster)
    cluster.run_until(lambda: all(cluster.broker(name).is_ready for name in cluster.hosts), 2_000, "all are ready")
    writer = Talk(cluster, leader)
    cluster.streams.isolate(near, cluster.hosts)
    for number in range(1, READY_LAG_ENTRIES_MAX + 20):
        writer.submit(number)
    cluster.run(6_000)
    assert not cluster.broker(near).is_ready
    cluster.hosts[near].disk.fill_after(10_000)  # no room for the snapshot: it lags on
    cluster.streams.heal()
    cluster.run_until(lambda: cluster.broker(near).node.leader_id == leader, 5_000, "it knows its leader")
    for _ in range(20):
        cluster.run(100)
        assert not cluster.broker(near).is_ready
    assert cluster.broker(leader).is_ready


def test_a_node_without_room_for_a_snapshot_says_so_and_serves_what_it_has():
    cluster = SimCluster(1)
    for host in cluster.hosts.values():
        host.segment_bytes, host.keep_bytes = 2_000, 0
    cluster.start_all()
    leader, near, _other = leader_and_followers(cluster)
    writer, reader = Talk(cluster, leader), Talk(cluster, near)
    index = writer.submit(1).index
    reader.call(m.GetTask, task_id(1), 0, index)
    cluster.streams.isolate(near, cluster.hosts)
    for number in range(2, 40):
        writer.submit(number, payload=bytes(500))
        cluster.run(20)
    cluster.run(6_000)
    cluster.hosts[near].disk.fill_after(10_000)
    cluster.streams.heal()
    cluster.elect()

    def shown() -> dict[str, Any]:
        nodes = writer.call(m.ClusterStatus).status["nodes"]
        return {node["id"]: node for node in nodes}[near]

    cluster.run_until(lambda: cluster.broker(near).node.snapshot_refusal is not None, 5_000, "it is sent one")
    assert "are free" in shown()["snapshot_refused"]
    assert shown()["snapshot"].startswith("receives: 0 of")
    assert Talk(cluster, near).state(1) == "pending"
    Talk(cluster, near).submit(50)  # by way of the leader
    assert cluster.installations == 0
    cluster.hosts[near].disk.mend()
    equal_at_the_end(cluster)
    assert cluster.installations == 1
    assert shown()["snapshot_refused"] is None


# ---- leases and cancels ---------------------------------------------------------------------------------


def test_a_new_leader_gives_each_lease_one_full_term():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    worker.submit(1)
    assert len(worker.claim(session)) == 1
    cluster.run(LEASES.lease_ms - 600)  # nothing is heard of the worker
    fail(cluster, leader, "kill")
    began_ms = cluster.now_ms
    cluster.run(LEASES.lease_ms - 200)
    assert worker.state(1) == "running"
    cluster.run_until(lambda: worker.state(1) == "pending", 2_000, "the lease has run out")
    assert cluster.now_ms - began_ms >= LEASES.lease_ms
    equal_at_the_end(cluster)


def test_a_worker_that_goes_on_keeps_its_lease_over_many_leaders():
    cluster = started()
    worker = Talk(cluster, cluster.followers()[0])
    session = worker.register()
    worker.submit(1)
    (grant,) = worker.claim(session)
    home = worker.client.node
    for round_ in range(3):
        leader = cluster.elect()
        if leader == home:
            cluster.run(LEASES.heartbeat_ms)
            worker.beat(session, grant)
            continue
        fail(cluster, leader, ("kill", "power", "kill")[round_])
        for _ in range(3):
            cluster.run(LEASES.heartbeat_ms)
            assert worker.beat(session, grant).lost == []
        cluster.start(leader)
        cluster.run(500)
    assert worker.report(session, complete(grant)) == [0]
    shown = worker.call(m.GetTask, task_id(1)).task
    assert (shown["state"], shown["crashes"], shown["attempt"]) == ("completed", 0, 1)


@pytest.mark.parametrize("how", ["kill", "power"])
def test_a_checkpoint_survives_the_leader_that_took_it(how):
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    worker.submit(1)
    (grant,) = worker.claim(session)
    fence = grant[3]
    for number, data in ((1, b"one"), (2, b"two")):
        assert worker.call(m.Checkpoint, session, [[task_id(1), fence, number, data]]).items == [0]
    fail(cluster, leader, how)
    cluster.elect()
    late = {"min_index": worker.last_index}
    assert worker.call(m.GetTask, task_id(1), **late).task["checkpoint_bytes"] == 3
    # What was sent again over another way, and overtaken; then the worker is gone.
    assert worker.call(m.Checkpoint, session, [[task_id(1), fence, 1, b"one"]]).items == [1]
    cluster.run_until(lambda: worker.state(1) == "pending", 2 * LEASES.lease_ms + 5_000, "the lease has run out")
    session = worker.register(2)
    ((*_rest, kept),) = worker.claim(session)
    assert kept == b"two"
    assert worker.call(m.Checkpoint, session, [[task_id(1), fence, 3, b"stale"]]).items == [[2, 3]]
    cluster.start(leader)
    equal_at_the_end(cluster)


def test_progress_is_known_to_the_leader_and_said_anew_to_the_next_one():
    cluster = started()
    leader, near, other = leader_and_followers(cluster)
    worker, reader = Talk(cluster, near), Talk(cluster, other)
    session = worker.register()
    worker.submit(1)
    (grant,) = worker.claim(session)
    worker.call(m.Progress, session, [[task_id(1), grant[3], 3, 10, None]])
    here = reader.call(m.GetTask, task_id(1), min_index=worker.last_index).task
    assert (here["progress_known"], here["progress"]) == (False, None), "a follower says that it does not know"
    there = reader.call(m.GetTask, task_id(1), linearizable=True).task
    assert (there["progress_known"], there["progress"]["done"]) == (True, 3)
    assert "no worker" not in reader.call(m.ExplainTask, task_id(1), min_index=worker.last_index).why
    fail(cluster, leader, "kill")
    cluster.elect()

    def at_the_leader() -> Any:
        with suppress(BrokerUnavailable, NotLeader):
            return reader.call(m.GetTask, task_id(1), linearizable=True).task
        return None

    cluster.run_until(lambda: at_the_leader() is not None, FAIL_OVER_MS, "a read of the new leader")
    assert at_the_leader()["progress"] is None
    worker.call(m.Progress, session, [[task_id(1), grant[3], 4, 10, None]])
    assert at_the_leader()["progress"]["done"] == 4


def test_each_node_knows_whether_there_is_a_worker():
    cluster = started()
    leader, near, other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    talks = [worker, Talk(cluster, other), Talk(cluster, leader)]
    worker.submit(1)
    for talk in talks:
        told = talk.call(m.ExplainTask, task_id(1), min_index=worker.last_index)
        assert "no worker is connected" in told.why
        assert told.facts["has_worker"] is False
    worker.register()
    for talk in talks:
        told = talk.call(m.ExplainTask, task_id(1), min_index=worker.last_index)
        assert "first in line" in told.why
        assert told.facts["has_worker"] is True


def test_a_cancel_survives_the_leader_that_took_it():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    worker.submit(1)
    (grant,) = worker.claim(session)
    cluster.hosts[leader].is_paused = False
    Talk(cluster, leader).call(m.CancelTask, [task_id(1)], 60_000)
    fail(cluster, leader, "kill")
    cancel = worker.beat(session, grant).cancel
    assert [row[:2] for row in cancel] == [[task_id(1), grant[3]]]
    assert worker.report(session, cancelled(grant)) == [0]
    assert worker.state(1) == "cancelled"
    equal_at_the_end(cluster)


def test_a_cancel_is_pushed_through_the_relay():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    worker.submit(1)
    (grant,) = worker.claim(session)
    Talk(cluster, leader).call(m.CancelTask, [task_id(1)], 60_000)
    cluster.run(50)
    (push,) = worker.client.pushes
    assert isinstance(push, m.CancelRunning)
    assert push.tasks[0][1] == grant[3]


# ---- the relay ----------------------------------------------------------------------------------------


def test_a_relayed_reply_that_is_lost_is_answered_as_unknown():
    """The way back is reset with the reply in it; the way there holds."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    rid = talk.ask(m.SubmitTask, [task(1)])
    last = cluster.committed.last_index
    cluster.streams.cut(leader, near)  # the reply waits in it
    cluster.run_until(lambda: cluster.committed.last_index > last, 1_000, "it is committed")
    cluster.run(20)
    for wire in cluster.streams.wires():
        if (wire.caller, wire.listener) == (leader, near):
            cluster.streams.lose(wire)
            cluster.streams.reset(cluster.now_ms, wire)
    cluster.streams.heal()
    with pytest.raises(BrokerUnavailable):
        talk.answer(rid)
    assert [item[0] for item in talk.submit(1).items] == [1]
    equal_at_the_end(cluster)


def test_a_relayed_reply_that_cannot_be_sent_is_answered_when_the_way_back_is_there_again():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    cluster.streams.cut(leader, near)
    for wire in cluster.streams.wires():
        if (wire.caller, wire.listener) == (leader, near):
            cluster.streams.reset(cluster.now_ms, wire)
    cluster.run_until(lambda: near not in cluster.hosts[leader].reachable, 1_000, "the leader knows")
    last = cluster.committed.last_index
    rid = talk.ask(m.SubmitTask, [task(1)])
    cluster.run_until(lambda: cluster.committed.last_index > last, 300, "it is committed")
    cluster.run(10)
    assert not talk.has(rid)
    cluster.streams.heal()
    with pytest.raises(BrokerUnavailable):
        talk.answer(rid)
    equal_at_the_end(cluster)


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_way_that_is_dead_for_long_is_given_up(way):
    """No end and no reset is heard: silence alone tells."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    talk.submit(1)
    if way == "there":
        cluster.streams.cut(near, leader)
    else:
        cluster.streams.cut(leader, near)
    rid = talk.ask(m.SubmitTask, [task(2)])
    with pytest.raises((BrokerUnavailable, NotLeader)):
        talk.answer(rid, 8_000)
    equal_at_the_end(cluster)


def test_a_client_that_leaves_a_follower_takes_its_parked_claim_with_it():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    worker.ask_claim(session, 1, wait_ms=30_000)
    cluster.run(100)
    assert len(cluster.broker(leader).claims) == 1
    worker.client.vanish()
    cluster.run(100)
    assert len(cluster.broker(leader).claims) == 0


def test_a_grant_whose_way_is_lost_goes_back_uncounted():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    worker = Talk(cluster, near)
    session = worker.register()
    worker.ask_claim(session, 1, wait_ms=30_000)
    cluster.run(100)
    worker.client.vanish()  # the leader does not know yet when the task comes
    direct = Talk(cluster, leader)
    direct.submit(1)
    cluster.run(200)
    shown = direct.call(m.GetTask, task_id(1)).task
    assert (shown["attempt"], shown["crashes"]) in ((0, 0), (1, 0))
    cluster.run(LEASES.session_ms + 500)
    assert direct.state(1) == "pending"


# ---- clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong_ms", [HOUR_MS, -HOUR_MS])
@pytest.mark.parametrize("who", ["leader", "follower", "next leader"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_clock_that_is_an_hour_wrong_fires_nothing_early(wrong_ms, who, seed):
    """Neither delays nor leases, expiries or deadlines go by one clock, whoever leads."""
    cluster = started(seed)
    leader, near, other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    talk.submit(1, delay_ms=60_000)
    talk.submit(2, deadline_ms=60_000, expires_in_ms=50_000, priority=1)
    talk.submit(3)
    session = talk.register()
    (grant,) = talk.claim(session)
    wrong = leader if who == "leader" else other
    cluster.hosts[wrong].clock.jump_wall_ms(wrong_ms)
    if who == "next leader":
        cluster.kill(leader)
    for _ in range(6):
        Talk(cluster, wrong)  # HELLO tells the time
        cluster.run(LEASES.heartbeat_ms // 2)
        with suppress(NotLeader, BrokerUnavailable):
            assert talk.beat(session, grant).lost == []
    assert [talk.state(number) for number in (1, 2, 3)] == ["scheduled", "pending", "running"]
    assert cluster.log_time_ms() < cluster.true_wall_ms + 100


def test_a_node_whose_clock_was_wrong_before_it_heard_of_others_leads_by_the_right_time():
    """It told its time to whoever asked, while it knew of no other clock; that must not stay with it."""
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, leader)
    talk.submit(1, delay_ms=60_000)
    cluster.kill(near)
    cluster.hosts[near].clock.jump_wall_ms(HOUR_MS)
    cluster.streams.isolate(near, cluster.hosts)
    cluster.start(near)
    Talk(cluster, near)
    cluster.streams.heal()
    cluster.elect()
    cluster.broker(leader).node.transfer(near)
    cluster.run_until(lambda: cluster.leader() == near, 1_000, "it leads")
    Talk(cluster, near).submit(2)
    cluster.run(1_000)
    assert Talk(cluster, near).state(1) == "scheduled"
    assert cluster.log_time_ms() < cluster.true_wall_ms + 100


# ---- power ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_two_nodes_lose_power_at_once_and_nothing_accepted_is_lost(seed):
    cluster = started(seed)
    leader, near, other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    for number in range(20):
        talk.submit(number)
    cluster.run(seed * 7)
    for name in (leader, other):
        cluster.lose_power(name)
    cluster.run(1_000)
    assert cluster.leader() is None
    for name in (leader, other):
        cluster.start(name)
    cluster.elect()
    for number in range(20):
        assert talk.state(number, linearizable=True) == "pending"
    equal_at_the_end(cluster)


def test_all_nodes_lose_power_at_once():
    cluster = started()
    talk = Talk(cluster, cluster.followers()[0])
    session = talk.register()
    talk.submit(*range(10))
    (grant,) = talk.claim(session)
    for name in cluster.hosts:
        cluster.lose_power(name)
    for name in cluster.hosts:
        cluster.start(name)
    cluster.elect()
    talk = Talk(cluster, cluster.followers()[0])
    assert talk.beat(session, grant).lost == []
    assert talk.report(session, complete(grant)) == [0]
    states = sorted(talk.state(number) for number in range(10))
    assert states == ["completed"] + ["pending"] * 9
    equal_at_the_end(cluster)


# ---- handing over ---------------------------------------------------------------------------------------


def test_leadership_that_is_handed_over_loses_no_request():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    talk = Talk(cluster, near)
    asked = [talk.ask(m.SubmitTask, [task(number)]) for number in range(20)]
    cluster.run(2)
    assert cluster.broker(leader).hand_over("a test asks for it")
    asked += [talk.ask(m.SubmitTask, [task(number)]) for number in range(20, 40)]
    took_ms = cluster.run_until(lambda: cluster.leader() not in (None, leader), 2_000, "another one leads")
    assert took_ms < 50
    for rid in asked:  # each is answered, soon
        with suppress(NotLeader, BrokerUnavailable):
            talk.answer(rid, 100)
    cluster.elect()
    talk.submit(*range(40))
    assert all(talk.state(number) == "pending" for number in range(40))
    equal_at_the_end(cluster)


def test_a_node_that_is_stopped_hands_over_first():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    direct, relayed = Talk(cluster, leader), Talk(cluster, near)
    session = direct.register()
    parked = direct.ask_claim(session, wait_ms=30_000)
    cluster.run(50)
    before_ms = cluster.now_ms
    cluster.stop(leader)
    assert direct.has(parked)
    assert isinstance(direct.client.pushes[-1], m.GoAway)
    cluster.elect()
    assert cluster.now_ms - before_ms < ELECTION_MS[0], "an election time-out was waited for"
    relayed.submit(1)
    equal_at_the_end(cluster)


# ---- the watch itself ------------------------------------------------------------------------------------


def test_a_request_that_nobody_answers_is_noticed(monkeypatch):
    cluster = started()
    talk = Talk(cluster, "n1")
    monkeypatch.setattr(type(talk.client.broker), "request", lambda self, connection, message: None)
    talk.ask(m.Ping)
    with pytest.raises(Breach, match="has not answered"):
        cluster.run(30_000)


def test_nodes_that_make_different_things_of_an_entry_are_noticed():
    cluster = started()
    leader, near, _other = leader_and_followers(cluster)
    machine = cluster.broker(near).applier.machine
    apply = machine.apply

    def other(index: int, data: bytes) -> Any:
        applied = apply(index, data)
        applied.granted_runs.append((b"", 0, [b""]))
        return applied

    machine.apply = other  # type: ignore[method-assign]
    Talk(cluster, leader).ask(m.SubmitTask, [task(1)])
    with pytest.raises(Breach, match="something else of entry"):
        cluster.run(500)
