"""How much a request may hold, and what it weighs in the log. Judged before it gets there: the machine would be too late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tq import limits
from tq.errors import InvalidRequest, PayloadTooLarge

ITEM_BYTES: Final = 40
"""Of an item in a command, beside its texts and data; roughly."""


def bounded(field: str, value: int, low: int, high: int) -> None:
    """Raises InvalidRequest."""
    if not low <= value <= high:
        raise InvalidRequest.of(field, value, f"must be between {low} and {high}")


def bounded_bytes(field: str, size: int, what: str) -> None:
    """``what`` all together may weigh in one request. Raises PayloadTooLarge."""
    if size > limits.BATCH_BYTES_MAX:
        raise PayloadTooLarge(
            f"{what} in one request have {size} bytes: at most {limits.BATCH_BYTES_MAX} go into one; send fewer at once",
            detail={"field": field, "value": size, "bound": limits.BATCH_BYTES_MAX},
        )


def text_bytes(texts: Iterable[str]) -> int:
    """What they weigh in a command, at most."""
    return sum([len(text.encode()) + 2 for text in texts])
