"""What the demo's workers run: ``tq worker cluster.demo_tasks``. An example of a module of tasks.

``count_file`` gets the path of a source file and returns its counts. It may run more than once for a task, as any task may
(a worker can die between its work and its word); reading a file again does no harm, so it needs no fencing token. A
call may ask for its first attempts to fail: the demo wants to see retries.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import attrs

from tq import App, Retry, current

app = App()


class NotThisTime(Exception):
    """The failure that a call asked for."""


@attrs.frozen
class Counts:
    """Of one file, or of many. identifiers: names in the code; not in comments or literals, and no keywords."""

    lines: int = 0
    words: int = 0
    bytes: int = 0
    identifiers: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


@app.task(name="demo.count-file", retry=Retry(max_attempts=5, backoff_base=0.5), retry_on=NotThisTime)
def count_file(path: str, failures: int = 0) -> Counts:
    """failures: so many attempts fail before one does the work."""
    attempt = current().attempt
    if attempt <= failures:
        raise NotThisTime(f"attempt {attempt} of a task that fails {failures} times")
    return count(Path(path).read_bytes())


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
