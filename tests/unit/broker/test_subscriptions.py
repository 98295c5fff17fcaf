"""Who hears of events, and from where on."""

from __future__ import annotations

import attrs
import pytest

from tq.broker.events import CONNECTION_SUBSCRIPTIONS_MAX
from tq.broker.subscriptions import Subscriptions
from tq.errors import Backpressure
from tq.protocol import messages as m

from .rig import World, task, task_id, with_task


@pytest.fixture
def world() -> World:
    return World()


def heard(peer, rid):
    peer.world.settle()
    return [row for push in peer.pushes if push.subscription == rid for row in push.events]


def test_unsubscribe(world):
    peer = world.connect()
    rid = peer.ask(m.Subscribe)
    peer.submit(task(1))
    so_far = heard(peer, rid)
    assert so_far
    peer.call(m.Unsubscribe, rid)
    peer.submit(task(2))
    assert heard(peer, rid) == so_far
    assert len(world.broker.events) == 0
    peer.call(m.Unsubscribe, 12_345)


def test_the_reply_comes_before_the_replay(world):
    peer = with_task(world)
    order = []
    peer.reads = False
    rid = peer.ask(m.Subscribe, None, [0, 0])
    world.settle()
    original = peer.protocol.next_event

    def next_event():
        event = original()
        order.append(type(event).__name__)
        return event

    peer.protocol.next_event = next_event  # type: ignore[method-assign]
    peer.reads = True
    peer.take()
    assert order[:2] == ["SubscribeReply", "Event"]
    assert heard(peer, rid)


def test_subscriptions_of_a_connection_are_bounded(world):
    peer = world.connect()
    for _ in range(CONNECTION_SUBSCRIPTIONS_MAX):
        peer.call(m.Subscribe)
    with pytest.raises(Backpressure):
        peer.call(m.Subscribe)
    assert world.connect().call(m.Subscribe).complete


@attrs.frozen
class Behind:
    """A node that has heard of more than it has applied."""

    applied_index: int
    told_index: int


class Listener:
    """As a connection: whose events it is sent."""

    out_bytes = 0

    def __init__(self) -> None:
        self.on_close: dict[object, object] = {}
        self.ids: list[bytes] = []

    def send(self, message: m.Message) -> None:
        if isinstance(message, m.Event):
            self.ids += [row[3] for row in message.events]


def test_what_a_node_catches_up_with_is_not_news(world):
    """Who names a place hears all from there on; who names none, only what is new."""
    peer = with_task(world)
    index = world.broker.applied_index
    subscriptions = Subscriptions(Behind(index, index + 2), world.broker.events)
    now, then = Listener(), Listener()
    subscriptions.subscribe(now, m.Subscribe(1))
    subscriptions.subscribe(then, m.Subscribe(1, None, [index, 1 << 20]))
    for number in (2, 3, 4):
        peer.submit(task(number))
    assert set(now.ids) == {task_id(4)}
    assert set(then.ids) == {task_id(2), task_id(3), task_id(4)}


def test_events_of_a_queue_reach_who_listens_to_all(world):
    peer, all_of_it, of_one = world.connect(), world.connect(), world.connect()
    all_of_it.call(m.Subscribe)
    of_one.call(m.Subscribe, task_id(1))
    peer.call(m.SetQueue, b"a" * 16, "mail", {"paused": True, "reason": "deploy"}, "ana")
    world.settle()
    (push,) = all_of_it.pushes
    (row,) = push.events
    assert row[2:4] == [17, bytes(16)]
    assert row[5:] == ["mail", "", 0, ["ana", "deploy"]]
    assert of_one.pushes == []
    assert not any(event.startswith("queue") for _, event, _ in world.broker.stats()["events"]), "no task was concerned"
