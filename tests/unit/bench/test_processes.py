from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tq.bench import processes
from tq.bench.processes import Ground, Process, ProcessFailed, free_ports, signals_held, toml

WAIT = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read() or __import__('signal').pause()"]


def test_toml_is_what_it_says() -> None:
    settings = {"node": {"data_dir": 'a "b"\\c', "count": 3}, "limits": {"on": True, "off": False}}
    assert tomllib.loads(toml(settings)) == settings


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(processes, "PORTS", range(port - 5, port + 6))
        assert port not in free_ports(1)


def test_a_process_starts_again_after_its_end_and_keeps_one_log(tmp_path: Path) -> None:
    process = Process("p", [sys.executable, "-c", "print('hello')"], tmp_path)
    for _ in range(2):
        process.start()
        assert process.wait(20) == 0
    assert process.tail() == "p | hello\np | hello"
    assert process.starts == 2


def test_leaving_the_ground_ends_what_runs_and_removes_the_folder() -> None:
    with Ground() as ground:
        process = ground.process("p", WAIT)
        process.start()
        folder, pid = ground.folder, process.pid
        assert process.alive
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


CHILD = "import subprocess, sys; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); c.wait()"


def fail_with_a_paused_process(children: list[int]) -> None:
    with Ground() as ground:
        process = ground.process("p", [sys.executable, "-c", CHILD])
        process.start()
        while not process.tail():
            assert process.alive
        children.append(int(process.tail().split("|")[1]))
        process.pause()
        raise RuntimeError("a test failed")


def test_leaving_the_ground_ends_a_paused_process_and_its_children_after_an_error() -> None:
    children: list[int] = []
    with pytest.raises(RuntimeError):
        fail_with_a_paused_process(children)
    end = time.monotonic() + 10  # the kernel takes its moment to end a child of a child
    while runs(children[0]):
        assert time.monotonic() < end


def runs(pid: int) -> bool:
    """Not gone, and not a zombie that waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_kept_folder_stays(tmp_path: Path) -> None:
    ground = Ground()
    with ground:
        folder = ground.keep()
    assert folder.exists()
    folder.rmdir()


def test_a_broker_that_ends_at_once_is_reported_with_its_log() -> None:
    with Ground() as ground:
        broker = ground.broker()
        broker.argv = [sys.executable, "-c", "raise SystemExit('no luck')"]
        with pytest.raises(ProcessFailed, match="no luck"):
            broker.start_ready()


def interrupted_while_starting(started: list[int]) -> None:
    with Ground() as ground:
        process = ground.process("p", WAIT)
        with signals_held():
            process.start()
            started.append(process.pid)
            signal.raise_signal(signal.SIGINT)
            started.append(0)  # still held
        raise AssertionError("the signal was lost")


def test_an_interrupt_during_a_start_comes_behind_it() -> None:
    started: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_while_starting(started)
    assert started[1:] == [0]
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_sigterm_can_be_made_to_end_what_runs() -> None:
    code = (
        "import os, signal\n"
        "from tq.bench.processes import Ground, end_on_sigterm\n"
        "end_on_sigterm()\n"
        "try:\n"
        "    with Ground() as ground:\n"
        "        folder = ground.folder\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n"
        "    print(folder.exists())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
