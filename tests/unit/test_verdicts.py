"""What handlers raise on purpose."""

from __future__ import annotations

import math

import pytest

from tq.verdicts import Fatal, RetryAfter, Snooze, Stopped, Verdict


def test_waits_are_kept_and_told() -> None:
    assert RetryAfter(1.5).seconds == 1.5
    assert str(RetryAfter(1.5)) == "asked to be tried again after 1.5 s"
    assert str(RetryAfter(2, "the mail server is away")) == "the mail server is away"
    assert Snooze(0).seconds == 0
    assert str(Fatal("no such address")) == "no such address"


@pytest.mark.parametrize("seconds", [-1, math.inf, -math.inf, math.nan, "5", None])
@pytest.mark.parametrize("verdict", [RetryAfter, Snooze])
def test_a_wait_that_is_none_is_refused(verdict: type[RetryAfter | Snooze], seconds: object) -> None:
    with pytest.raises(ValueError, match="seconds must be a finite number, 0 or more") as caught:
        verdict(seconds)  # type: ignore[arg-type]
    assert verdict.__name__ in str(caught.value)


def test_except_exception_catches_verdicts_and_lets_stopped_pass() -> None:
    assert all(issubclass(verdict, Verdict) for verdict in (RetryAfter, Snooze, Fatal))
    assert issubclass(Verdict, Exception)
    assert not issubclass(Stopped, Exception)
