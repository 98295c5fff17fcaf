from __future__ import annotations

import pytest

from tq.bench.measure import Line, rank, shown, spread


def test_percentiles_are_values_that_were_measured() -> None:
    times = [number / 1000 for number in range(1, 101)]
    measured = spread(times[::-1])
    assert (measured.count, measured.p50_ms, measured.p99_ms, measured.max_ms) == (100, 50, 99, 100)
    assert spread([0.5]).p99_ms == 500
    assert rank([1, 2], 0.5) == 1
    assert rank([1, 2], 0.51) == 2


def test_nothing_measured_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="nothing"):
        spread([])


@pytest.mark.parametrize(
    ("value", "text"),
    [(43_287, "43,300"), (1_000, "1,000"), (999, "999"), (62.13, "62.1"), (0.333, "0.33"), (329_900, "330,000")],
)
def test_shown(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_budget_is_kept_on_its_side() -> None:
    assert Line("S", "w", 10, "/s", 10, "higher").kept is True
    assert Line("S", "w", 9, "/s", 10, "higher").kept is False
    assert Line("S", "w", 9, "ms", 10, "lower").kept is True
    assert Line("S", "w", 11, "ms", 10, "lower").kept is False
    assert Line("S", "w", 11, "ms", None, "lower").kept is None
