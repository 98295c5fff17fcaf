"""For tests of those who use tq: no server, no sockets, no waiting. docs/testing.md begins with which one to take.

    inline(app)         tasks run when they are submitted
    memory_broker()     a whole broker in this process, under a virtual clock
    cluster(3)          three nodes, which can be killed and cut off

The names are loaded when they are first used: the pytest plugin costs nothing to those who do not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tq.testing.clusters import Cluster, cluster
    from tq.testing.memory import Inline, MemoryBroker, inline, memory_broker
    from tq.testing.worker import Worker

__all__ = ["Cluster", "Inline", "MemoryBroker", "Worker", "cluster", "inline", "memory_broker"]

_HOME_OF = {
    "Cluster": "tq.testing.clusters",
    "cluster": "tq.testing.clusters",
    "Inline": "tq.testing.memory",
    "MemoryBroker": "tq.testing.memory",
    "inline": "tq.testing.memory",
    "memory_broker": "tq.testing.memory",
    "Worker": "tq.testing.worker",
}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'tq.testing' has no attribute {name!r}")
    return getattr(import_module(home), name)
