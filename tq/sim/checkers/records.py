"""What a run was seen to do: the records of a history and their form as lines of JSON.

A *history* is written by those who use the broker (clients, workers, handlers), never by the broker. Each
request is two lines: ``call`` before it leaves and ``return`` when it is answered, joined by ``by`` and
``op``. A call without a return has an unknown outcome: the request timed out, or its writer was killed. So a
writer may die at any moment, also in the middle of a line: a torn last line of a writer is passed over.

    {"op": 7, "by": "c1", "t": 120, "call": "submit", "tasks": [[id, content, type, queue, priority, timed, more?], ...]}
    {"op": 7, "by": "c1", "t": 180, "index": 31, "answers": ["created", ["duplicate", id of the holder], ...]}
    {"op": 8, "by": "w1", "t": 190, "call": "claim"}
    {"op": 8, "by": "w1", "t": 210, "index": 33, "grants": [[id, fence, attempt, crashes, checkpoint?], ...]}
    {"op": 2, "by": "w1", "t": 215, "call": "keep", "id": id, "fence": 33792, "number": 1, "data": "..." | null}
    {"op": 2, "by": "w1", "t": 218, "index": 34, "answer": "applied" | "already" | "stale"}
    {"op": 9, "by": "w1", "t": 220, "call": "report", "items": [[id, fence, outcome, body], ...]}
    {"op": 9, "by": "w1", "t": 240, "index": 35, "answers": ["applied", ...]}
    {"op": 3, "by": "c1", "t": 250, "call": "read", "id": id, "min_index": 35, "linear": false}
    {"op": 3, "by": "c1", "t": 260, "index": 36, "state": "completed", "fence": 33792}
    {"op": 5, "by": "c1", "t": 265, "call": "list", "min_index": 36}
    {"op": 5, "by": "c1", "t": 266, "index": 36, "rows": [[id, state, fence], ...]}
    {"op": 4, "by": "c1", "t": 270, "call": "cancel" | "retry" | "purge", "ids": [id, ...]}
    {"op": 4, "by": "c1", "t": 280, "index": 38, "states": ["cancelled", ...]} | {..., "error": "INVALID_STATE"}
    {"op": 6, "by": "c1", "t": 275, "call": "queue", "queue": "left", "paused": true}
    {"op": 6, "by": "c1", "t": 285, "index": 39}
    {"op": 1, "by": "h1", "t": 200, "call": "run", "id": id, "fence": 33792, "attempt": 1, "crashes": 0}
    {"op": 1, "by": "h1", "t": 201, "outcome": "complete", "body": "..."}
    {"final": id, "state": "completed", "fence": 33792, "attempt": 1, "crashes": 0, "reason": null, "body": "...",
     "fences": [...], "outcomes": [...], "dropped": 0}

``t`` is in ns of one monotonic clock that all writers share. ``run`` is written by a handler inside a real
worker: it saw the grant, and what it returns will be reported by a worker that writes no history.
Ids are hex. ``content`` is any text that is equal for equal tasks. ``timed``: its place in line is not that of its
submission. ``more``: {"delay_ms", "expires", "deadline", "key" (idempotency), "unique"}, what there is of it.
``fences`` and ``outcomes``: of its attempts in the history of the task, oldest first, refused outcomes left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs

ACCEPTED = ("created", "duplicate")


@attrs.frozen
class Submit:
    """One task of one request. ``answer`` None: unknown."""

    by: str
    start: int
    end: int | None
    index: int | None
    id: str
    content: str
    type: str
    queue: str
    priority: int
    timed: bool
    answer: str | None
    holder: str | None = None  # the task that the answer named
    delay_ms: int = 0
    expires: bool = False
    deadline: bool = False
    key: str | None = None
    unique: str | None = None

    @property
    def is_accepted(self) -> bool:
        """The broker said that the task of this id is there."""
        return self.answer in ACCEPTED and self.holder in (None, self.id)


@attrs.frozen
class Grant:
    """A task handed to a worker. ``start`` None: it is not known when the claim left. ``ran``: seen by a handler."""

    by: str
    start: int | None
    end: int
    index: int | None
    id: str
    fence: int
    attempt: int
    crashes: int
    ran: bool
    kept: tuple[str | None] | None = None  # what it brought of an earlier attempt; None: not recorded


@attrs.frozen
class Keep:
    """A checkpoint of an attempt. ``answer`` None: unknown."""

    by: str
    start: int
    end: int | None
    index: int | None
    id: str
    fence: int
    number: int
    data: str | None
    answer: str | None

    @property
    def place(self) -> tuple[int, int]:
        return self.fence, self.number

    @property
    def is_kept(self) -> bool:
        """The broker said that this one, or a later one, is there."""
        return self.answer in ("applied", "already")


@attrs.frozen
class Report:
    """One outcome of one request. ``answer`` None: unknown."""

    by: str
    start: int
    end: int | None
    index: int | None
    id: str
    fence: int
    outcome: str
    body: str | None
    answer: str | None


@attrs.frozen
class Read:
    """An answered read. ``state`` None: no such task."""

    by: str
    start: int
    end: int
    min_index: int
    index: int
    id: str
    state: str | None
    fence: int
    linear: bool = False


@attrs.frozen
class Change:
    """A cancel, retry or purge of one task. ``end`` None: unknown; ``state``: what it led to; ``error``: refused."""

    verb: str
    by: str
    start: int
    end: int | None
    id: str
    index: int | None = None
    state: str | None = None
    error: str | None = None


@attrs.frozen
class Setting:
    """A queue paused, or resumed. ``index`` None: unknown whether it was; else it was at or before this one."""

    by: str
    start: int
    end: int | None
    index: int | None
    queue: str
    paused: bool


@attrs.frozen
class Final:
    """What the broker says of a task when the run is over. ``dropped``: attempts that its history has forgotten."""

    id: str
    state: str
    fence: int
    attempt: int
    crashes: int
    reason: str | None
    body: str | None
    fences: tuple[int, ...]
    outcomes: tuple[str, ...] = ()
    dropped: int = 0


@attrs.frozen
class Seen:
    """The highest index one writer knew when it had been answered: (by, time, index)."""

    by: str
    start: int
    end: int
    index: int


@attrs.define
class History:
    submits: list[Submit] = attrs.field(factory=list)
    grants: list[Grant] = attrs.field(factory=list)
    keeps: list[Keep] = attrs.field(factory=list)
    reports: list[Report] = attrs.field(factory=list)
    reads: list[Read] = attrs.field(factory=list)
    changes: list[Change] = attrs.field(factory=list)
    settings: list[Setting] = attrs.field(factory=list)
    finals: list[Final] = attrs.field(factory=list)
    seen: list[Seen] = attrs.field(factory=list)


class BadHistory(ValueError):
    """The lines are no history: the harness is wrong, not the broker."""


def parse(files: Iterable[Iterable[str]]) -> History:
    """Join the lines of all writers (one iterable of lines each). Raises BadHistory."""
    history = History()
    for lines in files:
        _parse_file(history, lines)
    return history


def _parse_file(history: History, lines: Iterable[str]) -> None:
    open_calls: dict[tuple[str, int], dict[str, Any]] = {}
    torn: str | None = None
    for line in lines:
        if torn is not None:
            raise BadHistory(f"not JSON, and not the last line of its writer: {torn[:120]!r}")
        try:
            record = json.loads(line)
        except ValueError:
            torn = line
            continue
        if "final" in record:
            history.finals.append(_final(record))
            continue
        key = (record["by"], record["op"])
        if "call" in record:
            if key in open_calls:
                raise BadHistory(f"call {key} twice")
            open_calls[key] = record
        elif key in open_calls:
            _join(history, open_calls.pop(key), record)
        else:
            raise BadHistory(f"return {key} without its call")
    for call in open_calls.values():
        _join(history, call, None)


def _final(record: dict[str, Any]) -> Final:
    return Final(
        record["final"],
        record["state"],
        record["fence"],
        record["attempt"],
        record["crashes"],
        record["reason"],
        record["body"],
        tuple(record["fences"]),
        tuple(record.get("outcomes", ())),
        record.get("dropped", 0),
    )


def _join(history: History, call: dict[str, Any], answer: dict[str, Any] | None) -> None:
    by, start, verb = call["by"], call["t"], call["call"]
    end = None if answer is None else answer["t"]
    index = None if answer is None else answer.get("index")
    if end is not None and index is not None:
        history.seen.append(Seen(by, start, end, index))
    if verb == "submit":
        answers = _answers(answer, len(call["tasks"]))
        for (key, content, kind, queue, priority, timed, *more), said in zip(call["tasks"], answers, strict=True):
            outcome, holder = (said, None) if said is None or isinstance(said, str) else said
            fields = (by, start, end, index, key, content, kind, queue, priority, timed, outcome, holder)
            history.submits.append(Submit(*fields, **(more[0] if more else {})))
    elif verb == "claim":
        for key, fence, attempt, crashes, *more in [] if answer is None else answer.get("grants", []):
            kept = (more[0],) if more else None
            history.grants.append(Grant(by, start, end or 0, index, key, fence, attempt, crashes, False, kept))
    elif verb == "keep":
        said = None if answer is None else answer.get("answer")
        place = (call["id"], call["fence"], call["number"], call["data"])
        history.keeps.append(Keep(by, start, end, index, *place, said))
    elif verb == "report":
        answers = _answers(answer, len(call["items"]))
        for (key, fence, outcome, body), said in zip(call["items"], answers, strict=True):
            history.reports.append(Report(by, start, end, index, key, fence, outcome, body, said))
    elif verb == "read":
        if answer is not None and end is not None and index is not None:
            fence = answer.get("fence") or 0
            linear = call.get("linear", False)
            read = Read(by, start, end, call["min_index"], index, call["id"], answer["state"], fence, linear)
            history.reads.append(read)
    elif verb == "list":
        if answer is not None and end is not None and index is not None:
            for key, state, fence in answer["rows"]:
                history.reads.append(Read(by, start, end, call["min_index"], index, key, state, fence))
    elif verb == "run":
        crashes = call.get("crashes", 0)
        history.grants.append(Grant(by, None, start, None, call["id"], call["fence"], call["attempt"], crashes, True))
        if answer is not None:
            key, fence = call["id"], call["fence"]
            report = Report(by, answer["t"], None, None, key, fence, answer["outcome"], answer["body"], None)
            history.reports.append(report)
    elif verb in ("cancel", "retry", "purge"):
        error = None if answer is None else answer.get("error")
        states = [None] * len(call["ids"]) if answer is None or "states" not in answer else answer["states"]
        for key, state in zip(call["ids"], states, strict=True):
            history.changes.append(Change(verb, by, start, end, key, index, state, error))
    elif verb == "queue":
        history.settings.append(Setting(by, start, end, index, call["queue"], call["paused"]))
    else:
        raise BadHistory(f"unknown call {verb!r}")


def _answers(answer: dict[str, Any] | None, count: int) -> list[Any]:
    """Per item; all unknown where the request was not answered, or answered with an error."""
    if answer is None or "answers" not in answer:
        return [None] * count
    answers: list[Any] = answer["answers"]
    return answers
