"""What a list must show, by the events of the log: a right page passes, one that differs in one task is caught."""

from __future__ import annotations

from typing import Any

import pytest

from tq.machine.answers import EventKind
from tq.sim.listed import Listed

A, B, C, D = (bytes(15) + bytes((n,)) for n in (1, 2, 3, 4))


@pytest.fixture
def listed() -> Listed:
    """A is pending from 1 on, B runs from 2 and has completed at 5, C is scheduled, D was purged at 6."""
    listed = Listed()
    for index, kind, id, queue in (
        (1, EventKind.CREATED, A, "left"),
        (1, EventKind.CREATED, B, "left"),
        (2, EventKind.STARTED, B, "left"),
        (3, EventKind.CREATED, C, "right"),
        (3, EventKind.SCHEDULED, C, "right"),
        (4, EventKind.CREATED, D, "right"),
        (4, EventKind.CANCELLED, D, "right"),
        (5, EventKind.COMPLETED, B, "left"),
        (5, EventKind.STALE_REFUSED, B, "left"),
        (6, EventKind.PURGED, D, "right"),
    ):
        listed.saw(index, kind, id, queue, "t")
    return listed


@pytest.mark.parametrize(
    ("index", "fields", "limit", "after", "ids", "oldest_first", "is_all"),
    [
        (0, {}, 5, None, [], False, True),
        (2, {}, 5, None, [B, A], False, True),
        (4, {}, 5, None, [D, C, B, A], False, True),
        (4, {}, 2, None, [A, B], True, False),
        (4, {}, 2, B, [C, D], True, True),
        (4, {}, 2, C, [B, A], False, False),
        (6, {}, 5, None, [C, B, A], False, True),
        (4, {"state": "live"}, 5, None, [C, B, A], False, True),
        (4, {"state": ["running", "pending"], "queue": "left", "type": "t"}, 5, None, [B, A], False, True),
        (4, {"queue": "nowhere"}, 5, None, [], False, True),
        (4, {"id_prefix": A.hex()}, 5, None, [A], False, True),
        (5, {"state": "ended"}, 5, None, [B, D], False, True),
        (5, {"state": "ended"}, 1, None, [D], True, False),
    ],
)
def test_right_pages(
    listed: Listed,
    index: int,
    fields: dict[str, Any],
    limit: int,
    after: bytes | None,
    ids: list[bytes],
    oldest_first: bool,
    is_all: bool,
) -> None:
    listed.check(index, fields, limit, after, ids, oldest_first=oldest_first, is_all=is_all)


@pytest.mark.parametrize(
    ("index", "fields", "limit", "after", "ids", "oldest_first", "is_all"),
    [
        (2, {}, 5, None, [A, B], False, True),  # the order
        (2, {}, 5, None, [A], True, True),  # one is missing at the end
        (4, {}, 2, None, [A, C], True, False),  # and in the middle
        (4, {}, 2, B, [B, C], True, False),  # one comes again
        (4, {}, 3, None, [A, B], True, False),  # short, and yet it goes on
        (6, {}, 5, None, [D, C, B, A], False, True),  # one that is purged
        (4, {"state": "pending"}, 5, None, [B, A], False, True),  # one in another state
        (5, {"state": "ended"}, 5, None, [B, B, D], False, True),
        (5, {"state": "ended"}, 5, None, [B], False, True),
        (5, {"state": "ended"}, 5, None, [A, B, D], False, True),
    ],
)
def test_wrong_pages(
    listed: Listed,
    index: int,
    fields: dict[str, Any],
    limit: int,
    after: bytes | None,
    ids: list[bytes],
    oldest_first: bool,
    is_all: bool,
) -> None:
    with pytest.raises(AssertionError, match="a list of"):
        listed.check(index, fields, limit, after, ids, oldest_first=oldest_first, is_all=is_all)
