"""What the children of ``tq dev`` do first: see to it that none of them outlives it.

Standard input is a pipe of the parent's that nobody writes to. It ends when the parent ends, however that comes about
(kill -9 too), and then this process is told to stop as by SIGTERM. It stays in its place, because a worker that begins
anew (``exec``) watches it again. The kernel's "die with your parent" would not do: it means the thread that spawned, and
trio spawns on one that does not last.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import threading

PROGRAM = "from tq.dev.child import watch_parent; watch_parent(); from tq.cli.main import main; main()"
"""For ``python -c``: the program ``tq``, as a child."""


TEMPORARY = "TQ_DEV_TEMPORARY"
"""Names a folder in the environment of the child that lives in it. The parent removes it, this child if the parent cannot."""


def watch_parent() -> None:
    """From now on, stop when the parent ends."""
    threading.Thread(target=_stop_at_its_end, name="tq-dev-parent", daemon=True).start()


def _stop_at_its_end() -> None:
    while os.read(0, 1 << 10):
        pass  # nobody should write to us
    folder = os.environ.get(TEMPORARY)
    if folder is not None:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
