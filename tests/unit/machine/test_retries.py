"""Waits between attempts: exact, capped, and spread by the draw in the command alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from machine.driver import Driver, id_of
from tq import limits
from tq.machine import commands as c
from tq.machine.retries import backoff_ms, jittered_ms, mixed
from tq.spec import Retry


def test_the_default_doubles_from_5_s_to_an_hour() -> None:
    waits = [backoff_ms(Retry(), attempt) for attempt in range(1, 13)]
    assert waits == [5_000 * 2**n for n in range(10)] + [3_600_000] * 2


def test_a_fractional_factor_is_exact() -> None:
    assert [backoff_ms(Retry(9, 1_000, 1_100, 10_000, 0), n) for n in (1, 2, 3, 4)] == [1_000, 1_100, 1_210, 1_331]
    assert [backoff_ms(Retry(9, 3, 1_500, 10_000, 0), n) for n in (1, 2, 3, 4)] == [3, 4, 6, 10]


def test_a_factor_of_one_and_a_base_of_nothing_stay() -> None:
    assert backoff_ms(Retry(9, 700, 1_000, 10_000, 0), 10_000) == 700
    assert backoff_ms(Retry(9, 0, 9_000, 10_000, 0), 10_000) == 0


@given(
    st.integers(0, limits.DURATION_MS_MAX),
    st.integers(1_000, limits.BACKOFF_FACTOR_MILLI_MAX),
    st.integers(0, limits.DURATION_MS_MAX),
    st.integers(1, 200),
)
def test_waits_rise_and_never_pass_the_cap(base: int, factor: int, cap: int, attempt: int) -> None:
    retry = Retry(10_000, base, factor, cap, 0)
    assert backoff_ms(retry, attempt) <= backoff_ms(retry, attempt + 1) <= cap


@given(
    st.integers(0, limits.DURATION_MS_MAX), st.integers(0, 1_000), st.integers(0, (1 << 32) - 1), st.integers(0, 999)
)
def test_jitter_stays_in_its_bounds(wait: int, jitter: int, draw: int, place: int) -> None:
    spread = wait * jitter // 1000
    assert wait - spread <= jittered_ms(wait, jitter, draw, place) <= wait + spread


def test_a_batch_that_failed_together_does_not_come_back_together() -> None:
    waits = [jittered_ms(5_000, 200, 12_345, place) for place in range(1_000)]
    assert len(set(waits)) > 700
    assert min(waits) < 4_100
    assert max(waits) > 5_900
    assert 4_900 < sum(waits) / len(waits) < 5_100


def test_mixed_values_are_fixed_for_ever() -> None:
    """They stand in stored states of all nodes: another function would make old and new nodes differ."""
    assert [mixed(0, 0), mixed(1, 0), mixed(0, 1)] == [16294208416658607535, 10451216379200822465, 7960286522194355700]


def test_places_of_a_report_have_waits_of_their_own() -> None:
    d = Driver()
    d.open()
    d.submit(1, 2, 3, 4)
    grants = d.claim(4)
    d.do(c.Report(b"s" * 16, [[id, fence, 1, [["E", "", ""], False, None]] for id, fence in grants], 99))
    dues = {d.show(n)["due_ms"] for n in (1, 2, 3, 4)}
    assert len(dues) == 4
    assert all(4_000 <= due - d.now_ms <= 6_000 for due in dues)


def test_retry_rules_of_the_task_are_used() -> None:
    d = Driver()
    d.open()
    d.submit(1, retry=Retry(2, 700, 3_000, 5_000, 0))
    d.fail(*d.claim()[0])
    assert d.show(1)["due_ms"] == d.now_ms + 700
    d.now_ms += 700
    assert d.advance(c.Timer.DUE) == 1
    d.fail(*d.claim()[0])
    assert (d.state(1), d.show(1)["reason"]) == ("dead", "attempts")
    assert id_of(1) == d.show(1)["id"]
