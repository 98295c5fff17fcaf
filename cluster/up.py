"""``make cluster``: the nodes of ``three.toml`` as processes of this machine. ``python -m cluster.up --help``.

Theory. Each node is a process of its own session that writes to a log file and is found again by its pid file. So who
started it does not matter: the foreground only follows the logs, a killed node can be started again from another terminal
(``cluster/faults.py``) and shows up in the foreground again, and ``--down`` ends what any of them left. A pid file counts only while
its process runs with that node's configuration: pids come again.

Rejected: nodes as children with pipes (they block, or die, with whoever reads them).
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import psutil

from cluster import spec
from cluster.links import Links
from cluster.spec import ClusterSpec
from tq.bench.processes import TQ, signals_held
from tq.errors import ConfigError

STOP_SECONDS_MAX = 15.0  # a broker takes 10 at most
ELECTED_SECONDS_MAX = 30.0
REST_SECONDS_MAX = 10.0  # for the other nodes, when one leads
POLL_SECONDS = 0.1
TAIL_LINES = 15


class UpFailed(Exception):
    """The cluster is not as it was asked for; the message says what to do."""


class Managed:
    """A process that outlives whoever started it. ``mark`` is an argument of its own, by which it is known again."""

    def __init__(self, name: str, argv: Sequence[str], mark: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._argv = list(argv)
        self._mark = mark
        self._pid_file = folder / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """While it runs."""
        if self._child is not None:
            self._child.poll()  # else it would stay a zombie of ours
        try:
            pid = int(self._pid_file.read_text())
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and self._mark in process.cmdline():
                return pid
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return None

    def start(self) -> int:
        """Its log goes on behind what stands there. Raises UpFailed: it runs already."""
        running = self.pid
        if running is not None:
            raise UpFailed(f"{self.name} runs already (pid {running})")
        with self.log.open("ab") as log, signals_held():
            self._child = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._pid_file.write_text(f"{self._child.pid}\n")
        return self._child.pid

    def signal(self, number: int) -> bool:
        """Whether there was anybody to get it."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def ended(self, seconds: float) -> bool:
        """Wait for its end, so long at most."""
        end = time.perf_counter() + seconds
        while self.pid is not None:
            if time.perf_counter() > end:
                return False
            pause()
        return True

    def tail(self) -> str:
        if not self.log.exists():
            return f"{self.name} | (no log)"
        lines = self.log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"{self.name} | {line}" for line in lines)


