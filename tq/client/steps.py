"""What a verb asks of the shell that runs it.

A *verb* is a generator: no thread, no socket, no waiting in it. It yields steps and is sent their results; a shell
performs them, with threads or by ``await`` (``running.py``). The error of a call is raised at its
step. A verb that is not run to its end is closed, and its calls are given up by the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import attrs

from tq.client.core import Call, Make, Subscription
from tq.errors import ProtocolError
from tq.protocol import messages as m

T = TypeVar("T")
R = TypeVar("R", bound=m.Message)


@attrs.frozen
class Ask:
    """Send a request, come back with its reply."""

    make: Make
    deadline_ms: int | None


@attrs.frozen
class Begin:
    """Send a request, come back at once with the call, so that several are under way."""

    make: Make
    deadline_ms: int | None


@attrs.frozen
class Await:
    """Come back with the reply of a call that was begun."""

    call: Call


@attrs.frozen
class Listen:
    """Begin a subscription, come back when the broker said yes. If that fails it is ended."""

    subscription: Subscription
    deadline_ms: int


@attrs.frozen
class Pause:
    """Let time pass."""

    wait_ms: int


Step = Ask | Begin | Await | Listen | Pause
Verb = Generator[Step, Any, T]


def bind(value: T, make: Callable[[int, T], m.Message]) -> Make:
    """A request of this turn of a loop; a bare lambda would see the value of the last one."""
    return lambda rid: make(rid, value)


def expect(reply: Any, kind: type[R]) -> R:
    if not isinstance(reply, kind):
        raise ProtocolError(f"the broker answered {type(reply).__name__} where {kind.__name__} was due")
    return reply
