from __future__ import annotations

import pytest

from tq.broker.leases import LOOK_GAP_MS_MAX, PROPOSE_AGAIN_MS, Leases
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom

LEASE_MS = 3_000
SESSION_MS = 4_000
A, B = b"A" * 16, b"B" * 16
T1, T2, T3 = (bytes([number]) * 16 for number in (1, 2, 3))


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.leases = Leases(self.clock, LEASE_MS, SESSION_MS)
        self.leases.open(A, "a", ["work"], ["default"])
        self.leases.open(B, "b", ["work"], ["default"])

    def advance_ms(self, by_ms: int) -> None:
        """Looked at all the time, as a running broker does."""
        while by_ms > 0:
            step = min(by_ms, 50)
            self.clock.advance_ms(step)
            self.leases._look()
            by_ms -= step

    def due(self) -> list[int]:
        return [fence for _id, fence in self.leases.leases_due(100)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_lease_runs_out_after_its_time(rig):
    rig.leases.granted(A, 11, [T1])
    rig.advance_ms(LEASE_MS - 1)
    assert rig.due() == []
    rig.advance_ms(1)
    assert rig.leases.leases_due(100) == [[T1, 11]]


def test_a_heartbeat_renews_what_it_names(rig):
    rig.leases.granted(A, 11, [T1])
    rig.leases.granted(A, 12, [T2])
    rig.advance_ms(2_000)
    assert rig.leases.heartbeat(A, [[T1, 11]]) == ([], [])
    rig.advance_ms(1_000)
    assert rig.due() == [12]
    rig.advance_ms(1_999)
    assert 11 not in rig.due()
    rig.advance_ms(1)
    assert 11 in rig.due()


def test_claims_and_results_renew_no_lease(rig):
    rig.leases.granted(A, 11, [T1])
    rig.advance_ms(2_000)
    assert rig.leases.touch(A)
    rig.advance_ms(1_000)
    assert rig.due() == [11]


def test_a_heartbeat_is_told_what_it_no_longer_holds(rig):
    rig.leases.granted(A, 11, [T1])
    rig.leases.granted(B, 12, [T2])
    rig.leases.released([(T1, 11)])
    cancel, lost = rig.leases.heartbeat(A, [[T1, 11], [T2, 12], [T3, 99], [T1, 12]])
    assert cancel == []
    assert lost == [[T1, 11], [T2, 12], [T3, 99], [T1, 12]]


def test_a_fence_belongs_to_its_task(rig):
    rig.leases.granted(A, 11, [T1])
    assert rig.leases.heartbeat(A, [[T2, 11]])[1] == [[T2, 11]]


def test_the_lease_of_another_is_not_renewed(rig):
    rig.leases.granted(A, 11, [T1])
    rig.advance_ms(2_900)
    rig.leases.heartbeat(B, [[T1, 11]])
    rig.advance_ms(100)
    assert rig.due() == [11]


def test_a_cancel_is_repeated_until_the_lease_is_over(rig):
    rig.leases.granted(A, 11, [T1])
    rig.leases.granted(A, 12, [T2])
    rig.leases.cancelling(12, 500)
    assert rig.leases.heartbeat(A, [[T1, 11], [T2, 12]])[0] == [[T2, 12, 500]]
    assert rig.leases.heartbeat(A, [])[0] == [[T2, 12, 500]], "it may not have heard it"
    rig.leases.released([(T2, 12)])
    assert rig.leases.heartbeat(A, [[T1, 11]])[0] == []
    rig.leases.cancelling(12, 500)  # a late one: nothing


def test_an_end_that_was_proposed_is_named_again_only_after_a_while(rig):
    rig.leases.granted(A, 11, [T1])
    rig.advance_ms(LEASE_MS)
    assert rig.due() == [11]
    rig.advance_ms(PROPOSE_AGAIN_MS - 50)
    assert rig.due() == []
    rig.advance_ms(50)
    assert rig.due() == [11]
    rig.leases.released([(T1, 11)])
    rig.advance_ms(PROPOSE_AGAIN_MS)
    assert rig.due() == []


def test_due_leases_come_in_slices(rig):
    rig.leases.granted(A, 0, [T1] * 10)
    rig.advance_ms(LEASE_MS)
    assert [fence for _, fence in rig.leases.leases_due(4)] == [0, 1, 2, 3]
    assert [fence for _, fence in rig.leases.leases_due(4)] == [4, 5, 6, 7]
    assert [fence for _, fence in rig.leases.leases_due(4)] == [8, 9]


def test_a_session_ends_without_a_sign_of_life(rig):
    rig.advance_ms(2_000)
    rig.leases.heartbeat(A, [])
    assert rig.leases.touch(B)
    rig.advance_ms(2_000)
    assert rig.leases.sessions_due(10) == [A], "a heartbeat's touch is the dispatcher's"
    rig.advance_ms(2_000)
    assert rig.leases.sessions_due(10) == [A, B]


def test_sessions_are_named_one_by_one(rig):
    rig.advance_ms(SESSION_MS)
    assert rig.leases.sessions_due(1) == [A]
    assert rig.leases.sessions_due(1) == [B]
    assert rig.leases.sessions_due(1) == []


def test_an_unknown_session_cannot_be_touched(rig):
    rig.leases.close(A)
    assert not rig.leases.touch(A)
    assert rig.leases.heartbeat(A, [[T1, 11]]) == ([], [[T1, 11]])


def test_opened_again_it_lives_on(rig):
    rig.advance_ms(2_000)
    rig.leases.open(A, "a", ["work"], ["default"])
    rig.advance_ms(2_000)
    assert rig.leases.sessions_due(10) == [B]


def test_a_stopped_broker_does_not_find_all_leases_expired(rig):
    rig.leases.granted(A, 11, [T1])
    rig.advance_ms(500)
    rig.clock.advance_ms(3_600_000)
    assert rig.due() == []
    assert rig.leases.sessions_due(10) == []
    rig.advance_ms(LEASE_MS - 500 - LOOK_GAP_MS_MAX - 1)
    assert rig.due() == []
    rig.advance_ms(1)
    assert rig.due() == [11]


def test_what_a_handler_said_goes_with_its_lease(rig):
    rig.leases.open(b"s" * 16, "w", ["t"], ["q"])
    rig.leases.granted(b"s" * 16, 7, [b"t" * 16])
    rig.leases.progress(b"s" * 16, [[b"t" * 16, 7, 1, 2, "note"], [b"u" * 16, 8, 1, 2, None]])
    said = rig.leases.progress_of(7)
    assert said == {"done": 1, "total": 2, "note": "note", "at_ms": rig.clock.wall_ms()}
    assert rig.leases.progress_of(8) is None
    rig.leases.released([(b"t" * 16, 7)])
    assert rig.leases.progress_of(7) is None


def test_a_new_leader_begins_with_nothing(rig):
    rig.leases.granted(A, 11, [T1])
    rig.leases.clear()
    rig.advance_ms(10_000)
    assert rig.due() == []
    assert rig.leases.sessions_due(10) == []
    assert len(rig.leases) == 0


@pytest.mark.parametrize("seed", range(10))
def test_against_a_plain_table(seed):
    """The ordered dict is the queue: after any mix of grants, renewals and releases, what is due is what a table says."""
    random = SeededRandom(seed)
    rig = Rig()
    table: dict[int, int] = {}
    now_ms = 0
    for step in range(300):
        match random.below(4):
            case 0:
                rig.leases.granted(A, step, [T1])
                table[step] = now_ms + LEASE_MS
            case 1 if table:
                fence = sorted(table)[random.below(len(table))]
                if table[fence] > now_ms:
                    rig.leases.heartbeat(A, [[T1, fence]])
                    table[fence] = now_ms + LEASE_MS
            case 2 if table:
                fence = sorted(table)[random.below(len(table))]
                rig.leases.released([(T1, fence)])
                del table[fence]
            case _:
                by_ms = 50 * random.below(20)
                rig.advance_ms(by_ms)
                now_ms += by_ms
        due = sorted(rig.due())
        assert due == sorted(fence for fence, at in table.items() if at <= now_ms), f"seed {seed}"
        rig.leases.released([(T1, fence) for fence in due])
        for fence in due:
            del table[fence]