class Node(Managed):
    """One broker of the cluster."""

    def __init__(self, cluster: ClusterSpec, id: str) -> None:
        config = str(cluster.config(id))
        super().__init__(id, [*TQ, "broker", "--config", config], config, cluster.folder)
        self.spec = cluster.node(id)

    def role(self) -> str | None:
        """ "leader", "follower", "candidate"; None while it does not serve."""
        connection = http.client.HTTPConnection(self.spec.metrics_listen, timeout=1)
        try:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            body = json.loads(response.read())
            return str(body["role"]) if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class Cluster:
    """All of it. ``carrier``: through it the nodes reach each other if they are to be cut off (``cluster/links.py``)."""

    def __init__(self, cluster: ClusterSpec) -> None:
        self.spec = cluster
        self.nodes = [Node(cluster, node.id) for node in cluster.nodes]
        self.links = Links.of(cluster)
        mark = str(self.links.path)
        self.carrier = Managed("links", [sys.executable, "-m", "cluster.links", mark], mark, cluster.folder)

    def node(self, name: str) -> Node:
        """By its id, or ``leader``. Raises ConfigError, UpFailed."""
        if name != "leader":
            return next(node for node in self.nodes if node.name == self.spec.node(name).id)
        found = [node for node in self.nodes if node.pid is not None and node.role() == "leader"]
        if len(found) != 1:
            raise UpFailed("no node leads now: name one, or try again in a moment")
        return found[0]

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.pid is not None]

    def start(self, *, with_links: bool) -> list[Node]:
        """Those nodes that do not run. Returns them."""
        with self._alone():
            running = self.running
            if not running:
                self._prepare(with_links)
            elif self.links.are_used and self.carrier.pid is None:
                raise UpFailed("the ways between the nodes have ended: make cluster-down first")
            missing = [node for node in self.nodes if node not in running]
            for node in missing:
                node.start()
            return missing

    def _prepare(self, with_links: bool) -> None:
        self.carrier.signal(signal.SIGKILL)
        for managed in (*self.nodes, self.carrier):
            managed.log.unlink(missing_ok=True)
        ways = None
        if with_links:
            self.links.ask(self.spec)
            self.carrier.start()
            while (ways := self.links.ways()) is None:
                if self.carrier.pid is None:
                    raise UpFailed(f"the ways between the nodes have ended:\n{self.carrier.tail()}")
                pause()
        else:
            self.links.forget()
        spec.write(self.spec, ways)

    def wait_elected(self, started: Sequence[Node]) -> Node:
        """Until one leads. Raises UpFailed: that took too long, or one of those that were started has ended."""
        begun = time.perf_counter()
        leader = None
        while True:
            roles = {node.name: node.role() for node in self.nodes}
            for node in started:
                if node.pid is None:
                    raise UpFailed(f"{node.name} ended at its start. It said:\n{node.tail()}")
            leader = next((node for node in self.nodes if roles[node.name] == "leader"), None)
            passed = time.perf_counter() - begun
            waiting = [node.name for node in self.nodes if roles[node.name] is None]
            if leader is not None and (not waiting or passed > REST_SECONDS_MAX):
                return leader
            if passed > ELECTED_SECONDS_MAX:
                logs = "\n".join(node.tail() for node in self.nodes)
                raise UpFailed(f"no leader within {ELECTED_SECONDS_MAX:g} s. The nodes said:\n{logs}")
            pause()

    def stop(self) -> list[str]:
        """SIGTERM to all, and SIGKILL to those that do not end. Returns the names of those that ran."""
        running = [managed for managed in (*self.nodes, self.carrier) if managed.pid is not None]
        try:
            for managed in running:
                managed.signal(signal.SIGCONT)
                managed.signal(signal.SIGTERM)
            for managed in running:
                if not managed.ended(STOP_SECONDS_MAX):
                    say(f"{managed.name} did not end within {STOP_SECONDS_MAX:g} s: kill -9")
        finally:
            for managed in running:
                managed.signal(signal.SIGKILL)
        return [managed.name for managed in running if managed is not self.carrier]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else starts nodes of this cluster meanwhile."""
        self.spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.spec.folder / "up.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


# ---- the command -----------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.up", description="Start the nodes of a cluster on this machine, and show their logs."
    )
    parser.add_argument("--file", type=Path, default=spec.THREE, help="which nodes [three.toml]")
    parser.add_argument(
        "--links", action="store_true", help="nodes can be cut off from each other (cluster.faults cut)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--background", action="store_true", help="return when a leader is elected")
    how.add_argument("--down", action="store_true", help="stop all nodes")
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        cluster = Cluster(spec.read(options.file))
        if options.down:
            return down(cluster)
        return background(cluster, options.links) if options.background else foreground(cluster, options.links)
    except (UpFailed, ConfigError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def background(cluster: Cluster, with_links: bool) -> int:
    started = cluster.start(with_links=with_links)
    try:
        leader = cluster.wait_elected(started)
    except (UpFailed, KeyboardInterrupt):
        _end(started)
        if not cluster.running:
            cluster.stop()
        raise
    for node in cluster.nodes:
        how = "started" if node in started else "ran already"
        waits = "" if node.role() is not None else "; it does not serve yet, see its log"
        say(f"{node.name} {how} (pid {node.pid}), clients at {node.spec.listen}, log {node.log}{waits}")
    _tell(cluster, leader)
    return 0


def down(cluster: Cluster) -> int:
    stopped = cluster.stop()
    say(f"stopped {', '.join(stopped)}; data stays in {cluster.spec.folder}" if stopped else "nothing runs")
    return 0


def foreground(cluster: Cluster, with_links: bool) -> int:
    if cluster.running:
        names = ", ".join(f"{node.name} (pid {node.pid})" for node in cluster.running)
        raise UpFailed(f"it runs already: {names}. make cluster-down stops it, make cluster-up starts what is missing")
    started = cluster.start(with_links=with_links)
    followed = threading.Event()
    follower = threading.Thread(target=follow, args=(cluster.nodes, followed), daemon=True)
    follower.start()
    try:
        try:
            leader = cluster.wait_elected(started)
        except UpFailed as error:
            raise UpFailed(str(error).partition(" It said:")[0] + "; see above") from None
        _tell(cluster, leader)
        say("Ctrl-C stops all of it")
        _watch(cluster)
        say("all nodes have ended")
        return 0
    except KeyboardInterrupt:
        say("stopping")
        return 0
    finally:
        cluster.stop()
        followed.set()
        follower.join()


def follow(nodes: Sequence[Node], until: threading.Event) -> None:
    """Print what the nodes write to their logs, each line under its node's name."""
    files: dict[str, BinaryIO] = {}
    rests = {node.name: b"" for node in nodes}
    is_last = False
    while not is_last:
        is_last = until.wait(POLL_SECONDS)  # once more after the end
        for node in nodes:
            if node.name not in files and node.log.exists():
                files[node.name] = node.log.open("rb")
            if node.name in files:
                *lines, rests[node.name] = (rests[node.name] + files[node.name].read()).split(b"\n")
                for line in lines:
                    print(f"{node.name} | {line.decode('utf-8', 'replace')}", flush=True)
    for file in files.values():
        file.close()


def _watch(cluster: Cluster) -> None:
    """Until no node runs; say when one ends or is back."""
    alive = {node.name for node in cluster.running}
    while alive:
        pause()
        now = {node.name for node in cluster.running}
        for name in sorted(alive - now):
            if now:
                say(f"{name} has ended, the others go on; start it again: make cluster-up")
        for name in sorted(now - alive):
            say(f"{name} is back")
        alive = now


def _tell(cluster: Cluster, leader: Node) -> None:
    say(f"{leader.name} leads. For clients and workers: --brokers {cluster.spec.addresses}")


def _end(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.signal(signal.SIGKILL)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def pause() -> None:
    threading.Event().wait(POLL_SECONDS)


def say(text: str) -> None:
    print(f"cluster | {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
