from __future__ import annotations

from tq.broker.histogram import BOUNDS_S, Histogram


def test_a_bound_counts_what_is_at_most_that() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.0005, 0.0006, 30.0, 31.0):
        histogram.observe(seconds)
    found = histogram.as_dict()
    assert [bound for bound, _ in found["buckets"]] == [*BOUNDS_S, None]
    counts = dict(found["buckets"])
    assert (counts[0.0005], counts[0.001], counts[10.0], counts[30.0], counts[None]) == (2, 3, 3, 4, 5)
    assert (found["count"], found["sum"]) == (5, 0.0005 + 0.0006 + 30.0 + 31.0)


def test_nothing_yet() -> None:
    found = Histogram().as_dict()
    assert {count for _, count in found["buckets"]} == {0}
    assert (found["count"], found["sum"]) == (0, 0)
