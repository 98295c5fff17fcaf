"""On real sockets, on loopback."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
import trio.testing
import trustme

from tq.raft.transport.stream import PeerStream, accepted, connect

LARGE = bytes(range(256)) * 120_000  # more than any kernel buffers


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server and of the client."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def joined(is_tls: bool) -> AsyncIterator[tuple[PeerStream, PeerStream]]:
    server_tls, client_tls = tls_contexts() if is_tls else (None, None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = await connect(listener.getsockname(), client_tls)
        sock, _address = listener.accept()
        far = accepted(sock, server_tls)
        async with aclosing(near), aclosing(far):
            yield near, far


async def received(stream: PeerStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = await stream.receive_some()
        assert part, "the stream ended"
        data += part
    return bytes(data)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
async def test_all_arrives_in_order(is_tls: bool) -> None:
    async with joined(is_tls) as (near, far), trio.open_nursery() as nursery:
        sent = near.send_now(LARGE)
        nursery.start_soon(near.send_all, LARGE[sent:])
        with trio.fail_after(60):
            assert await received(far, len(LARGE)) == LARGE


async def test_the_kernel_takes_something_at_once_and_never_blocks() -> None:
    async with joined(False) as (near, _far):
        assert near.send_now(b"entry") == 5
        sent = 0
        while taken := near.send_now(LARGE):
            sent += taken
        assert sent > 0
        assert near.send_now(b"more") == 0


async def test_over_tls_nothing_leaves_at_once() -> None:
    async with joined(True) as (near, _far):
        assert near.send_now(b"entry") == 0


async def test_the_end_of_the_other_side() -> None:
    async with joined(False) as (near, far):
        await far.aclose()
        with trio.fail_after(10):
            assert await near.receive_some() == b""


async def test_closing_ends_who_waits() -> None:
    async with joined(False) as (near, _far), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await near.receive_some()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await near.aclose()
        await near.aclose()


async def test_two_may_not_send_at_once() -> None:
    async with joined(False) as (near, _far), trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, LARGE)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await near.send_all(b"in between")
        nursery.cancel_scope.cancel()


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        await connect(address, None)


async def test_a_cancelled_connect_leaves_no_socket() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await connect(("127.0.0.1", 9), None)
    assert scope.cancelled_caught  # a ResourceWarning would be an error
