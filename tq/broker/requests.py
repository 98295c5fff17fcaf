"""From bytes that a connection has received to requests that the broker was asked."""

from __future__ import annotations

from typing import Protocol

from tq import limits
from tq.broker.connection import Connection
from tq.protocol.connection import NEED_DATA, ConnectionClosed, Refused
from tq.protocol.messages import Message

READ_PAUSE_BYTES = 8 * limits.MIB
"""With more than this unread, no further requests are read from the peer."""


class Answers(Protocol):
    """What is needed of ``tq.broker.broker.Broker``."""

    def request(self, connection: Connection, message: Message) -> None: ...
    def flush(self) -> None: ...


def read_requests(broker: Answers, connection: Connection) -> bool:
    """Take what the socket has, answer what can be answered. False at the end of the stream."""
    try:
        data = connection.socket.recv(limits.SOCKET_READ_BYTES)
    except BlockingIOError:
        return True
    connection.protocol.receive_data(data)
    return answer_requests(broker, connection)


def answer_requests(broker: Answers, connection: Connection) -> bool:
    """Answer what was read. With more than READ_PAUSE_BYTES unread by the peer it returns, and is to be called again
    when they are written: a few bytes of requests may ask for gigabytes. False at the end of the stream."""
    protocol = connection.protocol
    while True:
        if connection.out_bytes > READ_PAUSE_BYTES:
            broker.flush()
            if connection.is_closed or connection.out_bytes > READ_PAUSE_BYTES:
                return True
        event = protocol.next_event()
        if event is NEED_DATA:
            break
        if isinstance(event, ConnectionClosed):
            broker.flush()  # why it ends, if that was our decision
            return False
        if isinstance(event, Refused):
            connection.send_error(event.rid, event.error)
            continue
        broker.request(connection, event)
    broker.flush()
    return True
