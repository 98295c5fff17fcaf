"""``tq dev`` as a user types it: started, used, changed, stopped, broken, killed. On free ports, with a folder of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.cluster.processes import Ground, eventually, free_ports, tq
from tq import Client
from tq.bench.processes import TQ

TASKS = """
from tq import App

app = App()


@app.task(queue="words")
def say() -> str:
    return "ONE"
"""


class Dev:
    """One ``tq dev``, with addresses and temporary files of its own."""

    def __init__(self, ground: Ground, *arguments: str, module: str = "tasks") -> None:
        listen, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.address = listen
        self.folder = ground.folder / "work"
        self.folder.mkdir(exist_ok=True)
        self.temporary = ground.folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        (self.folder / "tasks.py").write_text(TASKS)
        environ = {"TMPDIR": str(self.temporary), "TQ_NODE__METRICS_LISTEN": metrics}
        argv = [*TQ, "dev", module, "--listen", listen, *arguments]
        self.process = ground.process("dev", argv, [self.folder], environ)

    def start(self) -> None:
        self.process.start()
        eventually("the worker works", lambda: "session opened" in self.said, self.process, 60)

    @property
    def said(self) -> str:
        return self.process.log.read_text()

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def folders(self) -> list[Path]:
        return list(self.temporary.iterdir())

    def child(self, word: str) -> psutil.Process:
        return next(child for child in self.children if word in child.cmdline())

    def interrupt(self) -> int:
        os.kill(self.process.pid, signal.SIGINT)
        return self.process.wait(30)


def test_it_runs_reloads_and_leaves_nothing(ground: Ground) -> None:
    dev = Dev(ground)
    dev.start()
    with Client(dev.address) as client:
        assert client.wait(client.submit("tasks.say", b"{}", queue="words").id, 20).result == b'"ONE"'
        begun = dev.said.count("session opened")
        (dev.folder / "tasks.py").write_text(TASKS.replace("ONE", "TWO, and longer"))
        eventually("it begins anew", lambda: dev.said.count("session opened") > begun, dev.process, 60)
        assert client.wait(client.submit("tasks.say", b"{}", queue="words").id, 20).result == b'"TWO, and longer"'
    assert len(dev.folders) == 1
    children = dev.children
    assert dev.interrupt() == 0
    assert dev.folders == []
    assert not any(child.is_running() for child in children)
    lines = dev.said.splitlines()
    assert all(re.match(r"(dev   |broker|worker) \| ", line) for line in lines)
    assert f"dev    |   export TQ_BROKERS={dev.address}" in lines
    stopped = [line.partition(" | ")[0] for line in lines if " stopped " in line]
    assert stopped[-2:] == ["worker", "broker"], "what runs is given back before the broker goes"


def test_data_are_kept_where_they_are_named(ground: Ground) -> None:
    dev = Dev(ground, "--data", "kept", "--no-reload")
    dev.start()
    with Client(dev.address) as client:
        id = client.submit("tasks.say", b"{}", queue="words").id
        client.wait(id, 20)
    assert dev.interrupt() == 0
    assert dev.folders == []
    dev.start()
    with Client(dev.address) as client:
        assert client.get(id).state == "completed"
    assert dev.interrupt() == 0


@pytest.mark.parametrize("word", ["broker", "worker"])
def test_the_end_of_one_is_told_and_ends_the_other(ground: Ground, word: str) -> None:
    dev = Dev(ground)
    dev.start()
    children = dev.children
    dev.child(word).kill()
    assert dev.process.wait(30) == 1
    assert f"dev    | the {word} was killed by signal 9" in dev.said
    assert not any(child.is_running() for child in children)
    assert dev.folders == []


def test_a_module_that_is_not_there_ends_it(ground: Ground) -> None:
    dev = Dev(ground, "--no-reload", module="no.such.module")
    dev.process.start()
    assert dev.process.wait(60) == 2
    assert "worker | tq: there is no module 'no.such.module'" in dev.said
    assert "dev    | the worker has ended with exit code 2" in dev.said
    assert dev.folders == []


def test_a_port_that_is_taken_is_told(ground: Ground) -> None:
    dev = Dev(ground)
    host, _, port = dev.address.rpartition(":")
    with socket.create_server((host, int(port))):
        dev.process.start()
        assert dev.process.wait(60) == 1
    assert dev.address in dev.said
    assert "dev    | the broker has ended with exit code 1" in dev.said


def test_kill_9_leaves_nothing_behind(ground: Ground) -> None:
    dev = Dev(ground)
    dev.start()
    children = dev.children
    assert len(children) == 2
    dev.process.kill()
    gone, alive = psutil.wait_procs(children, 30)
    assert not alive
    assert len(gone) == 2
    assert dev.folders == []


def test_the_samples_run_the_submit_that_is_said_works_and_a_second_ctrl_c_does_not_wait(ground: Ground) -> None:
    dev = Dev(ground, module="tq.samples")
    dev.start()
    (said,) = re.findall(r"^dev    \|   tq (submit .*)$", dev.said, re.MULTILINE)
    done = tq(*said.split(), brokers=dev.address)
    assert (done.returncode, done.stdout) == (0, "hello")
    with Client(dev.address) as client:
        assert client.workers()[0].types == ("compute", "echo", "fail", "sleep")
        task = client.submit("sleep", b"60")
        eventually("it runs", lambda: client.get(task.id).state == "running", dev.process)
        children = dev.children
        os.kill(dev.process.pid, signal.SIGINT)
        eventually("it drains", lambda: "draining" in dev.said, dev.process)
        os.kill(dev.process.pid, signal.SIGINT)
        assert dev.process.wait(5) == 130
    assert not any(child.is_running() for child in children)
    assert dev.folders == []
