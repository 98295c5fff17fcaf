"""CBOR as tq speaks it: definite lengths, no tags, no NaN, no duplicate keys, nothing behind the end.

``loads`` accepts None, booleans, integers of 64 bits, finite floats, text, bytes, arrays and maps with
text or integer keys, to a bounded depth, and raises ``ValueError`` for anything else. ``dumps`` is the
plain encoder of the library; what it writes from those types, ``loads`` reads back.

Rejected: the library's defaults, which skip trailing bytes, take duplicate keys and build regular
expressions, big integers and shared references from tags.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import cbor2

from tq.limits import CBOR_DEPTH_MAX

dumps = cbor2.dumps


def _refuse(*_args: Any) -> NoReturn:
    raise ValueError("tags are not used")


_TAGS_BUILT_IN = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 43000, 52, 54, 100, 256, 258, 260, 261, 1004, 55799)
_REFUSED = dict.fromkeys(_TAGS_BUILT_IN, _refuse)


def loads(data: bytes) -> Any:
    """Decode exactly one value that fills ``data``. Raises ValueError, whatever the bytes are."""
    raise AssertionError("the protocol package writes this")
