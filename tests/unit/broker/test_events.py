from __future__ import annotations

import itertools

import pytest

from tq import limits
from tq.broker import events as events_module
from tq.machine.answers import EventKind
from tq.protocol import messages as m

from .rig import World, complete, fail, task, task_id


@pytest.fixture
def world() -> World:
    return World()


def subscribe(peer, id=None, after=None):
    rid = peer.ask(m.Subscribe, id, after)
    return rid, peer.answer(rid).complete


def rows(peer, rid):
    peer.world.settle()
    frames = [push for push in peer.pushes if isinstance(push, m.Event) and push.subscription == rid]
    return [row for frame in frames for row in frame.events]


def kinds(peer, rid):
    return [EventKind(row[2]).name.lower() for row in rows(peer, rid)]


def life(world, number=1):
    worker = world.connect()
    session = worker.register(number)
    worker.submit(task(number))
    (grant,) = worker.claim(session, 1)
    worker.report(session, complete(grant))
    return grant


def test_the_life_of_a_task(world):
    peer = world.connect()
    rid, is_complete = subscribe(peer)
    assert is_complete
    grant = life(world)
    assert kinds(peer, rid) == ["created", "started", "completed"] or "ready" in kinds(peer, rid)
    ids = [(row[0], row[1]) for row in rows(peer, rid)]
    assert ids == sorted(set(ids)), "(index, ordinal) rises and never repeats"
    row = rows(peer, rid)[-1]
    assert row[3] == task_id(1)
    assert row[5:8] == ["default", "work", grant[3]]


def test_of_one_task_only(world):
    peer = world.connect()
    rid, _ = subscribe(peer, task_id(2))
    life(world, 1)
    life(world, 2)
    assert {row[3] for row in rows(peer, rid)} == {task_id(2)}


def test_every_event_comes_once_to_each_subscriber(world):
    peer, other = world.connect(), world.connect()
    rid, _ = subscribe(peer)
    other_rid, _ = subscribe(other)
    second, _ = subscribe(other)
    life(world)
    assert rows(peer, rid) == rows(other, other_rid) == rows(other, second) != []


def test_a_subscription_dies_with_its_connection(world):
    peer = world.connect()
    subscribe(peer)
    peer.close()
    world.settle()
    assert len(world.broker.events) == 0
    life(world)


def test_who_returns_misses_nothing(world):
    peer = world.connect()
    rid, _ = subscribe(peer)
    life(world, 1)
    seen = rows(peer, rid)
    life(world, 2)
    everything = rows(peer, rid)
    for row in seen:
        again = world.connect()
        again_rid, is_complete = subscribe(again, after=[row[0], row[1]])
        assert is_complete
        assert rows(again, again_rid) == everything[everything.index(row) + 1 :]


def test_who_comes_from_a_node_that_was_ahead_hears_nothing_twice(world):
    """The other node had applied what comes here only now."""
    peer = world.connect()
    rid, _ = subscribe(peer)
    life(world, 1)
    seen = rows(peer, rid)
    ahead = [seen[-1][0] + 2, 0]
    again = world.connect()
    again_rid, is_complete = subscribe(again, after=ahead)
    assert is_complete
    life(world, 2)
    everything = rows(peer, rid)
    assert everything[-1][:2] > ahead
    assert rows(again, again_rid) == [row for row in everything if row[:2] > ahead] != everything[len(seen) :]


def test_memory_is_bounded_and_says_so(world, monkeypatch):
    monkeypatch.setattr(limits, "EVENTS_REPLAY_MAX", 20)
    peer = world.connect()
    rid, _ = subscribe(peer)
    for number in range(1, 15):
        life(world, number)
    everything = rows(peer, rid)
    first = world.connect()
    assert subscribe(first, after=[everything[0][0], everything[0][1]])[1] is False
    verdicts = []
    for row in everything:
        late = world.connect()
        late_rid, is_complete = subscribe(late, after=[row[0], row[1]])
        rest = everything[everything.index(row) + 1 :]
        verdicts.append(is_complete)
        if is_complete:
            assert rows(late, late_rid) == rest
        else:
            assert len(rows(late, late_rid)) < len(rest), "it said that something is missing, and nothing is"
    assert [key for key, _ in itertools.groupby(verdicts)] == [False, True]


def test_after_a_restart_the_past_is_not_promised(world):
    peer = world.connect()
    rid, _ = subscribe(peer)
    life(world, 1)
    first = rows(peer, rid)[0]
    world.broker.checkpoint()
    world.restart()
    peer = world.connect()
    assert subscribe(peer, after=[first[0], first[1]])[1] is False


def test_a_slow_reader_is_cut_off_and_told(world, monkeypatch):
    monkeypatch.setattr(events_module, "SUBSCRIBER_OUT_BYTES_MAX", 2_000)
    slow = world.connect(room=500)
    rid, _ = subscribe(slow)
    slow.reads = False
    fast = world.connect()
    fast_rid, _ = subscribe(fast)
    for number in range(1, 60):
        life(world, number)
    assert slow.connection.out_bytes < 10_000
    assert len(world.broker.events) == 1
    slow.reads = True
    got = rows(slow, rid)
    frames = [push for push in slow.pushes if push.subscription == rid]
    assert [frame.last for frame in frames[-2:]] == [False, True]
    assert not any(frame.last for frame in frames[:-1])
    for _ in range(100):  # what it missed may itself be more than it may leave unread
        if not frames[-1].last:
            break
        again, is_complete = subscribe(slow, after=[got[-1][0], got[-1][1]])
        assert is_complete
        more = rows(slow, again)
        assert more, "no progress"
        got += more
        frames = [push for push in slow.pushes if push.subscription == again]
        assert not any(frame.last for frame in frames[:-1]), "told more than once"
    assert got == rows(fast, fast_rid)


def test_large_errors_do_not_outgrow_a_frame(world):
    """A thousand attempts fail in one entry, each with as much text as it may have."""
    peer = world.connect()
    rid, _ = subscribe(peer)
    worker = world.connect()
    session = worker.register()
    worker.submit(*[task(number) for number in range(1_000)])
    grants = worker.claim(session, 1, 1_000)
    items = []
    for grant in grants:
        item = fail(grant)
        item[3][0] = ["E" * 5_000, "\u00e9" * 2_000, ""]
        items.append(item)
    for start in range(0, 1_000, 250):
        worker.report(session, *items[start : start + 250])
    assert kinds(peer, rid).count("failed") == 1_000


def test_a_state_that_came_by_a_snapshot_leaves_a_gap_that_is_told(world):
    peer, other = world.connect(), world.connect()
    rid, _ = subscribe(peer)
    life(world)
    had = rows(peer, rid)[-1]
    world.broker.events.begin_anew(500)
    world.broker.flush()
    world.settle()
    assert [push.last for push in peer.pushes if isinstance(push, m.Event)][-1]
    _, is_complete = subscribe(peer, after=[had[0], had[1]])
    assert not is_complete
    _, is_complete = subscribe(other, after=[501, 0])
    assert is_complete, "who comes from a node that is ahead has missed nothing"
