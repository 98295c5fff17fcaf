"""A copy of an LMDB file while it is written to: the pages of one checkpoint, without gaps, as a stream.

Theory. LMDB copies itself (``mdb_env_copy`` with compaction): it walks the trees of one read transaction and numbers the
pages anew. It does so in C without the interpreter's lock, so the loop goes on beside it, and what comes out is a
store's file: whoever receives it needs only to put it in its place. It goes through a pipe, so that whoever takes it
sees its size and digest, and may stop at any time: LMDB gets an error from the pipe and returns at once.

The map must not move and the transaction must not end while LMDB walks. So ``end`` waits until it has stopped; it does
not wait for whoever reads.

Rejected: ``dump`` as the stream (the interpreter's lock is held for seconds per million rows, here and again where it
is loaded); copying the file as it is (its pages change, and LMDB would lock out the open write transaction).
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import lmdb

from tq.limits import MIB
from tq.store.store import CopyFailed, ReaderEnded

PIPE_BYTES = 1 * MIB


class LmdbCopy:
    """Plays ``StoreCopy``. The store's thread makes and ends it; one other thread may ``read``.

    Attributes:
        applied_index: of the checkpoint that is copied.
        end_ms: when the store ends it.
    """

    def __init__(
        self, environment: lmdb.Environment, txn: Any, applied_index: int, end_ms: int, path: str,
        fail: Callable[[lmdb.Error], NoReturn], forget: Callable[[LmdbCopy], None],
    ) -> None:  # fmt: skip
        self.applied_index = applied_index
        self.end_ms = end_ms
        self._environment = environment
        self._txn = txn
        self._path = path
        self._fail = fail
        self._forget = forget
        self._lock = threading.Lock()  # held while the pipe's end is used: its number may be another file's afterwards
        self._ended = False
        self._pipe = -1
        self._pump: threading.Thread | None = None
        self._error: lmdb.Error | None = None

    def read(self) -> bytes:
        with self._lock:
            if self._ended:
                raise ReaderEnded
            if self._pump is None:
                self._start()
            data = os.read(self._pipe, PIPE_BYTES)
            if data or self._pump is None:
                return data
            self._pump.join()
            error = self._error
        if isinstance(error, lmdb.IncompatibleError):  # what was counted is not what was walked
            raise CopyFailed(f"{self._path} has pages that nothing refers to, so it cannot be copied: {error}")
        if error is not None:
            self._fail(error)
        return b""

    def end(self) -> None:
        """Called by the store, and by ``close``."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self._pump is not None:
                os.close(self._pipe)
                self._pump.join()
            self._txn.abort()

    def close(self) -> None:
        self.end()
        self._forget(self)

    def _start(self) -> None:
        self._pipe, write_end = os.pipe2(os.O_CLOEXEC)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._pump = threading.Thread(target=self._copy, args=(write_end,), name="tq-store-copy", daemon=True)
        self._pump.start()

    def _copy(self, write_end: int) -> None:
        try:
            self._environment.copyfd(write_end, compact=True, txn=self._txn)
        except lmdb.Error as error:
            self._error = error
        finally:
            os.close(write_end)
