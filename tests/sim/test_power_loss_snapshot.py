"""The power goes at every step of making, receiving and installing a snapshot, in a group of whole brokers.

Afterwards everything is brought to its end: all members hold the same state, it has every task that was accepted, and
nothing is left of the snapshot. TQ_LONG=1 tries many more ways to lose power.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import structlog

from tests.sim.three_brokers import STEP_MS, Brokers
from tests.unit.broker.snapshot_rig import HeldWork
from tq import limits
from tq.machine import queries
from tq.protocol import messages as m
from tq.raft.snapshots import DIRECTORY, pending_snapshot
from tq.sim.disk import PowerLoss
from tq.sim.random import SeededRandom

LONG = os.environ.get("TQ_LONG") == "1"
LOSSES = 8 if LONG else 1
EVERY = 1 if LONG else 3  # of the steps of a leader


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


def with_one_behind(seed: int, *, late: bool = False) -> tuple[Brokers, str]:
    """A group whose log is cut above what one of them has, who is down."""
    brokers = Brokers(seed, late=late)
    for name in brokers.members:
        brokers.start(name)
    brokers.submit(3)
    behind = next(name for name in brokers.members if name != brokers.elect())
    brokers.run_until(lambda: brokers[behind].store.checkpointed_index > 3, "a checkpoint")
    brokers.lose_power(behind)
    had = brokers[behind].store.checkpointed_index
    others = [member for name, member in brokers.members.items() if name != behind]
    brokers.submit(25)
    brokers.run_until(
        lambda: all(member.node is not None and member.node.journal.base_index > had + 5 for member in others),
        "cut logs",
    )
    return brokers, behind


def check(brokers: Brokers) -> None:
    """All run; what they hold is the same, and all of it."""
    index = brokers.submit(3)
    brokers.run_until(lambda: brokers.has_applied(index), "all have applied all")
    assert len(brokers.digests()) == 1
    store = brokers["n1"].store
    assert all(queries.get_task(store.txn, id, 0)["state"] == "pending" for id in brokers.ids)
    for member in brokers.members.values():
        assert pending_snapshot(member.disk) is None
        assert [name for name in member.disk.list(DIRECTORY) if not name.endswith((".copy", ".part"))] == []


def installed(brokers: Brokers, name: str) -> int:
    broker = brokers[name].broker
    return 0 if broker is None else int(broker.snapshots.statistics()["installed"] or 0)


def start_until_it_is_there(brokers: Brokers, name: str, losses: int) -> int:
    """Start a member again and again while the power goes. Returns how many times it went."""
    for number in range(losses + 1):
        try:
            brokers.start(name)
            index = brokers.submit(1)
            brokers.run_until(lambda index=index: brokers.has_applied(index), "it has caught up")  # type: ignore[misc]
        except PowerLoss:
            brokers.lose_power(name)
        else:
            return number
    raise AssertionError("the power went more often than it was asked to")


@pytest.mark.parametrize("late", [False, True], ids=["inline", "thread"])
def test_who_is_behind_is_sent_a_snapshot(late: bool) -> None:
    brokers, behind = with_one_behind(1, late=late)
    leader = brokers[brokers.elect()]
    brokers.start(behind)
    brokers.run_until(lambda: installed(brokers, behind) == 1, "installed")
    assert leader.broker is not None
    check(brokers)
    made = leader.broker.snapshots.statistics()
    assert (made["made"], made["given_up"]) == (1, 0)
    assert any(name.endswith(".copy") for name in leader.disk.list(DIRECTORY))
    brokers.run_until(lambda: leader.disk.list(DIRECTORY) == [], "nobody needs it any more", within_ms=40_000)
    check(brokers)


@pytest.mark.parametrize("late", [False, True], ids=["inline", "thread"])
def test_the_power_goes_where_it_is_received_and_installed(late: bool) -> None:
    brokers, behind = with_one_behind(2, late=late)
    before = brokers[behind].disk.steps
    assert start_until_it_is_there(brokers, behind, 0) == 0
    assert installed(brokers, behind) == 1
    steps = brokers[behind].disk.steps - before
    assert steps > 25
    met: set[str] = set()
    for step in range(1, steps):
        for loss in range(LOSSES):
            brokers, behind = with_one_behind(2, late=late)
            brokers.random = SeededRandom(1000 * step + loss)
            member = brokers[behind]
            member.disk.stop_at(member.disk.steps + step)
            on_loss(brokers, behind, met)
            try:
                assert start_until_it_is_there(brokers, behind, 1) == 1
                check(brokers)
            except BaseException as error:
                error.add_note(f"late {late}, power lost at step {step}, loss {loss}")
                raise
    assert met >= {"part", "whole, log old", "whole, log new", "whole, store new"}, met


def on_loss(brokers: Brokers, name: str, met: set[str]) -> None:
    """Note where a power loss meets a member, so that the run shows that each place was met."""
    lose: Callable[[str], None] = brokers.lose_power
    member = brokers[name]

    def noting(lost: str) -> None:
        lose(lost)
        if lost == name:
            pending = pending_snapshot(member.disk)
            if pending is not None:
                logs = member.disk.list("raft")
                is_new = [log for log in logs if log.endswith(".seg")] == [f"{pending.id.index:020d}.seg"]
                met.add(f"whole, log {'new' if is_new else 'old'}")
                if member.store.checkpointed_index == pending.id.index:
                    met.add("whole, store new")
            elif any(part.endswith(".part") for part in member.disk.list(DIRECTORY)):
                met.add("part")

    brokers.lose_power = noting  # type: ignore[method-assign]


def test_the_power_goes_twice_where_it_is_installed() -> None:
    for seed in range(40 if LONG else 8):
        brokers, behind = with_one_behind(3)
        brokers.random = SeededRandom(seed)
        member = brokers[behind]
        member.disk.stop_at(member.disk.steps + 30 + brokers.random.below(60))
        try:
            brokers.start(behind)
            brokers.run_until(lambda: installed(brokers, behind) == 1, "installed")  # noqa: B023
        except PowerLoss:
            brokers.lose_power(behind)
        member.disk.stop_at(member.disk.steps + 1 + brokers.random.below(25))
        try:
            if member.node is None:
                brokers.start(behind)
            brokers.submit(1)
            brokers.run_until(lambda: installed(brokers, behind) == 1, "installed", within_ms=3_000)  # noqa: B023
        except (PowerLoss, AssertionError):
            brokers.lose_power(behind)
        member.disk.stop_at(None)
        start_until_it_is_there(brokers, behind, 0) if member.node is None else None
        check(brokers)


def test_the_power_goes_where_it_is_made() -> None:
    """Another leads then, with one member that has no more than it had: it must make its own before it can commit."""
    for step in range(1, 60, EVERY):
        brokers, behind = with_one_behind(4)
        leader = brokers.elect()
        brokers.start(behind)
        disk = brokers[leader].disk
        disk.stop_at(disk.steps + step)
        try:
            brokers.run_until(lambda: installed(brokers, behind) == 1, "installed")  # noqa: B023
        except PowerLoss:
            brokers.lose_power(leader)
            brokers.run_until(lambda: installed(brokers, behind) == 1, "the next leader sends one")  # noqa: B023
            brokers.start(leader)
        disk.stop_at(None)
        try:
            check(brokers)
        except BaseException as error:
            error.add_note(f"power lost at step {step}")
            raise


def test_who_waits_for_an_index_is_answered_by_the_new_state() -> None:
    brokers, behind = with_one_behind(5)
    brokers.start(behind)
    brokers.run_until(lambda: brokers[behind].node.leader_id is not None, "it follows")  # type: ignore[union-attr]
    replies: list[m.Message] = []
    index = brokers[brokers.elect()].broker.applied_index  # type: ignore[union-attr]
    id = brokers.ids[-1]
    brokers.peer(behind).ask(lambda rid: m.GetTask(rid, id, 0, index), replies.append)
    assert replies == []
    brokers.run_until(lambda: installed(brokers, behind) == 1, "installed")
    brokers.run_until(lambda: replies != [], "an answer", within_ms=1_000)
    assert isinstance(replies[0], m.GetReply), replies
    assert replies[0].task["state"] == "pending"


def holding(brokers: Brokers, name: str) -> list[HeldWork]:
    """Start a member that installs nothing before it is let go. Returns when it has a snapshot."""
    works: list[HeldWork] = []

    def new_work() -> HeldWork:
        works.append(HeldWork())
        works[-1].is_held = True
        return works[-1]

    brokers.new_work = new_work
    brokers.start(name)
    node = brokers[name].node
    brokers.run_until(lambda: node is not None and node.installation is not None, "it is whole")
    return works


def test_who_is_elected_while_it_installs_serves_when_it_has_installed() -> None:
    """Before that it knows nothing of what it would lead."""
    brokers, behind = with_one_behind(6)
    works = holding(brokers, behind)
    brokers.submit(2)
    node, broker = brokers[behind].node, brokers[behind].broker
    assert node is not None
    assert broker is not None
    leader = brokers[brokers.elect()]
    assert leader.node is not None
    leader.node.transfer(behind)
    brokers.run_until(lambda: node.is_leader, "it leads")
    for _ in range(30):
        brokers.step()
    assert node.is_leader
    assert (broker.is_serving, broker.proposer.is_idle) == (False, True)
    for work in works:
        work.is_held = False
    brokers.run_until(lambda: broker.is_serving, "it serves")
    check(brokers)


def test_a_second_one_arrives_while_the_first_is_installed() -> None:
    brokers, behind = with_one_behind(7)
    works = holding(brokers, behind)
    first = brokers[behind].node.installation  # type: ignore[union-attr]
    assert first is not None
    brokers.run_until(lambda: works[1].job is not None, "it has begun")
    cut = {(behind, name) for name in brokers.members} | {(name, behind) for name in brokers.members}
    brokers.cut |= cut
    for _ in range(limits.SNAPSHOT_OFFER_HOLD_MS // STEP_MS + 1):
        brokers.step()
    index = brokers.submit(25)
    leader = brokers[brokers.elect()]
    brokers.run_until(lambda: leader.node is not None and leader.node.journal.base_index > first.index + 5, "cut again")
    brokers.cut.clear()
    node = brokers[behind].node
    brokers.run_until(lambda: node is not None and node.installation not in (None, first), "a second one", 60_000)
    assert [name.endswith(".whole") for name in brokers[behind].disk.list(DIRECTORY)] == [True, True]
    for work in works:
        work.is_held = False
    brokers.run_until(lambda: brokers.has_applied(index), "it has caught up")
    assert installed(brokers, behind) == 1
    check(brokers)


def test_log_time_goes_on_from_that_of_the_state() -> None:
    """A leader that came to its state by a snapshot never proposes an earlier time than is in it."""
    brokers, behind = with_one_behind(8)
    brokers.start(behind)
    brokers.run_until(lambda: installed(brokers, behind) == 1, "installed")
    member = brokers[behind]
    assert member.broker is not None
    state_ms = queries.log_time_ms(member.store.txn)
    member.clock.set_wall_ms(state_ms - 60_000)
    assert member.broker.log_time.now_ms() >= state_ms


def test_who_listens_is_told_that_there_is_a_gap() -> None:
    brokers, behind = with_one_behind(9)
    works = holding(brokers, behind)
    peer = brokers.peer(behind)
    replies: list[m.Message] = []
    pushes = peer.pushes
    peer.ask(lambda rid: m.Subscribe(rid, None, None), replies.append)
    assert isinstance(replies[0], m.SubscribeReply)
    assert pushes == []
    for work in works:
        work.is_held = False
    brokers.run_until(lambda: installed(brokers, behind) == 1, "installed")
    brokers.run_until(lambda: pushes != [], "a push")
    assert [(push.last, push.events) for push in pushes if isinstance(push, m.Event)] == [(True, [])]
    peer.ask(lambda rid: m.Subscribe(rid, None, [replies[0].index, 0]), replies.append)  # type: ignore[attr-defined]
    assert not replies[1].complete  # type: ignore[attr-defined]
