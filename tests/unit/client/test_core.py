"""The core against a scripted broker: what is sent, what is sent again, and when it gives up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.client.rig import Rig
from tq.client import core as c
from tq.client.core import Close, Connect, State, Subscription, Wait
from tq.errors import (
    Backpressure,
    BrokerUnavailable,
    InvalidRequest,
    NotLeader,
    PayloadTooLarge,
    ProtocolError,
    Unauthenticated,
    Unsupported,
)
from tq.protocol import messages as m
from tq.protocol.connection import BrokerConnection


def submit(rig: Rig, spec: bytes = b"spec") -> c.Call:
    return rig.core.start(lambda rid: m.SubmitTask(rid, [spec]), rig.clock.monotonic_ms() + 30_000)


# ---- the common way --------------------------------------------------------------------------------


def test_does_nothing_until_it_is_wanted() -> None:
    rig = Rig()
    assert rig.core.step() == Wait(None)
    rig.ping()
    assert rig.core.step() == Connect(("a", 1))


def test_replies_reach_their_calls_in_any_order() -> None:
    rig = Rig()
    first, second = rig.ping(), rig.ping()
    rig.connect()
    one, two = rig.read()
    rig.answer(m.PingReply(two.rid, 9), m.PingReply(one.rid, 8))
    assert rig.core.finished == [second, first]
    assert (first.reply.index, second.reply.index) == (8, 9)
    assert rig.core.last_index == 9


def test_a_request_leaves_at_once_on_a_ready_connection() -> None:
    rig = Rig()
    rig.ping()
    rig.connect()
    rig.read()
    call = submit(rig)
    assert call.sent
    assert [type(message) for message in rig.read()] == [m.SubmitTask]


def test_no_more_in_flight_than_the_bound() -> None:
    rig = Rig()
    calls = [rig.ping() for _ in range(c.IN_FLIGHT_MAX + 5)]
    rig.connect()
    requests = rig.read()
    assert len(requests) == c.IN_FLIGHT_MAX
    rig.answer(*[m.PingReply(request.rid, 1) for request in requests[:3]])
    assert len(rig.read()) == 3
    assert sum(call.sent for call in calls) == c.IN_FLIGHT_MAX + 3


def test_errors_reach_their_caller() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    rig.answer_error(request.rid, Backpressure("full", retry_after=0.5))
    assert isinstance(call.error, Backpressure)
    assert call.error.retry_after == 0.5


def test_a_request_above_the_frame_bound_fails_alone() -> None:
    rig = Rig()
    good = rig.ping()
    rig.connect()
    rig.read()
    bad = rig.core.start(lambda rid: m.SubmitTask(rid, [bytes(9 << 20), bytes(9 << 20)]), None)
    assert isinstance(bad.error, PayloadTooLarge)
    assert not good.done
    assert rig.core.state is State.READY


# ---- connections that are lost ---------------------------------------------------------------------


def test_lost_before_the_reply_sends_the_same_again() -> None:
    rig = Rig()
    call = submit(rig, b"one")
    rig.connect()
    (first,) = rig.read()
    rig.core.lost("reset")
    assert not call.done
    rig.connect()
    (again,) = rig.read()
    assert again == first


def test_lost_after_the_reply_sends_nothing_again() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    rig.answer(m.SubmitReply(request.rid, 3, [0]))
    rig.core.lost("reset")
    assert call.reply.index == 3
    assert rig.step() == Wait(None)  # nothing is wanted any more


def test_calls_are_sent_again_in_the_order_they_were_started() -> None:
    rig = Rig()
    calls = [submit(rig, bytes([number])) for number in range(3)]
    rig.connect()
    requests = rig.read()
    rig.answer(m.SubmitReply(requests[1].rid, 1, [0]))
    calls.append(submit(rig, b"\x03"))
    rig.core.lost("reset")
    calls.append(submit(rig, b"\x04"))
    rig.connect()
    assert [request.specs[0] for request in rig.read()] == [b"\x00", b"\x02", b"\x03", b"\x04"]


def test_given_up_between_connections_is_not_sent_again() -> None:
    rig = Rig()
    call, other = submit(rig, b"one"), submit(rig, b"two")
    rig.connect()
    rig.read()
    rig.core.lost("reset")
    rig.core.give_up(call)
    rig.connect()
    assert [request.specs for request in rig.read()] == [[b"two"]]
    assert not other.done


def test_end_of_stream_is_a_lost_connection() -> None:
    rig = Rig()
    submit(rig)
    rig.connect()
    rig.read()
    rig.core.received(b"")
    assert isinstance(rig.core.step(), Close)
    rig.connect()
    assert len(rig.read()) == 1


def test_a_late_reply_of_a_call_given_up_is_dropped() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    rig.clock.advance_ms(30_000)
    rig.core.give_up(call)
    assert isinstance(call.error, BrokerUnavailable)
    assert call.error.detail["sent"]
    assert "unknown" in call.error.message
    rig.answer(m.SubmitReply(request.rid, 3, [0]))
    assert rig.core.finished == []
    assert call.reply is None
    assert rig.core.last_index == 3  # it was seen all the same


WAIT = lambda rid: m.WaitTask(rid, b"t" * 16, 20_000)  # noqa: E731
CLAIM = lambda rid: m.ClaimTask(rid, b"s" * 16, 5, [], 1, 20_000)  # noqa: E731


@pytest.mark.parametrize(("make", "claim"), [(WAIT, None), (CLAIM, [b"s" * 16, 5])])
def test_the_broker_is_told_what_nobody_waits_for(make, claim) -> None:
    rig = Rig()
    call = rig.core.start(make, 60_000)
    rig.connect()
    (request,) = rig.read()
    rig.core.give_up(call)
    rig.core.give_up(call)
    (told,) = rig.read()
    assert (type(told), told.request, told.claim) == (m.GiveUp, request.rid, claim)
    rig.answer_error(request.rid, BrokerUnavailable("given up"))
    rig.answer_error(told.rid, Unsupported("an older broker"))
    assert rig.core.finished == []
    assert not rig.core.is_wanted


def test_a_claim_that_was_granted_to_nobody_is_told_of_too() -> None:
    rig = Rig()
    claims = [rig.core.start(CLAIM, 60_000) for _ in range(2)]
    rig.connect()
    with_grant, without = rig.read()
    rig.answer(m.ClaimReply(with_grant.rid, 1, [[b"spec", 1, 0, 9, 1, None, None]]), m.ClaimReply(without.rid, 1, []))
    for call in claims:
        rig.core.abandon(call)
    (told,) = rig.read()
    assert (told.request, told.claim) == (with_grant.rid, [b"s" * 16, 5])


def test_nothing_is_told_of_what_is_answered_soon_or_was_not_sent() -> None:
    rig = Rig()
    unsent = rig.core.start(WAIT, 60_000)
    rig.core.give_up(unsent)
    ping = rig.ping()
    rig.connect()
    (asked,) = rig.read()
    assert isinstance(asked, m.Ping)
    rig.core.give_up(ping)
    assert rig.read() == []


def test_given_up_before_it_was_sent_is_known_not_to_be_done() -> None:
    rig = Rig()
    call = submit(rig)
    rig.refuse()
    rig.core.give_up(call)
    assert isinstance(call.error, BrokerUnavailable)
    assert not call.error.detail["sent"]
    assert "cannot reach a:1" in call.error.message
    assert "Connection refused" in call.error.message
    assert "unknown" not in call.error.message
    assert not rig.core.is_wanted


def test_garbage_ends_the_calls_in_flight_and_the_connection() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    rig.read()
    rig.core.received(b"\x00\x00\x00\x02\xff\xff")
    assert isinstance(call.error, ProtocolError)
    assert rig.core.state is State.IDLE


# ---- addresses and backoff -------------------------------------------------------------------------


def test_all_addresses_are_tried_before_it_waits() -> None:
    rig = Rig("a:1,b:2,c:3")
    submit(rig)
    rig.refuse()
    rig.refuse()
    rig.refuse()
    assert rig.tried == ["a:1", "b:2", "c:3"]
    assert rig.core.state is State.BACKOFF


def test_backoff_grows_with_each_round_to_its_cap() -> None:
    rig = Rig()
    submit(rig)
    waits = []
    for _ in range(10):
        rig.refuse()
        wait_ms = rig.wait_ms()
        assert wait_ms is not None
        waits.append(wait_ms)
        rig.clock.advance_ms(wait_ms)
    for round_, wait_ms in enumerate(waits):
        full_ms = min(c.BACKOFF_MS_MAX, c.BACKOFF_MS_MIN << round_)
        assert full_ms // 2 <= wait_ms <= full_ms
    assert len(set(waits[-4:])) > 1  # jitter


def test_a_good_connection_ends_the_backoff() -> None:
    rig = Rig()
    submit(rig)
    for _ in range(5):
        rig.refuse()
        rig.clock.advance_ms(rig.wait_ms() or 0)
    rig.connect()
    rig.core.lost("reset")
    assert isinstance(rig.step(), Connect)  # at once


def test_hello_that_is_not_answered_is_a_failed_connection() -> None:
    rig = Rig("a:1,b:2")
    submit(rig)
    assert isinstance(rig.step(), Connect)
    rig.core.connected()
    assert rig.wait_ms() == c.HELLO_MS
    rig.clock.advance_ms(c.HELLO_MS)
    assert rig.step() == Connect(("b", 2))
    assert rig.closes == 1


def test_refused_for_good_at_hello_tells_every_caller() -> None:
    rig = Rig()
    calls = [submit(rig), submit(rig)]
    assert isinstance(rig.step(), Connect)
    rig.core.connected()
    (hello,) = rig.read()
    rig.answer_error(hello.rid, Unauthenticated("who are you?"))
    assert all(isinstance(call.error, Unauthenticated) for call in calls)


def test_refused_for_now_at_hello_tries_on() -> None:
    rig = Rig()
    call = submit(rig)
    assert isinstance(rig.step(), Connect)
    rig.core.connected()
    (hello,) = rig.read()
    rig.answer_error(hello.rid, Backpressure("too many connections"))
    assert not call.done
    rig.clock.advance_ms(rig.wait_ms() or 0)
    rig.connect()
    assert len(rig.read()) == 1


def test_calls_fail_early_when_no_broker_is_reached() -> None:
    rig = Rig(reach_ms=1_000)
    call = submit(rig)
    while not call.done:
        step = rig.step()
        if isinstance(step, Connect):
            rig.core.connect_failed("Connection refused")
        elif step.until_ms is not None:
            rig.clock.advance_ms(step.until_ms - rig.clock.monotonic_ms())
    assert isinstance(call.error, BrokerUnavailable)
    assert call.error.detail["waited_ms"] == 1_000
    assert rig.step() == Wait(None)  # nobody wants a broker any more


# ---- leaders and leaving brokers -------------------------------------------------------------------


def test_not_leader_goes_to_the_leader_and_asks_again() -> None:
    rig = Rig("a:1,b:2")
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    rig.answer_error(request.rid, NotLeader("not me", leader="c:3", retry_after=0.1))
    assert not call.done
    rig.clock.advance_ms(100)
    rig.connect()
    assert rig.tried == ["a:1", "c:3"]
    (again,) = rig.read()
    assert again.specs == request.specs


def test_not_leader_without_a_hint_waits_and_asks_the_same_node() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    rig.answer_error(request.rid, NotLeader("an election is on", retry_after=0.4))
    wait_ms = rig.wait_ms()
    assert wait_ms is not None
    assert 200 <= wait_ms <= 400
    assert rig.read() == []
    rig.clock.advance_ms(wait_ms)
    rig.step()
    assert len(rig.read()) == 1
    assert not call.done


def refuse_until(rig: Rig, end_ms: int) -> list[Any]:
    """Answer each request "no leader" until so much time is over; what was sent last."""
    sent = rig.read()
    while rig.clock.monotonic_ms() < end_ms:
        for request in sent:
            rig.answer_error(request.rid, NotLeader("no leader is known"))
        rig.clock.advance_ms(rig.wait_ms() or 0)
        rig.step()
        sent = rig.read()
    return sent


def test_a_broker_that_finds_no_leader_is_left_for_another_address() -> None:
    """It may be cut off from the others, which go on."""
    rig = Rig("a:1,b:2")
    call = submit(rig)
    rig.connect()
    begun_ms = rig.clock.monotonic_ms()
    (request,) = refuse_until(rig, begun_ms + c.ELSEWHERE_MS)
    assert rig.tried == ["a:1"]
    rig.answer_error(request.rid, NotLeader("no leader is known"))
    rig.connect()
    assert rig.tried == ["a:1", "b:2"]
    rig.clock.advance_ms(200)
    rig.step()
    (request,) = rig.read()
    rig.answer_error(request.rid, NotLeader("no leader is known"))  # the time begins anew
    rig.step()
    assert rig.tried == ["a:1", "b:2"]
    rig.clock.advance_ms(200)
    rig.step()
    (request,) = rig.read()
    rig.answer(m.SubmitReply(request.rid, 1, [0]))
    assert call.done


def test_the_only_broker_is_asked_until_it_finds_a_leader() -> None:
    rig = Rig("a:1")
    submit(rig)
    rig.connect()
    refuse_until(rig, rig.clock.monotonic_ms() + 10 * c.ELSEWHERE_MS)
    assert rig.tried == ["a:1"]


def test_the_last_refusal_is_told_when_the_deadline_is_over() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    rig.answer_error(request.rid, NotLeader("an election is on"))
    rig.core.give_up(call)
    assert isinstance(call.error, BrokerUnavailable)
    assert "an election is on" in call.error.message
    assert not rig.core.is_wanted


def test_goaway_lets_what_is_in_flight_be_answered() -> None:
    rig = Rig("a:1,b:2")
    first = submit(rig, b"first")
    rig.connect()
    (request,) = rig.read()
    rig.answer(m.GoAway("stopping"))
    second = submit(rig, b"second")
    assert rig.read() == []  # nothing new on this connection
    rig.answer(m.SubmitReply(request.rid, 1, [0]))
    assert first.done
    assert not second.done
    rig.connect()
    assert rig.tried == ["a:1", "b:2"]
    assert [request.specs for request in rig.read()] == [[b"second"]]


def test_goaway_does_not_wait_for_ever() -> None:
    rig = Rig("a:1,b:2")
    submit(rig)
    rig.connect()
    rig.read()
    rig.answer(m.GoAway("stopping", "d:4"))
    assert rig.wait_ms() == c.DRAIN_MS
    rig.clock.advance_ms(c.DRAIN_MS)
    rig.connect()
    assert rig.tried == ["a:1", "d:4"]
    assert len(rig.read()) == 1


def test_goaway_of_an_idle_connection_only_closes_it() -> None:
    rig = Rig()
    call = rig.ping()
    rig.connect()
    (request,) = rig.read()
    rig.answer(m.PingReply(request.rid, 1))
    assert call.done
    rig.answer(m.GoAway("stopping"))
    assert rig.step() == Wait(None)
    assert rig.closes == 1


# ---- silence ---------------------------------------------------------------------------------------


def test_a_silent_peer_that_owes_an_answer_is_asked_and_then_left() -> None:
    rig = Rig()
    submit(rig)
    rig.connect()
    rig.read()
    rig.clock.advance_ms(rig.wait_ms() or 0)
    rig.step()
    assert [type(message) for message in rig.read()] == [m.Ping]
    assert rig.wait_ms() == c.DEAD_MS
    rig.clock.advance_ms(c.DEAD_MS)
    rig.connect()
    assert rig.tried == ["a:1", "a:1"]
    assert [type(message) for message in rig.read()] == [m.SubmitTask]


def test_with_another_address_a_silent_peer_is_left_sooner() -> None:
    rig = Rig("a:1,b:2")
    submit(rig)
    rig.connect()
    rig.read()
    assert rig.wait_ms() == c.PING_OTHERS_MS
    rig.clock.advance_ms(c.PING_OTHERS_MS)
    rig.step()
    assert [type(message) for message in rig.read()] == [m.Ping]
    rig.clock.advance_ms(c.DEAD_OTHERS_MS)
    rig.connect()
    assert rig.tried == ["a:1", "b:2"]
    assert [type(message) for message in rig.read()] == [m.SubmitTask]


def test_a_peer_that_answers_ping_is_kept() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    (request,) = rig.read()
    for _ in range(5):
        rig.clock.advance_ms(c.PING_MS)
        rig.step()
        (ping,) = rig.read()
        rig.answer(m.PingReply(ping.rid, 0))
    rig.answer(m.SubmitReply(request.rid, 1, [0]))
    assert call.done
    assert rig.tried == ["a:1"]


def test_an_idle_connection_is_kept_alive() -> None:
    rig = Rig()
    rig.ping()
    rig.connect()
    (request,) = rig.read()
    rig.answer(m.PingReply(request.rid, 0))
    rig.clock.advance_ms(c.PING_IDLE_MS - 1)
    rig.step()
    assert rig.read() == []
    rig.clock.advance_ms(1)
    rig.step()
    assert [type(message) for message in rig.read()] == [m.Ping]


# ---- the index -------------------------------------------------------------------------------------


def test_another_cluster_begins_its_index_again() -> None:
    rig = Rig()
    rig.ping()
    rig.connect()
    (request,) = rig.read()
    rig.answer(m.PingReply(request.rid, 70))
    rig.core.lost("reset")
    rig.ping()
    rig.connect()
    assert rig.core.last_index == 70
    rig.core.lost("reset")
    rig.connect(cluster_id=b"D" * 16)
    assert rig.core.last_index == 0


# ---- subscriptions ---------------------------------------------------------------------------------


def row(index: int, ordinal: int) -> list[object]:
    return [index, ordinal, 0, b"i" * 16, 5, "default", "echo", 0, None]


def subscribed(rig: Rig) -> tuple[Subscription, list[object], m.Subscribe]:
    got: list[object] = []
    subscription = Subscription(None, None, got.append)
    rig.core.subscribe(subscription, None)
    rig.connect()
    (request,) = rig.read()
    rig.answer(m.SubscribeReply(request.rid, 4, True))
    return subscription, got, request


def test_events_reach_their_subscription_once() -> None:
    rig = Rig()
    _subscription, got, request = subscribed(rig)
    rig.answer(m.Event(request.rid, [row(5, 0), row(5, 1)]), m.Event(request.rid, [row(5, 1), row(6, 0)]))
    assert got == [[row(5, 0), row(5, 1)], [row(6, 0)]]


def test_a_subscription_goes_on_behind_its_last_event() -> None:
    rig = Rig()
    subscription, got, request = subscribed(rig)
    rig.answer(m.Event(request.rid, [row(5, 2)]))
    rig.core.lost("reset")
    rig.connect()
    (again,) = rig.read()
    assert again.after == [5, 2]
    rig.answer(m.SubscribeReply(again.rid, 9, False), m.Event(again.rid, [row(9, 0)]))
    assert got[-1] == [row(9, 0)]
    assert not subscription.complete


def test_a_subscription_without_events_goes_on_behind_its_beginning() -> None:
    rig = Rig()
    subscribed(rig)
    rig.core.lost("reset")
    rig.connect()
    (again,) = rig.read()
    assert again.after == [4, c.ORDINAL_LAST]


def test_a_subscription_outlives_that_no_broker_is_reached_for_long() -> None:
    """Who waits for a call is told early; a stream that was there goes on whenever a broker is back."""
    rig = Rig(reach_ms=1_000)
    subscribed(rig)
    rig.core.lost("reset")
    while rig.clock.monotonic_ms() < 60_000:
        step = rig.step()
        if isinstance(step, Connect):
            rig.core.connect_failed("Connection refused")
        elif isinstance(step, Wait):
            assert step.until_ms is not None, "nobody looks for a broker any more"
            rig.clock.advance_ms(max(0, step.until_ms - rig.clock.monotonic_ms()))
    rig.connect()
    (again,) = rig.read()
    assert again.after == [4, c.ORDINAL_LAST]


def test_cut_off_for_being_slow_goes_on_too() -> None:
    rig = Rig()
    _subscription, _got, request = subscribed(rig)
    rig.answer(m.Event(request.rid, [row(5, 0)]), m.Event(request.rid, [], last=True))
    (again,) = rig.read()
    assert again.after == [5, 0]
    assert again.rid != request.rid


def test_an_ended_subscription_hears_nothing() -> None:
    rig = Rig()
    subscription, got, request = subscribed(rig)
    rig.core.unsubscribe(subscription)
    assert [type(message) for message in rig.read()] == [m.Unsubscribe]
    rig.answer(m.Event(request.rid, [row(5, 0)]))
    assert got == []
    rig.core.lost("reset")
    assert rig.step() == Wait(None)


def test_cancel_running_reaches_its_session() -> None:
    rig = Rig()
    told: list[object] = []
    rig.core.on_cancel[b"s" * 16] = told.append
    rig.ping()
    rig.connect()
    rig.answer(m.CancelRunning(b"s" * 16, [[b"i" * 16, 7, 100]]), m.CancelRunning(b"t" * 16, [[b"i" * 16, 8, 100]]))
    assert told == [[[b"i" * 16, 7, 100]]]


# ---- the end ---------------------------------------------------------------------------------------


def test_close_ends_all_calls() -> None:
    rig = Rig()
    flying = submit(rig)
    rig.connect()
    rig.read()
    rig.core.close()
    rig.core.close()
    late = submit(rig)
    assert isinstance(flying.error, BrokerUnavailable)
    assert isinstance(late.error, BrokerUnavailable)
    assert isinstance(rig.core.step(), Close)
    assert rig.core.step() == Wait(None)


def test_a_fatal_error_of_the_connection_is_not_repeated() -> None:
    rig = Rig()
    call = submit(rig)
    rig.connect()
    rig.read()
    rig.answer_error(None, InvalidRequest("no"))
    assert isinstance(call.error, InvalidRequest)
    assert rig.core.state is State.IDLE


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_replies_may_come_in_pieces(chunk: int) -> None:
    rig = Rig()
    calls = [rig.ping() for _ in range(3)]
    rig.connect()
    data = b"".join(rig.peer.send(m.PingReply(request.rid, 1)) for request in rig.read())
    for at in range(0, len(data), chunk):
        rig.core.received(data[at : at + chunk])
    assert all(call.done for call in calls)
    assert isinstance(rig.peer, BrokerConnection)
