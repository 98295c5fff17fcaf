"""The ways between the nodes of a cluster on one machine, each through a port of its own: here they can be cut.

``up --links`` starts this as a process. The file that it is given names, for each ordered pair of nodes, the port to listen
at and the address to pass the bytes on to, and which nodes are cut off. The file is looked at several times a second. On a
way that is cut nothing moves any more, and nobody is told, as with a cable that was pulled; after it is healed, what waited
goes on.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.spec import ClusterSpec
from tq.bench.processes import free_ports

LOOK_SECONDS = 0.1
READ_BYTES = 1 << 18
BUFFER_BYTES_MAX = 1 << 22


class Links:
    """The file."""

    FILE = "links.json"

    @staticmethod
    def write(cluster: ClusterSpec) -> dict[tuple[str, str], str]:
        """A port for each pair, nothing cut. Returns the ways, for ``spec.write``."""
        pairs = [(one, other) for one in cluster.nodes for other in cluster.nodes if one is not other]
        ways = [
            {"from": one.id, "to": other.id, "listen": f"127.0.0.1:{port}", "target": other.peer_listen}
            for (one, other), port in zip(pairs, free_ports(len(pairs)), strict=True)
        ]
        _store(cluster.folder / Links.FILE, {"cut": [], "ways": ways})
        return {(way["from"], way["to"]): way["listen"] for way in ways}

    @staticmethod
    def forget(cluster: ClusterSpec) -> dict[tuple[str, str], str]:
        (cluster.folder / Links.FILE).unlink(missing_ok=True)
        return {}

    @staticmethod
    def are_used(folder: Path) -> bool:
        return (folder / Links.FILE).exists()

    @staticmethod
    def cut(folder: Path, id: str, is_cut: bool) -> None:
        """All ways from and to the node."""
        path = folder / Links.FILE
        known = json.loads(path.read_text())
        others = [one for one in known["cut"] if one != id]
        _store(path, {**known, "cut": sorted([*others, id] if is_cut else others)})


def _store(path: Path, value: Any) -> None:
    new = path.with_suffix(".new")
    new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.write_text(json.dumps(value, indent=1))
    os.replace(new, path)


class Pipe:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.buffer = bytearray()

    def read(self) -> bool:
        data = self.source.recv(READ_BYTES)
        self.buffer += data
        return bool(data)

    def write(self) -> None:
        del self.buffer[: self.sink.send(self.buffer)]


class Way:
    """From one node to another: a listener, and the connections through it."""

    def __init__(self, ends: frozenset[str], listen: str, target: str) -> None:
        self.ends = ends
        self.target = _address(target)
        self.listener = socket.create_server(_address(listen))
        self.listener.setblocking(False)
        self.connections: list[tuple[Pipe, Pipe]] = []

    def accept(self) -> None:
        near, _address = self.listener.accept()
        try:
            far = socket.create_connection(self.target, timeout=1)
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)
        self.connections.append((Pipe(near, far), Pipe(far, near)))

    def close(self, connection: tuple[Pipe, Pipe]) -> None:
        self.connections.remove(connection)
        for pipe in connection:
            pipe.source.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def run(path: Path) -> None:
    """Until the process is ended."""
    known = json.loads(path.read_text())
    ways = [Way(frozenset({way["from"], way["to"]}), way["listen"], way["target"]) for way in known["ways"]]
    while True:
        cut = set(json.loads(path.read_text())["cut"])
        whole = [way for way in ways if not way.ends & cut]
        readers: list[socket.socket] = [way.listener for way in whole]
        writers: list[socket.socket] = []
        for pipe in (pipe for way in whole for connection in way.connections for pipe in connection):
            if len(pipe.buffer) < BUFFER_BYTES_MAX:
                readers.append(pipe.source)
            if pipe.buffer:
                writers.append(pipe.sink)
        readable, writable, _ = select.select(readers, writers, [], LOOK_SECONDS)
        for way in whole:
            _pass_on(way, readable, writable)
            if way.listener in readable:
                way.accept()


def _pass_on(way: Way, readable: Iterable[socket.socket], writable: Iterable[socket.socket]) -> None:
    ready, free = set(readable), set(writable)
    for connection in list(way.connections):
        try:
            for pipe in connection:
                if pipe.source in ready and not pipe.read():
                    raise ConnectionResetError
                if pipe.sink in free and pipe.buffer:
                    pipe.write()
        except BlockingIOError:
            continue
        except OSError:  # one end has gone: so goes the other
            way.close(connection)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
