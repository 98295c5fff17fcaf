from __future__ import annotations

import pytest

from tq import limits
from tq.errors import Backpressure, InvalidRequest, NotLeader, SessionLost
from tq.protocol import messages as m

from .rig import World, complete, id_of, release, task, task_id


@pytest.fixture
def world() -> World:
    return World()


def crowd(world, count, n=1, wait_ms=20_000, types=("work",), queues=("default",), first=101):
    """Workers with a parked claim each: (peer, session, rid)."""
    members = []
    for number in range(first, first + count):
        peer = world.connect()
        session = peer.register(number, types, queues)
        members.append((peer, session, peer.ask_claim(session, 1, n, wait_ms)))
        world.settle()
    return members


def fed(members):
    return [number for number, (peer, _, rid) in enumerate(members) if peer.has(rid)]


def test_what_is_ready_is_granted_at_once(world):
    peer = world.connect()
    peer.submit(task(1), task(2), task(3))
    grants = peer.claim(peer.register(), 1, n=2, wait_ms=20_000)
    assert [id_of(grant) for grant in grants] == [task_id(1), task_id(2)]
    _spec, attempt, crashes, fence, lease_ms, timeout_ms, deadline_ms = grants[0]
    assert (attempt, crashes, lease_ms, timeout_ms, deadline_ms) == (1, 0, 3_000, None, None)
    assert grants[1][3] == fence + 1


def test_without_a_wait_nothing_is_answered_at_once(world):
    peer = world.connect()
    assert peer.claim(peer.register(), 1) == []
    assert len(world.broker.claims) == 0


def test_a_claim_that_gets_nothing_names_the_index_too(world):
    """A client remembers the highest index that it saw: a reply without one would take it back in time."""
    peer = world.connect()
    session = peer.register()
    index = peer.submit(task(1, queue="elsewhere")).index
    assert peer.answer(peer.ask_claim(session, 1)).index == index
    waiting = peer.ask_claim(session, 2, 1, 500)
    world.advance_ms(600)
    assert peer.answer(waiting).index >= index
    replaced = peer.ask_claim(session, 3, 1, 500)
    peer.ask_claim(session, 4, 1, 500)
    assert peer.answer(replaced).index >= index


def test_a_parked_claim_goes_along_with_what_is_submitted(world):
    """One entry and one sync for both."""
    ((peer, _, rid),) = crowd(world, 1, n=5)
    client = world.connect()
    first, second = (client.ask(m.SubmitTask, [task(number)]) for number in (1, 2))
    index = client.answer(first).index
    assert client.answer(second).index == index
    claimed = peer.answer(rid)
    assert claimed.index == index
    assert [id_of(grant) for grant in claimed.grants] == [task_id(1), task_id(2)]  # it came behind both


def test_claims_that_went_along_in_vain_are_the_first_in_line_again(world):
    client = world.connect()
    worker = world.connect()
    client.submit(task(1))
    held = worker.register(99)
    assert len(worker.claim(held, 1)) == 1
    members = crowd(world, 3)
    client.submit(task(1))  # there already: nothing is ready
    world.settle()
    assert fed(members) == []
    assert len(world.broker.claims) == 3
    client.submit(task(2))
    world.settle()
    assert fed(members) == [0]


def test_what_the_first_of_a_batch_does_not_tell_wakes_claims_when_it_is_ready(world):
    work, other = crowd(world, 1), crowd(world, 1, types=("other",), first=201)
    world.connect().submit(task(1), task(2, type="other"))
    world.settle()
    assert (fed(work), fed(other)) == ([0], [0])
    later = crowd(world, 2, first=301)
    world.connect().submit(task(3, delay_ms=500), task(4))
    world.settle()
    assert fed(later) == [0]
    world.advance_ms(600)
    assert fed(later) == [0, 1]


