"""What clients write, and what the log answers."""

from __future__ import annotations

import pytest

from tq import limits
from tq.errors import Backpressure, InvalidRequest, Unsupported
from tq.protocol import messages as m

from .rig import World, fail, task, task_id


@pytest.fixture
def world() -> World:
    return World()


def test_writes_answer_with_the_index_of_their_entry(world):
    peer = world.connect()
    before = peer.call(m.Ping).index
    reply = peer.submit(task(1))
    assert reply.index == before + 1
    assert peer.call(m.GetTask, task_id(1)).index >= reply.index
    assert peer.call(m.CancelTask, [task_id(1)], 0).index == reply.index + 1


def test_the_same_again_is_answered_the_same(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    assert peer.submit(task(1)).items[0][0] == 1
    assert peer.submit(task(1, payload=b"other")).items[0][0] == 2
    (grant,) = peer.claim(session, 1)
    peer.report(session, fail(grant, permanent=True))
    first = peer.call(m.RetryTasks, b"o" * 16, [task_id(1)])
    again = peer.call(m.RetryTasks, b"o" * 16, [task_id(1)])
    assert first.items == again.items == [[2, None]]


def test_two_who_ask_the_same_in_one_entry():
    world = World(late=True)
    peer, other = world.connect(), world.connect()
    warm = peer.ask(m.SubmitTask, [task(9)])
    world.settle()
    rids = [(p, p.ask(m.SubmitTask, [task(1)])) for p in (peer, other)]
    conflict = other.ask(m.SubmitTask, [task(1, payload=b"other")])
    for _ in range(3):
        world.settle()
        world.finish_sync()
    assert peer.answer(warm)
    assert [p.answer(rid).items for p, rid in rids] == [[0], [[1, 2, task_id(1), None]]]
    assert other.answer(conflict).items[0][0] == 2


def test_the_proposer_is_bounded_in_bytes(monkeypatch):
    world = World(late=True)
    peer = world.connect()
    monkeypatch.setattr(limits, "PROPOSER_QUEUE_BYTES_MAX", 10_000)
    peer.ask(m.SubmitTask, [task(1)])
    world.settle()
    rids = [peer.ask(m.SubmitTask, [task(number, payload=bytes(4_000))]) for number in range(2, 6)]
    world.settle()
    refused = [rid for rid in rids if rid in peer.answers]
    assert refused == rids[2:]
    assert all(isinstance(peer.error(rid), Backpressure) for rid in refused)


# ---- queues -----------------------------------------------------------------------------------------------


def test_settings_of_a_queue_are_set_told_and_kept(world):
    peer = world.connect()
    changes = {"paused": True, "reason": "deploy", "retry": [1, 0, 1_000, 0, 0]}
    reply = peer.call(m.SetQueue, b"a" * 16, "mail", changes, "ana")
    assert reply.settings["retry"] == [1, 0, 1_000, 0, 0]
    assert reply.settings["paused"]["by"] == "ana"
    again = peer.call(m.SetQueue, b"a" * 16, "mail", {"max_length": 5}, "ben")
    assert again.settings == reply.settings
    assert again.index > reply.index
    for _ in range(2):
        (row,) = world.connect().call(m.Queues).queues
        assert (row["name"], row["settings"]) == ("mail", reply.settings)
        world.restart()


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"rate": "100/s"}, Unsupported), ({"colour": None}, Unsupported), ({"max_length": -1}, InvalidRequest), ({"retry": []}, InvalidRequest)],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(world, changes, error):
    peer = world.connect()
    with pytest.raises(error) as refused:
        peer.call(m.SetQueue, b"a" * 16, "mail", changes, "ana")
    assert refused.value.detail["field"] == next(iter(changes))
    assert peer.call(m.Queues).queues == []


def test_a_full_queue_refuses_what_is_new(world):
    peer = world.connect()
    peer.call(m.SetQueue, b"a" * 16, "default", {"max_length": 1}, "ana")
    assert peer.submit(task(1)).items == [0]
    one, two = peer.submit(task(1), task(2)).items
    assert (one[0], two[0], two[3][0]) == (1, 3, "QUEUE_FULL")
