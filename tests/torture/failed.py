from __future__ import annotations


class TortureFailed(Exception):
    """The run could not be brought to its end: a process did not start or stop, or the work did not drain."""
