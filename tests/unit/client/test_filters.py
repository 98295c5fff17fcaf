"""The words of a filter, and the map that goes over the wire."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tq.client.filters import filter_of
from tq.errors import InvalidRequest
from tq.sim.clock import VirtualClock


class OutOfStock(Exception):
    pass


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"state": None, "queue": None, "older_than": None, "error": None}, {}),
        (
            {"state": "dead", "type": "t", "queue": "q", "tag": "g"},
            {"state": "dead", "type": "t", "queue": "q", "tag": "g"},
        ),
        ({"state": ("dead", "expired")}, {"state": ["dead", "expired"]}),
        ({"id_prefix": "0198f3c2-a1"}, {"id_prefix": "0198f3c2-a1"}),
        ({"worker": "host-1-ab"}, {"worker": "host-1-ab"}),
        ({"worker": b"\xaa" * 16}, {"worker": "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"}),
        ({"error": "OutOfStock"}, {"error": "OutOfStock"}),
        ({"error": ValueError}, {"error": "ValueError"}),
        ({"error": OutOfStock}, {"error": f"{__name__}.OutOfStock"}),
        ({"created_since": 1.5, "created_until": 2}, {"created_since_ms": 1_500, "created_before_ms": 2_000}),
        ({"ended_since": 0, "ended_until": 3}, {"ended_since_ms": 0, "ended_before_ms": 3_000}),
        (
            {"created_since": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)},
            {"created_since_ms": 1_767_312_000_000},
        ),
        ({"older_than": 60}, {"ended_before_ms": 940_000}),
        ({"older_than": 60, "ended_until": 900}, {"ended_before_ms": 900_000}),
        ({"older_than": 60, "ended_until": 990}, {"ended_before_ms": 940_000}),
    ],
)
def test_words_become_a_map(given: Any, wanted: dict[str, Any]) -> None:
    assert filter_of(VirtualClock(wall_ms=1_000_000), given) == wanted


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"colour": "red"}, "filter"),
        ({"created_since": datetime.datetime(2026, 1, 2)}, "created_since"),
        ({"ended_until": "yesterday"}, "ended_until"),
        ({"older_than": float("nan")}, "older_than"),
    ],
)
def test_what_is_no_filter_is_named(given: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        filter_of(VirtualClock(wall_ms=1_000_000), given)
    assert error.value.detail["field"] == field
