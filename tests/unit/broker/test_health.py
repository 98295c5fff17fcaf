from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tq.broker import health, listen

from .test_listen import free_port

ROUTES: health.Routes = {
    "/health/live": lambda: health.json_answer(200, {"live": True}),
    "/health/ready": lambda: health.json_answer(503, {"ready": False}),
    "/metrics": lambda: (200, "text/plain; version=0.0.4", b"tq_up 1\n"),
}


@asynccontextmanager
async def serving(listener: Any = None) -> AsyncIterator[int]:
    port = free_port()
    with listen.open_listener("node.metrics_listen", f"127.0.0.1:{port}") as real:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.serve_health, listener(real) if listener else real, ROUTES)
            yield port
            nursery.cancel_scope.cancel()


async def exchange(port: int, request: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request)
        answer = b""
        with trio.fail_after(30):
            try:
                while data := await stream.receive_some(65_536):
                    answer += data
            except trio.BrokenResourceError:
                pass
        return answer


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/health/live", 200, {"live": True}),
        ("/health/ready", 503, {"ready": False}),
        ("/health/live?verbose=1", 200, {"live": True}),
    ],
)
async def test_pages(path, status, body):
    async with serving() as port:
        answer = await exchange(port, get(path))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in head.lower()
    assert f"content-length: {len(content)}".encode() in head.lower()
    assert json.loads(content) == body


async def test_metrics_are_text():
    async with serving() as port:
        answer = await exchange(port, get("/metrics"))
    assert b"text/plain; version=0.0.4" in answer
    assert answer.endswith(b"\r\n\r\ntq_up 1\n")


async def test_head_has_no_body():
    async with serving() as port:
        answer = await exchange(port, get("/metrics", "HEAD"))
    assert b"content-length: 8" in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


async def test_other_pages_and_methods():
    async with serving() as port:
        missing = await exchange(port, get("/nothing"))
        posted = await exchange(port, get("/metrics", "POST"))
    assert missing.startswith(b"HTTP/1.1 404")
    assert b"/health/live" in missing, "it says what there is"
    assert posted.startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01\x02\xff" * 10, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 40_000, b"GET /" + b"x" * 40_000],
)
async def test_strangers_harm_nobody(data):
    async with serving() as port:
        await exchange(port, data)
        assert (await exchange(port, get("/health/live"))).startswith(b"HTTP/1.1 200")


async def test_who_says_nothing_is_closed(autojump_clock):
    async with serving() as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        began = trio.current_time()
        async with stream:
            await stream.send_all(b"GET / HT")
            assert await stream.receive_some(100) == b""
        assert trio.current_time() - began == pytest.approx(health.REQUEST_TIMEOUT_S, abs=1)


async def test_who_leaves_before_the_answer_harms_nobody():
    async with serving() as port:
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(get("/metrics"))
            await stream.aclose()
        assert (await exchange(port, get("/health/live"))).startswith(b"HTTP/1.1 200")


async def test_many_at_once(autojump_clock):
    """The silent ones fill the room; the others get their turn when those are closed."""
    async with serving() as port:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(health.CONNECTIONS_MAX)]
        await trio.sleep(0.1)
        for stream in silent:
            stream.socket.close()
        assert (await exchange(port, get("/health/live"))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED])
async def test_without_descriptors_the_broker_lives(number, autojump_clock):
    class Poor:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.refusals = 0

        def fileno(self) -> int:
            return int(self.inner.fileno())

        def accept(self) -> Any:
            if self.refusals < 3:
                self.refusals += 1
                raise OSError(number, "no")
            return self.inner.accept()

    async with serving(Poor) as port:
        assert (await exchange(port, get("/health/live"))).startswith(b"HTTP/1.1 200")
