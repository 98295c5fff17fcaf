"""A small HTTP listener of its own: ``/metrics``, ``/health/live``, ``/health/ready``.

Apart from the clients' port, so that a full broker can still be looked at. live: the loop turns. ready: this node
knows a leader and serves.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import h11
import trio

from tq import limits
from tq.broker.listen import NO_DESCRIPTORS, NO_DESCRIPTORS_PAUSE_S

REQUEST_TIMEOUT_S = 5
CONNECTIONS_MAX = 32
READ_BYTES = 16 * limits.KIB

Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Routes = dict[str, Callable[[], Answer]]
"""Path to what answers it."""


async def serve_health(listener: socket.socket, routes: Routes) -> None:
    """Answer GET and HEAD requests until cancelled; one request a connection."""
    room = trio.CapacityLimiter(CONNECTIONS_MAX)
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                await trio.sleep(NO_DESCRIPTORS_PAUSE_S)  # a full broker is looked at later, not ended
                continue
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            nursery.start_soon(_serve_one, stream, routes, room)


async def _serve_one(stream: trio.SocketStream, routes: Routes, room: trio.CapacityLimiter) -> None:
    async with stream:
        with trio.move_on_after(REQUEST_TIMEOUT_S):
            async with room:
                try:
                    await _exchange(stream, routes)
                except (trio.BrokenResourceError, h11.RemoteProtocolError):
                    return  # a peer that went away or does not speak HTTP is owed nothing


async def _exchange(stream: trio.SocketStream, routes: Routes) -> None:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=READ_BYTES)
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(READ_BYTES))
        elif isinstance(event, h11.Request):
            break
        else:
            return
    status, content_type, body = _answer(event, routes)
    headers = [
        ("content-type", content_type),
        ("content-length", str(len(body))),
        ("connection", "close"),
        ("cache-control", "no-store"),
    ]
    parts = [http.send(h11.Response(status_code=status, headers=headers))]
    if event.method != b"HEAD":
        parts.append(http.send(h11.Data(data=body)))
    parts.append(http.send(h11.EndOfMessage()))
    await stream.send_all(b"".join(part for part in parts if part))


def _answer(request: h11.Request, routes: Routes) -> Answer:
    if request.method not in (b"GET", b"HEAD"):
        return json_answer(405, {"error": "only GET and HEAD"})
    path = request.target.decode("latin-1").partition("?")[0]
    route = routes.get(path)
    if route is None:
        return json_answer(404, {"error": f"no such page; there are {', '.join(sorted(routes))}"})
    return route()


def json_answer(status: int, value: Any) -> Answer:
    return status, "application/json", json.dumps(value).encode() + b"\n"
