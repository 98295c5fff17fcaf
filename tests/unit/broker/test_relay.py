"""Two whole brokers: ``far`` leads, ``near`` has the clients and relays all they ask for. Messages between them are
carried by hand, so each may be late or lost."""

from __future__ import annotations

from collections import deque

import pytest

from tq import cbor
from tq.broker import requests
from tq.broker.connection import Connection
from tq.broker.relay import REPLY, Relay, RelayedSocket
from tq.errors import BrokerUnavailable, InternalError, NotLeader
from tq.protocol import messages as m
from tq.protocol.codec import encode
from tq.sim.random import SeededRandom

from .rig import Peer, World, complete, task, task_id


class Two:
    def __init__(self) -> None:
        self.far, self.near = World(1), World(2)
        self.reaches = True
        self.to_far: deque[bytes] = deque()
        self.to_near: deque[bytes] = deque()
        self.near_relay = self.relay(self.near, self.to_far, 1)
        self.far_relay = self.relay(self.far, self.to_near, 2)
        self.leader = "far"
        self.near.broker.request = self.request  # type: ignore[method-assign]

    def relay(self, world: World, out: deque[bytes], seed: int) -> Relay:
        def send(peer: str, message: bytes) -> bool:
            assert peer in ("far", "near", "third")
            if self.reaches:
                out.append(message)
            return self.reaches

        def open_connection(socket: RelayedSocket, peer: str) -> Connection:
            broker = world.broker
            connection = Connection(
                socket,  # type: ignore[arg-type]
                peer,
                broker.dirty,
                broker.release_undelivered,
            )
            connection.protocol.skip_hello()
            broker.connections.add(connection)
            return connection

        return Relay(
            SeededRandom(seed),
            send,
            open_connection,
            lambda connection: requests.answer_requests(world.broker, connection),
        )

    def request(self, connection: Connection, message: m.Message) -> None:
        if isinstance(message, m.Hello):
            self.near.broker.dispatch.request(connection, message)
            return
        try:
            self.near_relay.forward(self.leader, connection, message)
        except NotLeader as error:
            connection.send_error(message.rid, error)  # type: ignore[attr-defined]

    def carry(self) -> None:
        """Until no message is under way and both brokers rest."""
        while True:
            self.near.settle()
            self.far.settle()
            if not self.to_far and not self.to_near:
                return
            while self.to_far:
                self.far_relay.received("near", self.to_far.popleft())
            while self.to_near:
                self.near_relay.received("far", self.to_near.popleft())
            self.near.broker.flush()

    def ask(self, client: Peer, kind: type[m.Message], *fields: object) -> int:
        rid = client.ask(kind, *fields)
        self.carry()
        return rid

    def call(self, client: Peer, kind: type[m.Message], *fields: object) -> object:
        return client.answer(self.ask(client, kind, *fields))

    def register(self, client: Peer, number: int = 1) -> bytes:
        session = b"session%09d" % number
        self.call(client, m.RegisterWorker, session, f"worker-{number}", ["work"], ["default"])
        return session


def test_the_leader_answers_as_if_the_client_were_there() -> None:
    two = Two()
    client = two.near.connect()
    submitted = two.call(client, m.SubmitTask, [task(1), task(2)])
    assert isinstance(submitted, m.SubmitReply)
    assert two.far.connect().state(task_id(2)) == "pending"
    session = two.register(client)
    claimed = two.call(client, m.ClaimTask, session, 1, [], 2, 0)
    assert isinstance(claimed, m.ClaimReply)
    items = [complete(grant) for grant in claimed.grants]
    assert two.call(client, m.TaskResult, session, items).items == [0, 0]  # type: ignore[attr-defined]
    assert two.far.connect().state(task_id(1)) == "completed"
    assert len(two.far.broker.connections) == 3  # the relayed one and the two of this test


def test_many_requests_of_many_clients_find_their_own_answers() -> None:
    two = Two()
    clients = [two.near.connect() for _ in range(5)]
    asked = []
    for round_ in range(4):
        for number, client in enumerate(clients):
            asked.append((client, client.ask(m.SubmitTask, [task(number * 10 + round_)]), number * 10 + round_))
    two.carry()
    for client, rid, number in asked:
        client.answer(rid)
        assert two.far.connect().state(task_id(number)) == "pending"


