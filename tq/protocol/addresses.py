"""Where the brokers are, and which to try next: shared by client and worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tq import limits
from tq.errors import InvalidRequest

Address = tuple[str, int]

BACKOFF_MS_MIN: Final = 50
BACKOFF_MS_MAX: Final = 2_000


def parse(brokers: str | Iterable[str]) -> list[Address]:
    """``"host:port,host:port"`` or a list of such; the port may be left off. Raises InvalidRequest."""
    texts = brokers.split(",") if isinstance(brokers, str) else list(brokers)
    found = [parse_one(text.strip()) for text in texts if text.strip()]
    if not found:
        raise InvalidRequest.of("brokers", brokers, f'give at least one address, as "127.0.0.1:{limits.PORT_CLIENT}"')
    return list(dict.fromkeys(found))


def parse_one(text: str) -> Address:
    """``host:port``, ``host``, ``[v6]:port`` or ``[v6]``. Raises InvalidRequest."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(limits.PORT_CLIENT)
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise InvalidRequest.of("brokers", text, f'write "host:port", for example "127.0.0.1:{limits.PORT_CLIENT}"')
    return host.strip("[]"), int(port)


def show(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Addresses:
    """Round robin over the given addresses; a hint is tried once, first, even if nobody gave it."""

    def __init__(self, known: list[Address]) -> None:
        self._known = known
        self._next = 0
        self._hint: Address | None = None

    def __len__(self) -> int:
        return len(self._known)

    def __str__(self) -> str:
        return ", ".join(map(show, self._known))

    def take(self) -> Address:
        """The address to try now."""
        if self._hint is not None:
            hint, self._hint = self._hint, None
            return hint
        address = self._known[self._next]
        self._next = (self._next + 1) % len(self._known)
        return address

    def prefer(self, text: str | None) -> None:
        """A broker named its leader, or None. A hint that is no address is the broker's slip and is passed over."""
        if text is None:
            return
        try:
            self._hint = parse_one(text)
        except InvalidRequest:
            self._hint = None


def backoff_ms(failures: int, draw: int) -> int:
    """Wait before the next connection after ``failures`` (at least 1) in a row: doubled each time, half of it chance.

    draw: a whole number of chance, at least 0.
    """
    full_ms = min(BACKOFF_MS_MIN << min(failures - 1, 10), BACKOFF_MS_MAX)
    return full_ms // 2 + draw % (full_ms // 2 + 1)