def test_no_more_claims_go_along_than_the_tasks_can_feed_and_none_for_a_paused_queue(world):
    members = crowd(world, 4, n=2)
    commands = world.broker.proposer.statistics().commands
    world.connect().submit(task(1), task(2), task(3))
    world.settle()
    assert fed(members) == [0, 1]
    assert world.broker.proposer.statistics().commands == commands + 3
    client = world.connect()
    client.call(m.SetQueue, bytes(15) + b"p", "default", {"paused": True}, "me")
    commands = world.broker.proposer.statistics().commands
    client.submit(task(4))
    world.settle()
    assert fed(members) == [0, 1]
    assert world.broker.proposer.statistics().commands == commands + 1


def test_a_wait_costs_no_log_entry_and_no_polling(world):
    members = crowd(world, 3)
    index = world.node.last_index
    world.advance_ms(2_000)
    assert world.node.last_index == index
    assert fed(members) == []
    assert len(world.broker.claims) == 3


def test_a_ready_task_wakes_one_waiter_in_order(world):
    members = crowd(world, 3)
    submitter = world.connect()
    submitter.submit(task(1))
    assert fed(members) == [0]
    submitter.submit(task(2))
    assert fed(members) == [0, 1]
    assert len(world.broker.claims) == 1


def test_a_batch_wakes_exactly_as_many_as_it_can_feed(world):
    members = crowd(world, 5, n=2)
    before = world.broker.proposer.statistics().commands
    world.connect().submit(*[task(number) for number in range(5)])
    assert fed(members) == [0, 1, 2]
    counts = [len(peer.answers[rid].grants) for peer, _, rid in members[:3]]
    assert counts == [2, 2, 1]
    assert world.broker.proposer.statistics().commands == before + 1 + 3, "one submit, three claims"


def test_only_waiters_of_that_queue_and_type_are_woken(world):
    other_type = crowd(world, 1, types=("other",))
    other_queue = [(peer := world.connect(), peer.register(8, queues=("elsewhere",)), 0)]
    rid = other_queue[0][0].ask_claim(other_queue[0][1], 1, 1, 20_000)
    right = world.connect()
    right_rid = right.ask_claim(right.register(9), 1, 1, 20_000)
    world.settle()
    world.connect().submit(task(1))
    assert fed(other_type) == []
    assert not other_queue[0][0].has(rid)
    assert right.has(right_rid)


def test_a_wait_ends_with_nothing_at_its_time(world):
    ((peer, _, rid),) = crowd(world, 1, wait_ms=1_000)
    world.advance_ms(900)
    assert not peer.has(rid)
    world.advance_ms(150)
    assert peer.answer(rid).grants == []
    assert len(world.broker.claims) == 0


def test_a_parked_claim_dies_with_its_connection(world):
    members = crowd(world, 2)
    members[0][0].close()
    world.settle()
    assert len(world.broker.claims) == 1
    world.connect().submit(task(1))
    assert fed(members[1:]) == [0], "the task is not spent on a waiter that is gone"


def test_a_reset_is_noticed_with_the_claim_in_flight(world):
    """The grant goes back at once: no attempt, no crash; and the next waiter gets it."""
    members = crowd(world, 2)
    first = members[0][0]
    first.socket.is_broken = True  # the broker does not know yet
    world.peers.remove(first)
    world.connect().submit(task(1))
    assert fed(members[1:]) == [0]
    (grant,) = members[1][0].answers[members[1][2]].grants
    assert (grant[1], grant[2]) == (1, 0)
    history = world.connect().get(task_id(1))
    assert (history["attempt"], history["crashes"]) == (1, 0)


def test_a_second_claim_of_a_session_takes_the_place_of_the_first(world):
    peer = world.connect()
    session = peer.register()
    first = peer.ask_claim(session, 1, 1, 20_000)
    other = world.connect()
    second = other.ask_claim(session, 2, 1, 20_000)
    assert peer.answer(first).grants == []
    assert not other.has(second)
    assert len(world.broker.claims) == 1
    peer.submit(task(1))
    assert len(other.answer(second).grants) == 1


