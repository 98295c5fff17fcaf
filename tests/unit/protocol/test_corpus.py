"""Kept hostile input: each file is fed to an open connection, whole and byte by byte, and says what must come of it.

A file is: ``# why it is here``, ``side: broker | client`` (who reads it), ``expect: PROTOCOL``, or the code of a
refusal and the request id it is answered under; then the bytes in hexadecimal. New findings are added, never changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tq.errors import ProtocolError
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, BrokerConnection, ClientConnection, ConnectionClosed, Refused

from .test_connection import Pair

FILES = sorted((Path(__file__).parent / "corpus").glob("*.txt"))


def outcome(end: BrokerConnection | ClientConnection, pieces: list[bytes]) -> str:
    """What the first answer to the bytes is that is not a message."""
    for piece in pieces:
        end.receive_data(piece)
        while True:
            try:
                event = end.next_event()
            except ProtocolError as error:
                return error.code
            if isinstance(event, Refused):
                return f"{event.error.code} {'null' if event.rid is None else event.rid}"
            if event is NEED_DATA or isinstance(event, ConnectionClosed):
                break
    return "nothing"


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
@pytest.mark.parametrize("how", ["whole", "byte by byte"])
def test_hostile(file: Path, how: str) -> None:
    why, side, expect, *lines = file.read_text().splitlines()
    assert why.startswith("# ")
    data = bytes.fromhex("".join(lines))
    pair = Pair()
    if side == "side: client":
        pair.client.send(m.Ping(1))
    end = {"side: broker": pair.broker, "side: client": pair.client}[side]
    pieces = [data] if how == "whole" else [bytes((byte,)) for byte in data]
    assert f"expect: {outcome(end, pieces)}" == expect


def test_the_corpus_is_here() -> None:
    assert len(FILES) >= 60
