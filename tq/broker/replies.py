"""The one answer of a request that cannot be answered at once: it comes from the log, or from what was waited for.

Until its handler returns, ``Dispatch.request`` turns a TqError into the answer. What is called later does it here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tq.broker.connection import Connection
from tq.errors import TqError
from tq.protocol.messages import Message

Reply = Callable[[Any, int], Message]
"""Makes the reply out of what was decided, and the index of its entry."""


class Decided(Protocol):
    """Call once: with what was decided, or the TqError because of which nothing was; and the index, if the log did it."""

    def __call__(self, answer: object, index: int = 0) -> None: ...


def replying(connection: Connection, rid: int, reply: Reply) -> Decided:
    def decided(answer: object, index: int = 0) -> None:
        if isinstance(answer, TqError):
            connection.send_error(rid, answer)
        else:
            connection.send(reply(answer, index))

    return decided


def attempt(connection: Connection, rid: int, go_on: Callable[[], object]) -> None:
    """``go_on`` answers; if it cannot, its error is the answer."""
    try:
        go_on()
    except TqError as error:
        connection.send_error(rid, error)