def test_the_same_number_again_is_answered_with_what_is_still_held(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1), task(2))
    grants = peer.claim(session, 1, n=2)
    peer.report(session, complete(grants[0]))
    again = world.connect()
    assert again.claim(session, 1, n=2, wait_ms=20_000) == [grants[1]]


def test_a_number_whose_reply_was_lost_is_not_parked(world):
    """The reply went to the kernel and was never read: the repetition gets the grant."""
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    peer.reads = False
    rid = peer.ask_claim(session, 1, 1, 20_000)
    world.settle()
    assert rid not in peer.answers
    peer.vanish()
    again = world.connect()
    (grant,) = again.claim(session, 1, 1, 20_000)
    assert id_of(grant) == task_id(1)
    assert again.get(task_id(1))["attempt"] == 1


def test_an_unknown_session_is_told(world):
    peer = world.connect()
    with pytest.raises(SessionLost):
        peer.claim(b"nobody".ljust(16), 1)


def test_the_end_of_a_session_ends_its_wait(world):
    ((peer, session, rid),) = crowd(world, 1)
    world.connect().call(m.DeregisterWorker, session)
    with pytest.raises(SessionLost):
        peer.answer(rid)
    assert len(world.broker.claims) == 0


@pytest.mark.parametrize(("n", "wait_ms"), [(1_001, 0), (1, 30_001), (0, 0)])
def test_bounds_are_typed(world, n, wait_ms):
    peer = world.connect()
    session = peer.register()
    with pytest.raises(InvalidRequest):
        peer.call(m.ClaimTask, session, 1, [], n, wait_ms)


def test_a_queue_named_twice(world):
    peer = world.connect()
    session = peer.register()
    rid = peer.ask_claim(session, 1, 1, 20_000, queues=("default", "default"))
    world.settle()
    assert len(world.broker.claims) == 1
    peer.submit(task(1))
    assert len(peer.answer(rid).grants) == 1
    twice = peer.register(2, queues=("default", "default"))
    rid = peer.ask_claim(twice, 1, 1, 100)
    world.advance_ms(200)
    assert peer.answer(rid).grants == []


def test_over_several_queues_a_waiter_is_woken_once(world):
    peer = world.connect()
    session = peer.register(1, queues=("a", "b"))
    rid = peer.ask_claim(session, 1, 10, 20_000)
    world.settle()
    submitter = world.connect()
    submitter.submit(task(1, queue="b"), task(2, queue="a"), task(3, queue="a", priority=250))
    assert [id_of(grant) for grant in peer.answer(rid).grants] == [task_id(3), task_id(2), task_id(1)]


