"""What a request may hold, and that what it weighs is counted."""

from __future__ import annotations

import pytest

from tq import limits
from tq.broker.bounds import bounded, bounded_bytes, text_bytes
from tq.errors import InvalidRequest, PayloadTooLarge
from tq.protocol import messages as m

from .rig import SESSION, World, task, task_id, with_task


@pytest.fixture
def world() -> World:
    return World()


def test_both_ends_are_within():
    for value in (2, 5):
        bounded("n", value, 2, 5)
    for value in (1, 6):
        with pytest.raises(InvalidRequest) as refused:
            bounded("n", value, 2, 5)
        assert refused.value.detail["field"] == "n"
    bounded_bytes("items", limits.BATCH_BYTES_MAX, "results")
    with pytest.raises(PayloadTooLarge, match=r"^results in one request have") as refused:
        bounded_bytes("items", limits.BATCH_BYTES_MAX + 1, "results")
    assert refused.value.detail == {
        "field": "items",
        "value": limits.BATCH_BYTES_MAX + 1,
        "bound": limits.BATCH_BYTES_MAX,
    }
    assert text_bytes(["ab", "\u4e2d"]) == 4 + 5


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (m.CancelTask, ([], 0)),
        (m.CancelTask, ([task_id(1)], limits.DAY_MS + 1)),
        (m.RegisterWorker, (SESSION, "w", [], ["default"])),
        (m.RegisterWorker, (SESSION, "w", ["work"], [])),
        (m.TaskResult, (SESSION, [])),
        (m.RetryTasks, (b"o" * 16, [])),
        (m.RetryTasks, (b"o" * 16, None, None)),
        (m.RetryTasks, (b"o" * 16, [task_id(1)], {"state": "dead"})),
        (m.PurgeTasks, (b"o" * 16, None, None)),
        (m.PurgeTasks, (b"o" * 16, [task_id(1)], {"state": "dead"})),
        (m.PurgeTasks, (b"o" * 16, None, {"colour": "red"})),
        (m.ListTasks, ({"state": "sleeping"}, 10)),
        (m.ListTasks, ({}, 10, b"not a cursor")),
        (m.Subscribe, (None, [-1, 0])),
    ],
)
def test_what_is_out_of_bounds_is_named(world, kind, fields):
    peer = with_task(world)
    with pytest.raises(InvalidRequest) as refused:
        peer.call(kind, *fields)
    assert refused.value.detail["field"]
    assert peer.call(m.Ping).index, "the connection lives on"


def test_a_batch_is_bounded(world):
    peer = with_task(world)
    with pytest.raises(InvalidRequest):
        peer.call(m.SubmitTask, [], False)
    with pytest.raises(InvalidRequest):
        peer.call(m.SubmitTask, [task(number) for number in range(1_001)])
    big = [task(number, payload=bytes(limits.BATCH_BYTES_MAX // 2)) for number in range(3)]
    with pytest.raises(PayloadTooLarge) as refused:
        peer.call(m.SubmitTask, [*big[:2], task(5, payload=bytes(1_000))])
    assert refused.value.detail["bound"] == limits.BATCH_BYTES_MAX
    assert not refused.value.retryable


@pytest.mark.parametrize("outcome", [0, 1], ids=["results", "errors"])
def test_results_are_bounded_in_bytes(world, outcome):
    peer = with_task(world)
    session = peer.register()
    half = limits.BATCH_BYTES_MAX // 2 + 1
    body = ["text/plain", bytes(half)] if outcome == 0 else [["E", "x" * half, ""], False, None]
    with pytest.raises(PayloadTooLarge):
        peer.report(session, *[[task_id(1), 1, outcome, body]] * 2)


def test_checkpoints_are_bounded_in_bytes(world):
    peer = with_task(world)
    data = bytes(limits.CHECKPOINT_BYTES_MAX)
    n = limits.BATCH_BYTES_MAX // limits.CHECKPOINT_BYTES_MAX
    assert len(peer.call(m.Checkpoint, SESSION, [[task_id(1), 1, number, data] for number in range(n)]).items) == n
    with pytest.raises(PayloadTooLarge):
        peer.call(m.Checkpoint, SESSION, [[task_id(1), 1, number, data] for number in range(n + 1)])


def test_texts_count_as_what_they_weigh():
    """Sizes are in bytes, of all that a command carries: the proposer's bounds and groups go by them."""
    world = World(late=True)
    peer = world.connect()
    peer.ask(m.SubmitTask, [task(1)])
    world.settle()

    def weight(kind, *fields):
        """What it adds to what waits for the entry that is in flight."""
        before = world.broker.proposer.statistics().queued_bytes
        peer.ask(kind, *fields)
        world.settle()
        return world.broker.proposer.statistics().queued_bytes - before

    wide = "\u4e2d" * 1_000
    assert 6_000 < weight(m.TaskResult, SESSION, [[task_id(1), 1, 1, [["E", wide, wide], False, None]]]) < 6_200
    assert 3_000 < weight(m.RegisterWorker, SESSION, "w", ["\u4e2d" * 100] * 10, ["default"]) < 3_200
    assert 3_000 < weight(m.Checkpoint, SESSION, [[task_id(1), 1, 1, bytes(3_000)]]) < 3_200
    assert 3_000 < weight(m.SetQueue, b"q" * 16, "mail", {"paused": True, "reason": wide}, "ana") < 3_400


def test_a_flood_of_error_texts_does_not_stop_the_node(monkeypatch):
    """Each is within its bound; together they are more than an entry takes."""
    monkeypatch.setattr(limits, "ENTRY_BYTES_MAX", 100_000)
    world = World(late=True)
    peers = [world.connect() for _ in range(8)]
    rids = []
    for peer in peers:
        failure = [["E", "\u4e2d" * 10_000, ""], False, None]
        rids.append(peer.ask(m.TaskResult, SESSION, [[task_id(1), 1, 1, failure]]))
    for _ in range(12):
        world.settle()
        world.finish_sync()
    assert [peer.answer(rid).items for peer, rid in zip(peers, rids, strict=True)] == [[[2, None]]] * 8


def test_a_flood_of_queue_names_does_not_stop_the_node(world, monkeypatch):
    monkeypatch.setattr(limits, "ENTRY_BYTES_MAX", 200_000)
    peer = with_task(world)
    session = peer.register()
    queues = tuple("\U0001f600" * 124 + f"{number:04}" for number in range(100))
    peer.submit(task(2, queue=queues[0]))
    rids = [peer.ask_claim(session, number, 1, 0, queues) for number in range(20)]
    world.settle()
    assert all(rid in peer.answers for rid in rids)