def test_a_refusal_of_the_leader_comes_back_as_it_is() -> None:
    two = Two()
    client = two.near.connect()
    from tq.errors import SessionLost

    with pytest.raises(SessionLost):
        two.call(client, m.ClaimTask, b"s" * 16, 1, [], 1, 0)


def test_a_parked_claim_is_fed_and_a_cancel_is_pushed_through() -> None:
    two = Two()
    worker = two.near.connect()
    session = two.register(worker)
    rid = two.ask(worker, m.ClaimTask, session, 1, [], 1, 30_000)
    assert not worker.has(rid)
    other = two.far.connect()
    other.submit(task(7))
    two.carry()
    assert len(worker.answer(rid).grants) == 1
    other.call(m.CancelTask, [task_id(7)], 5_000)
    two.carry()
    assert [type(push) for push in worker.pushes] == [m.CancelRunning]


def test_a_parked_claim_dies_with_its_client() -> None:
    two = Two()
    worker = two.near.connect()
    session = two.register(worker)
    two.ask(worker, m.ClaimTask, session, 1, [], 1, 30_000)
    assert len(two.far.broker.claims) == 1
    worker.close()
    two.carry()
    assert len(two.far.broker.claims) == 0
    assert two.near_relay.statistics() == two.far_relay.statistics() == {"outgoing": 0, "incoming": 0}


def test_a_claim_is_given_up_through_the_other_node() -> None:
    two = Two()
    worker = two.near.connect()
    session = two.register(worker)
    rid = two.ask(worker, m.ClaimTask, session, 1, [], 1, 30_000)
    assert len(two.far.broker.claims) == 1
    two.ask(worker, m.GiveUp, rid, [session, 1])
    assert len(two.far.broker.claims) == 0
    assert worker.answer(rid).grants == []
    other = two.far.connect()
    other.submit(task(7))
    assert other.get(task_id(7))["state"] == "pending"


def test_grants_that_cannot_be_carried_go_back_at_once() -> None:
    two = Two()
    worker = two.near.connect()
    session = two.register(worker)
    two.ask(worker, m.ClaimTask, session, 1, [], 1, 30_000)
    two.reaches = False
    other = two.far.connect()
    other.submit(task(7))
    two.far.settle()
    found = other.get(task_id(7))
    assert (found["state"], found["attempt"], found["crashes"]) == ("pending", 0, 0)


def test_what_is_in_flight_when_the_way_is_lost_is_answered_once() -> None:
    two = Two()
    client = two.near.connect()
    rids = [client.ask(m.SubmitTask, [task(number)]) for number in range(3)]
    two.near.settle()
    two.to_far.clear()
    two.near_relay.peer_lost("far")
    two.near.broker.flush()
    for rid in rids:
        with pytest.raises(BrokerUnavailable, match="is unknown"):
            client.answer(rid)
    two.carry()
    assert two.near_relay.statistics()["outgoing"] == 0
    two.call(client, m.SubmitTask, [task(1)])


def test_an_answer_that_comes_after_the_way_was_lost_finds_nobody() -> None:
    two = Two()
    client = two.near.connect()
    rid = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    while two.to_far:
        two.far_relay.received("near", two.to_far.popleft())
    two.far.settle()
    late = list(two.to_near)
    assert late
    two.to_near.clear()
    two.near_relay.peer_lost("far")
    for message in late:
        two.near_relay.received("far", message)
    two.near.broker.flush()
    with pytest.raises(BrokerUnavailable):
        client.answer(rid)


def test_without_a_way_nothing_is_done_and_the_client_may_go_elsewhere() -> None:
    two = Two()
    client = two.near.connect()
    two.reaches = False
    with pytest.raises(NotLeader, match="nothing was done"):
        two.call(client, m.SubmitTask, [task(1)])


def test_a_new_leader_is_asked_and_what_was_in_flight_is_answered() -> None:
    two = Two()
    client = two.near.connect()
    rid = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    two.to_far.clear()
    two.leader = "third"
    later = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    with pytest.raises(BrokerUnavailable, match="leader changed"):
        client.answer(rid)
    assert not client.has(later)


def test_what_is_in_flight_at_another_node_is_answered_when_a_leader_is_known() -> None:
    """Else it would wait for a way that is still there, to a node that stands still or cannot be heard."""
    two = Two()
    client = two.near.connect()
    rid = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    two.near_relay.leader_is("far")
    two.near.broker.flush()
    assert not client.has(rid)
    two.near_relay.leader_is("third")
    two.near.broker.flush()
    with pytest.raises(BrokerUnavailable, match="leader changed"):
        client.answer(rid)


