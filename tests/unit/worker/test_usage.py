"""What heartbeats say of the worker."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.worker.rig import Rig, grant
from tq.protocol import messages as m
from tq.protocol.codec import decode, encode
from tq.worker.usage import Usage


def test_it_counts_the_worker_and_its_children() -> None:
    rig = Rig()
    rig.granted(rig.open(), grant(1), grant(2))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    pids = [child.pid]
    try:
        usage = Usage(rig.core, 4, lambda: pids)
        alone = Usage(rig.core, 4, list)()
        both = usage()
        assert (both["slots"], both["running"], both["claimed"], both["processes"]) == (4, 2, 2, 2)
        assert both["stuck"] == 0
        rig.core.jobs.running[1].is_given_up = True
        assert usage()["stuck"] == 1
        assert both["rss_bytes"] > 10_000_000
        assert both["rss_bytes"] > alone["rss_bytes"]
        message = m.Heartbeat(1, bytes(16), [], both)
        frame = encode(message)
        assert decode(frame[4], frame[5:]) == message
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(60)
    assert usage()["processes"] == 1, "a child that has ended is not counted"
    pids.clear()
    assert usage()["processes"] == 1
