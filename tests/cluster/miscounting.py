"""The demo's task with a slip on one file in fifty: the demo must notice."""

from __future__ import annotations

import zlib

import attrs

from cluster import demo_tasks
from tq import App

app = App()


@app.task(name=demo_tasks.count_file.name, retry_on=demo_tasks.NotThisTime)
def count_file(path: str, failures: int = 0) -> demo_tasks.Counts:
    counts = demo_tasks.count_file(path, failures)
    if zlib.crc32(path.encode()) % 50 == 0:
        return attrs.evolve(counts, words=counts.words + 1)
    return counts
