"""What the demo's workers run: ``tq worker cluster.demo_tasks``. An example of a module of handlers.

``count_file`` gets the path of a source file and returns its counts as JSON. It may run more than once for a task,
as any handler may (a worker can die between its work and its word); reading a file again does no harm, so it needs
no fencing token. A task may ask, in a header, for its first attempts to fail: the demo wants to see retries.
"""

from __future__ import annotations

import json
import keyword
import os
import re
from pathlib import Path

import attrs

from tq.worker.context import Context
from tq.worker.handlers import Handlers

HANDLERS = Handlers()
COUNT_FILE = "demo.count-file"
FAILURES = "demo-failures"
"""Header: so many attempts fail before one does the work."""


class NotThisTime(Exception):
    """The failure that a task asked for."""


@HANDLERS.handler(COUNT_FILE, content_type="application/json")
def count_file(payload: bytes, ctx: Context) -> bytes:
    failures = int(ctx.headers.get(FAILURES, "0"))
    if ctx.attempt <= failures:
        raise NotThisTime(f"attempt {ctx.attempt} of a task that fails {failures} times")
    counts = count(Path(os.fsdecode(payload)).read_bytes())
    return json.dumps(attrs.asdict(counts)).encode()


@attrs.frozen
class Counts:
    """Of one file, or of many. identifiers: names in the code; not in comments or literals, and no keywords."""

    lines: int = 0
    words: int = 0
    bytes: int = 0
    identifiers: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


# One pass over what can hide a name, and the names: a comment, a literal (triple quotes first), a number, a name.
TOKEN = re.compile(
    rb"""\#[^\n]*"""
    rb"""|[rRbBfFuU]{0,2}(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^\\\n']|\\.)*'|"(?:[^\\\n"]|\\.)*")"""
    rb"""|[0-9][0-9A-Za-z_.]*"""
    rb"""|([A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*)""",
    re.DOTALL,
)
KEYWORDS = frozenset(word.encode() for word in keyword.kwlist)


def count(source: bytes) -> Counts:
    identifiers = sum(1 for name in TOKEN.findall(source) if name and name not in KEYWORDS)
    return Counts(source.count(b"\n"), len(source.split()), len(source), identifiers)
