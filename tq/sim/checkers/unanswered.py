"""No request without an answer: what a broker has read and could write, it answers in bounded time."""

from __future__ import annotations

from collections.abc import Iterable

from tq import limits
from tq.protocol import messages as m
from tq.sim.checkers.breach import Breach
from tq.sim.client import SimClient

PATIENCE_MS = 12_000
"""For a peer to be given up (PEER_SILENCE_MS), and a leader elected, twice over."""


def patience_ms(message: m.Message) -> int:
    """How long the answer may take while the broker that was asked runs."""
    wait_ms: int = getattr(message, "wait_ms", 0)
    if getattr(message, "min_index", 0) or getattr(message, "linearizable", False):
        wait_ms += limits.CLAIM_WAIT_MS_MAX  # what a read waits for its index
    return PATIENCE_MS + wait_ms


def check_answered(clients: Iterable[SimClient], running_ms: int) -> None:
    """``running_ms``: how long the broker has run, pauses left out."""
    for client in clients:
        socket = client.socket
        if not client.asked or not client.reads or socket.to_broker or socket.to_peer or client.connection.out_bytes:
            continue  # nothing is owed, or it has not come to that
        for rid, message in client.asked.items():
            asked_ms = client.asked_ms.setdefault(rid, running_ms)
            if running_ms - asked_ms > patience_ms(message):
                raise Breach(f"{client.node} has not answered in {running_ms - asked_ms} ms: {message!r:.300}")
