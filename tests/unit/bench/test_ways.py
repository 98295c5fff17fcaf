from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tq.bench.ways import Ways


class Echo:
    """Answers each connection with what it sends, and counts them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.listener.close()


@pytest.fixture
def ways() -> Iterator[Ways]:
    with Ways() as ways:
        yield ways


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 10)


def ask(connection: socket.socket, data: bytes = b"ping") -> bytes:
    connection.sendall(data)
    return hear(connection, len(data))


def hear(connection: socket.socket, count: int) -> bytes:
    heard = b""
    while len(heard) < count and (more := connection.recv(1 << 16)):
        heard += more
    return heard


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_carries_bytes_of_any_number(ways: Ways, echo: Echo) -> None:
    with dial(ways.add("a", "b", echo.address)) as connection:
        many = bytes(range(256)) * 8_000
        threading.Thread(target=connection.sendall, args=(many,)).start()
        assert hear(connection, len(many)) == many


def test_the_end_of_either_side_ends_both(ways: Ways, echo: Echo) -> None:
    connection = dial(ways.add("a", "b", echo.address))
    assert ask(connection) == b"ping"
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""
    connection.close()


def test_a_cut_way_holds_back_what_is_there_and_what_comes_until_it_is_healed(ways: Ways, echo: Echo) -> None:
    address = ways.add("a", "b", echo.address)
    with dial(address) as old:
        assert ask(old) == b"ping"
        ways.cut("a", "b")
        old.sendall(b"late")
        with dial(address) as new:
            new.sendall(b"new")
            assert is_silent(old)
            assert is_silent(new)
            assert echo.connections == 1
            ways.heal("a", "b")
            assert (hear(old, 4), hear(new, 3)) == (b"late", b"new")


def test_a_broken_way_loses_its_connections_and_takes_new_ones(ways: Ways, echo: Echo) -> None:
    address = ways.add("a", "b", echo.address)
    with dial(address) as old:
        assert ask(old) == b"ping"
        ways.break_("a", "b")
        with contextlib.suppress(ConnectionResetError):
            assert old.recv(1) == b""
    with dial(address) as new:
        assert ask(new) == b"ping"


def test_a_slow_way_is_late_and_loses_nothing(ways: Ways, echo: Echo) -> None:
    with dial(ways.add("a", "b", echo.address)) as connection:
        ways.slow("a", "b", 0.05)
        begun = time.monotonic()
        assert ask(connection) == b"ping"
        assert time.monotonic() - begun >= 0.1  # there and back


def test_a_node_is_isolated_one_way_or_both(ways: Ways, echo: Echo) -> None:
    pairs = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")]
    with contextlib.ExitStack() as stack:
        connections = {pair: stack.enter_context(dial(ways.add(*pair, echo.address))) for pair in pairs}

        def check(silent: int) -> None:
            """The first so many are silent, the others answer, however late."""
            for connection in connections.values():
                connection.sendall(b"x")
            assert all(hear(connections[pair], 1) == b"x" for pair in pairs[silent:])
            assert all(is_silent(connections[pair]) for pair in pairs[:silent])

        check(0)
        ways.isolate("a", into=False)
        check(1)
        ways.isolate("a")
        check(2)
        ways.rejoin("a")
        assert [hear(connections[pair], 2 - number) for number, pair in enumerate(pairs[:2])] == [b"xx", b"x"]


def test_nobody_there_ends_the_connection(ways: Ways) -> None:
    with dial(ways.add("a", "b", "127.0.0.1:1")) as connection:
        assert connection.recv(1) == b""