def test_overload_is_told_to_the_waiter_and_stops_nobody(monkeypatch):
    """A task becomes ready while the proposer is full: the parked claim gets a typed answer."""
    world = World(late=True)
    peer = world.connect()
    register = peer.ask(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
    world.settle()
    world.finish_sync()
    peer.answer(register)
    rid = peer.ask_claim(b"s" * 16, 1, 1, 20_000)
    world.settle()
    assert len(world.broker.claims) == 1
    monkeypatch.setattr(limits, "PROPOSER_QUEUE_COMMANDS_MAX", 2)
    submits = [peer.ask(m.SubmitTask, [task(1)])]
    world.settle()  # in flight, the sync has not come
    submits += [peer.ask(m.SubmitTask, [task(number)]) for number in (2, 3, 4)]
    world.settle()
    for _ in range(4):
        world.finish_sync()
    with pytest.raises(Backpressure) as told:
        peer.answer(rid)
    assert told.value.retry_after
    assert [type(peer.answers[rid]) for rid in submits] == [m.SubmitReply] * 3 + [m.ErrorReply]
    assert len(world.broker.claims) == 0


def test_what_a_lost_session_leaves_wakes_the_next(world):
    """A claim was woken for a task, and its session closed in the same entry: the task must not wait for the next."""
    members = crowd(world, 2)
    submitter = world.connect()
    closer = world.connect()
    # Both reach the proposer in one pass: the close stands before the claim that the submission wakes.
    submitter.ask(m.SubmitTask, [task(1)])
    for _ in range(3):
        world._serve(submitter)
    world.broker.before_turn()
    closer.ask(m.DeregisterWorker, members[0][1])
    world._serve(closer)
    world.settle()
    assert fed(members[1:]) == [0]


def test_what_a_full_session_leaves_wakes_the_next(world):
    peer = world.connect()
    session = peer.register(1)
    for start in (0, 500):
        peer.submit(*[task(number, type="work") for number in range(start, start + 500)])
    assert len(peer.claim(session, 1, n=999)) == 999
    assert len(peer.claim(session, 2, n=1)) == 1
    full = peer.ask_claim(session, 3, 5, 20_000)
    world.settle()
    other = world.connect()
    waiting = other.ask_claim(other.register(2), 1, 1, 20_000)
    world.settle()
    assert len(world.broker.claims) == 2
    world.connect().submit(task(5_000))
    assert peer.answer(full).grants == []
    assert len(other.answer(waiting).grants) == 1


def test_what_a_claim_leaves_for_a_better_task_wakes_the_next(world):
    """Woken for a task of one queue it takes another's, which has a higher priority; somebody sleeps who could take it."""
    peer = world.connect()
    both = peer.register(1, types=("work", "toil"), queues=("a", "b"))
    rid = peer.ask_claim(both, 1, 1, 20_000)
    toiler = world.connect()
    toil_rid = toiler.ask_claim(toiler.register(2, types=("toil",), queues=("b",)), 1, 1, 20_000)
    worker = world.connect()
    work_rid = worker.ask_claim(worker.register(3, types=("work",), queues=("a",)), 1, 1, 20_000)
    world.settle()
    world.connect().submit(task(1, queue="a"), task(2, "toil", queue="b", priority=250))
    assert [id_of(grant) for grant in peer.answer(rid).grants] == [task_id(2)]
    assert [id_of(grant) for grant in worker.answer(work_rid).grants] == [task_id(1)]
    assert not toiler.has(toil_rid)


def test_a_beaten_claim_keeps_its_time(world):
    members = crowd(world, 1, wait_ms=2_000)
    world.advance_ms(1_500)
    # A task comes and goes within one entry's reach: another claim is already queued for it.
    rival = world.connect()
    session = rival.register(7)
    submitter = world.connect()
    submitter.submit(task(1, queue="side"))
    submitter.ask(m.SubmitTask, [task(2)])
    rival_rid = rival.ask_claim(session, 1, 1, 0, queues=("default",))
    world.settle()
    world.advance_ms(600)
    peer, _, rid = members[0]
    answered = [r for p, r in ((peer, rid), (rival, rival_rid)) if p.has(r)]
    assert len(answered) == 2, "both are answered once the first one's time is over"
    total = len(peer.answers[rid].grants) + len(rival.answers[rival_rid].grants)
    assert total == 1


def test_given_back_tasks_wake_again(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    (grant,) = peer.claim(session, 1)
    members = crowd(world, 1)
    peer2 = world.connect()
    session2 = peer2.register(5)
    rid = peer2.ask_claim(session2, 1, 1, 20_000)
    world.settle()
    assert peer.report(session, release(grant)) == [0]
    assert fed(members) + ([9] if peer2.has(rid) else []) == [0]


def test_all_waiters_are_told_when_leadership_is_lost(world):
    members = crowd(world, 3)
    world.broker.on_role(False)
    world.settle()
    for peer, _session, rid in members:
        with pytest.raises(NotLeader):
            peer.answer(rid)
    assert len(world.broker.claims) == 0


def test_a_grant_that_cannot_be_given_back_runs_out(monkeypatch):
    """The worker is gone and the proposer is full: its lease ends the grant."""
    world, peer = late_world(b"a" * 16)
    gone = world.connect()
    gone.ask_claim(b"a" * 16, 1, 1, 0)
    world.settle()
    gone.vanish()
    world.settle()
    monkeypatch.setattr(limits, "PROPOSER_QUEUE_COMMANDS_MAX", 1)
    other = peer.ask(m.SubmitTask, [task(2)])
    world.settle()
    world.finish_sync()
    world.finish_sync()
    assert peer.answer(other).items == [0]
    assert peer.state(task_id(1)) == "running"
    monkeypatch.undo()
    for _ in range(100):
        world.advance_ms(50)
        world.finish_sync()
    found = peer.get(task_id(1))
    assert (found["state"], found["crashes"]) == ("pending", 1)


def test_all_waiters_are_answered_when_it_stops(world):
    members = crowd(world, 4)
    world.stop()
    assert [peer.answers[rid].grants for peer, _, rid in members] == [[]] * 4


def late_world(*sessions: bytes):
    """The sync ends when the test says so, so claims can meet in flight."""
    world = World(late=True)
    peer = world.connect()
    for session in sessions:
        rid = peer.ask(m.RegisterWorker, session, "w", ["work"], ["default"])
        world.settle()
        world.finish_sync()
        peer.answer(rid)
    rid = peer.ask(m.SubmitTask, [task(1)])
    world.settle()
    world.finish_sync()
    peer.answer(rid)
    return world, peer


def test_a_worker_that_is_back_before_its_grant_keeps_it():
    """The first connection broke with the claim in flight; the repetition is answered with a grant that holds."""
    world, peer = late_world(b"a" * 16)
    broken = world.connect()
    broken.ask_claim(b"a" * 16, 1, 1, 0)
    world.settle()
    broken.vanish()
    world.settle()
    rid = peer.ask_claim(b"a" * 16, 1, 1, 0)
    world.settle()
    for _ in range(4):
        world.finish_sync()
    (grant,) = peer.answers[rid].grants
    report = peer.ask(m.TaskResult, b"a" * 16, [complete(grant)])
    world.settle()
    world.finish_sync()
    assert peer.answers[report].items == [0]


def test_a_grant_nobody_asks_for_again_goes_back():
    world, peer = late_world(b"a" * 16)
    broken = world.connect()
    broken.ask_claim(b"a" * 16, 1, 1, 0)
    world.settle()
    broken.vanish()
    peer.ask_claim(b"a" * 16, 2, 1, 0)
    world.settle()
    for _ in range(4):
        world.finish_sync()
    rid = peer.ask_claim(b"a" * 16, 3, 1, 0)
    world.settle()
    world.finish_sync()
    (grant,) = peer.answers[rid].grants
    assert (grant[1], grant[2]) == (1, 0), "no attempt, no crash"


def test_a_beaten_claim_without_a_wait_is_answered_at_once():
    world, peer = late_world(b"a" * 16, b"b" * 16)
    first = peer.ask_claim(b"a" * 16, 1, 1, 0)
    second = peer.ask_claim(b"b" * 16, 1, 1, 0)
    world.settle()
    world.finish_sync()
    world.finish_sync()
    assert len(peer.answers[first].grants) == 1
    assert peer.answers[second].grants == []
    assert len(world.broker.claims) == 0


def test_a_beaten_claim_gives_way_to_a_later_one_of_its_session():
    world, peer = late_world(b"a" * 16, b"b" * 16)
    rival = peer.ask_claim(b"b" * 16, 1, 1, 0)
    world.settle()
    first = peer.ask_claim(b"a" * 16, 1, 1, 20_000)
    world.settle()
    world.finish_sync()  # the rival has the task; the first claim is on its way all the same
    second = peer.ask_claim(b"a" * 16, 2, 1, 20_000)
    world.settle()
    assert len(world.broker.claims) == 1
    world.finish_sync()
    assert len(peer.answers[rival].grants) == 1
    assert peer.answers[first].grants == []
    assert second not in peer.answers
    peer.ask(m.SubmitTask, [task(2)])
    world.settle()
    for _ in range(3):
        world.finish_sync()
    assert len(peer.answers[second].grants) == 1


def test_a_claim_in_flight_is_answered_when_it_stops(world):
    """It is granted nothing, would be parked, and nobody would ever answer it."""
    late = World(late=True)
    peer = late.connect()
    rid = peer.ask(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
    late.settle()
    late.finish_sync()
    peer.answer(rid)
    rid = peer.ask(m.SubmitTask, [task(1)])
    late.settle()
    late.finish_sync()
    peer.answer(rid)
    first = peer.ask_claim(b"s" * 16, 1, 1, 20_000)
    second = peer.ask_claim(b"s" * 16, 2, 1, 20_000)
    late.settle()
    late.stop()
    for _ in range(3):
        late.finish_sync()
    assert len(peer.answers[first].grants) == 1
    assert peer.answers[second].grants == []
    assert late.broker.is_idle


# ---- paused queues --------------------------------------------------------------------------------------


def set_queue(world, queue="default", **changes):
    operation = world.random.bytes(16)
    return world.connect().call(m.SetQueue, operation, queue, changes, "ana").settings


def test_a_paused_queue_wakes_nobody_and_costs_no_entries(world):
    set_queue(world, paused=True)
    members = crowd(world, 2)
    world.connect().submit(task(1), task(2))
    before = world.broker.proposer.statistics().commands
    world.advance_ms(2_000)
    assert fed(members) == []
    assert len(world.broker.claims) == 2
    assert world.broker.proposer.statistics().commands == before


def test_resuming_wakes_exactly_as_many_as_can_be_fed(world):
    set_queue(world, paused=True)
    members = crowd(world, 5, n=2)
    world.connect().submit(*[task(number) for number in range(5)])
    before = world.broker.proposer.statistics().commands
    assert set_queue(world, paused=False)["paused"] is None
    assert fed(members) == [0, 1, 2]
    assert world.broker.proposer.statistics().commands == before + 1 + 3, "one resume, three claims"


def test_a_claim_over_two_queues_waits_for_the_other_one(world):
    set_queue(world, "mail", paused=True)
    ((peer, session, rid),) = crowd(world, 1, n=5, queues=("mail", "default"))
    world.connect().submit(task(1, queue="mail"))
    assert not peer.has(rid)
    world.connect().submit(task(2))
    (grant,) = peer.answer(rid).grants
    assert id_of(grant) == task_id(2)
    peer.report(session, complete(grant))
    assert peer.claim(session, 2, 5) == []
    set_queue(world, "mail", paused=False)
    assert [id_of(grant) for grant in peer.claim(session, 3, 5)] == [task_id(1)]


def test_what_waits_in_a_paused_queue_wakes_nobody_when_a_claim_comes_back(world):
    set_queue(world, "mail", paused=True)
    world.connect().submit(task(1, queue="mail"))
    members = crowd(world, 2, queues=("mail", "default"))
    before = world.broker.proposer.statistics().commands
    world.connect().submit(task(2))
    assert fed(members) == [0]
    assert world.broker.proposer.statistics().commands == before + 2, "one submit, one claim"


def test_a_pause_that_comes_first_leaves_the_claim_waiting(world):
    """A claim was proposed for a ready task, and the pause stands before it in the log."""
    submitter, peer = world.connect(), world.connect()
    session = peer.register()
    submitter.submit(task(1))
    paused = submitter.ask(m.SetQueue, b"p" * 16, "default", {"paused": True}, "ana")
    rid = peer.ask_claim(session, 1, 1, 20_000)
    assert submitter.has(paused)
    assert not peer.has(rid)
    set_queue(world, paused=False)
    assert [id_of(grant) for grant in peer.answer(rid).grants] == [task_id(1)]


# ---- given up ----------------------------------------------------------------------------------------


def give_up(peer, rid, session, seq):
    return peer.ask(m.GiveUp, rid, [session, seq])


def untouched(peer, number=1):
    """Whether the task waits as if it had never been granted."""
    found = peer.get(task_id(number))
    return (found["state"], found["attempt"], found["crashes"]) == ("pending", 0, 0)


def test_a_parked_claim_that_is_given_up_gets_nothing_any_more(world):
    (_, _, _), (peer, session, rid) = crowd(world, 2)
    peer.answer(give_up(peer, rid, session, 1))
    assert peer.answer(rid).grants == []
    assert len(world.broker.claims) == 1
    peer.submit(task(1), task(2))
    assert peer.state(task_id(1)) == "running", "the other worker has it"
    assert untouched(peer, 2)


def test_a_claim_given_up_while_it_is_in_the_log_gives_back_what_it_gets():
    world, peer = late_world(b"a" * 16)
    rid = peer.ask_claim(b"a" * 16, 1, 1, 20_000)
    world.settle()
    assert rid not in peer.answers
    give_up(peer, rid, b"a" * 16, 1)
    world.settle()
    assert peer.answers[rid].grants == []
    for _ in range(4):
        world.finish_sync()
    assert untouched(peer)
    assert world.broker.counters.leases_expired == 0


def test_a_claim_given_up_in_the_log_and_made_again_keeps_what_it_gets():
    """It has the same number: the grant is that of the second one, and must not go back."""
    world, peer = late_world(b"a" * 16)
    rid = peer.ask_claim(b"a" * 16, 1, 1, 20_000)
    world.settle()
    give_up(peer, rid, b"a" * 16, 1)
    again = peer.ask_claim(b"a" * 16, 1, 1, 20_000)
    world.settle()
    for _ in range(6):
        world.finish_sync()
    assert peer.answers[rid].grants == []
    (grant,) = peer.answers[again].grants
    report = peer.ask(m.TaskResult, b"a" * 16, [complete(grant)])
    world.settle()
    world.finish_sync()
    assert peer.answers[report].items == [0]


def test_what_was_granted_when_the_claim_is_given_up_goes_back(world):
    peer = world.connect()
    peer.submit(task(1), task(2))
    session = peer.register()
    rid = peer.ask_claim(session, 1, n=2)
    first, second = peer.answer(rid).grants
    assert peer.report(session, complete(second)) == [0]
    peer.answer(give_up(peer, rid, session, 1))
    assert untouched(peer)
    assert peer.state(task_id(2)) == "completed"
    assert peer.report(session, complete(first)) == [[2, 2]], "stale: it is pending"
    assert peer.claim(session, 1) == [], "the number was used"
    assert [id_of(grant) for grant in peer.claim(session, 2)] == [task_id(1)]


def test_giving_up_an_old_claim_takes_nothing_from_a_later_one(world):
    peer = world.connect()
    peer.submit(task(1), task(2))
    session = peer.register()
    rid = peer.ask_claim(session, 1)
    peer.answer(rid)
    peer.claim(session, 2)
    peer.answer(give_up(peer, rid, session, 1))
    assert peer.state(task_id(1)) == peer.state(task_id(2)) == "running"


def test_what_is_given_back_wakes_the_next(world):
    peer = world.connect()
    peer.submit(task(1))
    session = peer.register()
    rid = peer.ask_claim(session, 1)
    peer.answer(rid)
    ((other, _, waiting),) = crowd(world, 1)
    give_up(peer, rid, session, 1)
    assert [id_of(grant) for grant in other.answer(waiting).grants] == [task_id(1)]
