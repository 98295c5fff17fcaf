"""Raise Stopped in another thread: the only way to end a Python thread from outside, and a soft one.

``PyThreadState_SetAsyncExc`` makes the interpreter raise an exception in a thread at its next bytecode, wherever it
is: in the handler, in our frame around it, or behind it. At most one is pending a thread; None takes it back as long
as it was not raised. The order does not reach a thread inside one long call of C (a socket, a lock, a big sort): it
comes when that call returns. Who needs a hard stop uses a process.

So the callers keep three rules: it is set once a job, only on a thread that may be in that job's handler; what is
pending is taken back before the thread gets another job; and the code round the handler expects it anywhere.
"""

from __future__ import annotations

import ctypes

from tq.verdicts import Stopped

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


def interrupt(ident: int) -> None:
    """Have Stopped raised in the thread; nothing happens if it has ended."""
    _set_async_exc(ctypes.c_ulong(ident), ctypes.py_object(Stopped))


def take_back(ident: int) -> None:
    """Once this returns, no earlier ``interrupt`` will raise in the thread (it may have, already)."""
    _set_async_exc(ctypes.c_ulong(ident), None)
