"""The demo's handlers with a slip on one file in fifty: the demo must notice."""

from __future__ import annotations

import json
import zlib

from cluster import demo_tasks
from tq.worker.context import Context
from tq.worker.handlers import Handlers

HANDLERS = Handlers()


@HANDLERS.handler(demo_tasks.COUNT_FILE, content_type="application/json")
def count_file(payload: bytes, ctx: Context) -> bytes:
    counts = json.loads(demo_tasks.count_file(payload, ctx))
    if zlib.crc32(payload) % 50 == 0:
        counts["words"] += 1
    return json.dumps(counts).encode()