def test_what_is_in_flight_is_answered_when_nobody_leads() -> None:
    two = Two()
    client = two.near.connect()
    rid = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    two.near_relay.leader_is(None)
    two.near.broker.flush()
    with pytest.raises(BrokerUnavailable, match="leader was lost"):
        client.answer(rid)


def test_an_answer_that_could_not_be_carried_is_an_end_that_is_told_later() -> None:
    """The way there holds and the way back does not: the client may not wait for ever."""
    two = Two()
    client = two.near.connect()
    rid = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    while two.to_far:
        two.far_relay.received("near", two.to_far.popleft())
    two.reaches = False
    two.far.settle()
    two.far_relay.tell_again()
    two.reaches = True
    two.far_relay.tell_again()
    two.carry()
    with pytest.raises(BrokerUnavailable, match="is unknown"):
        client.answer(rid)
    assert two.far_relay.statistics()["incoming"] == 0
    two.far_relay.tell_again()
    assert not two.to_near


def test_what_was_on_the_way_back_when_it_was_lost_is_an_end_that_is_told_later() -> None:
    two = Two()
    client = two.near.connect()
    rid = client.ask(m.SubmitTask, [task(1)])
    two.near.settle()
    while two.to_far:
        two.far_relay.received("near", two.to_far.popleft())
    two.far.settle()
    two.to_near.clear()
    two.reaches = False
    two.far_relay.peer_lost("near")
    two.reaches = True
    two.far_relay.tell_again()
    two.carry()
    with pytest.raises(BrokerUnavailable, match="is unknown"):
        client.answer(rid)


def test_a_client_that_leaves_while_the_way_is_lost_is_closed_at_the_leader_later() -> None:
    two = Two()
    worker = two.near.connect()
    session = two.register(worker)
    two.ask(worker, m.ClaimTask, session, 1, [], 1, 30_000)
    two.reaches = False
    two.near_relay.peer_lost("far")
    assert two.far_relay.statistics()["incoming"] == 1
    two.reaches = True
    two.near_relay.tell_again()
    two.carry()
    assert two.far_relay.statistics()["incoming"] == 0
    other = two.far.connect()
    other.submit(task(7))
    two.far.settle()
    assert other.get(task_id(7))["state"] == "pending"  # no dead client's claim has swallowed it


def test_a_leader_that_stops_answers_what_is_in_flight_and_says_no_good_bye_to_our_clients() -> None:
    two = Two()
    worker = two.near.connect()
    session = two.register(worker)
    rid = two.ask(worker, m.ClaimTask, session, 1, [], 1, 30_000)
    two.far.stop()
    two.carry()
    assert worker.answer(rid).grants == []
    assert worker.pushes == []


def test_ids_do_not_come_again_in_another_life() -> None:
    two = Two()
    client = two.near.connect()
    two.call(client, m.SubmitTask, [task(1)])
    first = next(iter(two.near_relay._outgoing))
    second_life = two.relay(two.near, two.to_far, 3)
    second_life.received("far", cbor.dumps([REPLY, first, encode(m.PingReply(1, 1))]))
    assert second_life.statistics() == {"outgoing": 0, "incoming": 0}


@pytest.mark.parametrize("message", [None, [], [9, b"x"], [0, b"x"], [2, "x"]])
def test_what_is_no_relay_message_stops_the_node(message: object) -> None:
    with pytest.raises(InternalError, match="relays"):
        Two().near_relay.received("far", cbor.dumps(message))


def test_a_relay_rests_when_nobody_waits_for_what_may_be_done() -> None:
    """Parked claims are no reason to wait: they end with their connection, and what they were granted is released."""
    two = Two()
    client = two.near.connect()
    session = two.register(client)
    assert two.near_relay.is_idle
    client.ask(m.SubmitTask, [task(1)], False)
    two.near.settle()
    assert not two.near_relay.is_idle
    two.carry()
    assert two.near_relay.is_idle
    assert len(two.call(client, m.ClaimTask, session, 1, [], 5, 1_000).grants) == 1  # type: ignore[attr-defined]
    two.ask(client, m.ClaimTask, session, 2, [], 5, 5_000)
    assert two.near_relay.is_idle
    client.ask(m.ClaimTask, session, 3, [], 5, 0)
    two.near.settle()
    assert not two.near_relay.is_idle
