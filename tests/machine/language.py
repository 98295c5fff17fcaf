"""The language of the scripts: lines to commands, answers to lines.

A block is one log entry; each of its lines is one command of it. Tasks, sessions and operations have names, which
padded with zeros are their ids. Durations are ``5s``, ``3m``, ``2h``, ``1d`` or plain ms; a ``+5s`` alone on a line
moves log time before the entry. Several items of one command stand apart by ``|``:

    submit [atomic] NAME [type= queue= payload= priority= delay= not_before=+5s expires= timeout= deadline= attempts=
           backoff=5s jitter=20% unique= during=pending key= tags=a,b headers=k:v result_ttl= id=] | NAME ...
    submit-raw HEX
    open|close SESSION [types=a,b queues=a,b name=]
    claim SESSION [max=1 seq=N queues=a,b]                        seq counts by itself; seq=same repeats
    complete|fail|release|snooze|cancelled NAME [fence=N.M by=SESSION result= error= permanent after=] | NAME ...
    checkpoint NAME [data= | none] [number=N fence=N.M] | NAME ...     numbers count by themselves
    leases-expire NAME[@N.M] ...  ·  sessions-end SESSION ...
    cancel NAME ... [grace=10s]  ·  retry|purge NAME ... [op=OPERATION delay=]
    job retry|purge OPERATION [state= type= queue= tag= before=+5s limit= delay=]  ·  step OPERATION [limit=500]
    advance due|expires|deadline|timeout|grace|result_ttl|retention|tombstone|operation [limit=500]
    form CLUSTER
    queue NAME [by=ana paused=yes|no|default reason= max_length= timeout= expires= result_ttl= attempts= finished_keep= dead_keep=
           op= OTHER=]                                             default: back to it

Not entries: ``show NAME ...``, ``history NAME``, ``counts``, ``restart``.
"""

from __future__ import annotations

import re
from typing import Any

from tq import limits, spec
from tq.machine import commands as c
from tq.machine.commands import Outcome, Timer
from tq.machine.states import State

UNITS = {"": 1, "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
OUTCOMES = {
    "complete": Outcome.COMPLETE,
    "fail": Outcome.FAIL,
    "release": Outcome.RELEASE,
    "snooze": Outcome.SNOOZE,
    "cancelled": Outcome.CANCELLED,
}
TYPE_DEFAULT = "echo"


def name_id(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def id_name(id: bytes) -> str:
    return id.rstrip(b"\0").decode()


def duration_ms(text: str) -> int:
    match = re.fullmatch(r"([+-]?\d+)(ms|s|m|h|d|)", text)
    assert match, f"not a duration: {text}"
    return int(match[1]) * UNITS[match[2]]


def duration_text(ms: int) -> str:
    for unit in ("d", "h", "m", "s"):
        if ms and ms % UNITS[unit] == 0:
            return f"{ms // UNITS[unit]}{unit}"
    return f"{ms}ms"


class Words:
    """The words of one item: names, flags, and ``key=value`` pairs, each to be used."""

    def __init__(self, line: str) -> None:
        self.names: list[str] = []
        self.pairs: dict[str, str] = {}
        for word in re.findall(r'(?:[^\s"]|"[^"]*")+', line):
            key, equals, value = word.partition("=")
            if equals:
                self.pairs[key] = value.strip('"')
            else:
                self.names.append(word)

    def take(self, key: str, default: str | None = None) -> Any:
        return self.pairs.pop(key, default)

    def ms(self, key: str, default: int | None = None) -> Any:
        text = self.pairs.pop(key, None)
        return default if text is None else duration_ms(text)

    def flag(self, name: str) -> bool:
        if name in self.names:
            self.names.remove(name)
            return True
        return False

    def done(self) -> None:
        assert not self.pairs, f"unknown: {self.pairs}"


class Reader:
    """Lines to commands. Remembers what a script leaves out: claim numbers, the last fence of a task."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.seqs: dict[str, int] = {}
        self.fences: dict[bytes, int] = {}  # of the last grant
        self.holders: dict[bytes, str] = {}
        self.operations = 0
        self.checkpoints = 0  # number of the last one

    def remember(self, granted: list[tuple[bytes, int, bytes]]) -> None:
        for id, fence, session in granted:
            self.fences[id] = fence
            self.holders[id] = id_name(session)

    def command(self, line: str) -> c.Command:
        verb, _, rest = line.partition(" ")
        items = [Words(part) for part in rest.split("|")]
        words = items[0]
        command = self._items(verb, items) if verb in ("submit", "checkpoint", *OUTCOMES) else self._single(verb, words)
        for words in items:
            words.done()
        return command

    def _items(self, verb: str, items: list[Words]) -> c.Command:
        if verb == "submit":
            atomic = items[0].flag("atomic")
            return c.Submit([self.spec(words) for words in items], atomic)
        if verb == "checkpoint":
            return c.Checkpoint([self.checkpoint(words) for words in items])
        by = items[0].take("by")
        reports = [self.report(verb, words) for words in items]
        session = by or self.holders.get(reports[0][0], "nobody")  # type: ignore[call-overload]
        return c.Report(name_id(session), reports, draw=0x80000000)

    def _single(self, verb: str, words: Words) -> c.Command:
        names = words.names
        ids = [name_id(name) for name in names if verb != "leases-expire"]
        match verb:
            case "submit-raw":
                return c.Submit([bytes.fromhex(name) for name in names])
            case "open":
                types, queues = words.take("types", TYPE_DEFAULT), words.take("queues", "default")
                return c.SessionOpen(ids[0], words.take("name", names[0]), types.split(","), queues.split(","))
            case "close":
                return c.SessionClose(ids[0])
            case "claim":
                return self.claim(names[0], words)
            case "leases-expire":
                return c.LeasesExpire([self.lease(name) for name in names])
            case "sessions-end":
                return c.SessionsEnd(ids)
            case "cancel":
                return c.Cancel(ids, words.ms("grace", limits.CANCEL_GRACE_MS_DEFAULT))
            case "advance":
                return c.Advance(Timer[names[0].upper()], int(words.take("limit", "500")), draw=0)
            case "retry":
                return c.Retry(self.operation(words), ids, words.ms("delay", 0))
            case "purge":
                return c.Purge(self.operation(words), ids)
            case "job":
                return self.job(names, words)
            case "step":
                return c.JobStep(ids[0], int(words.take("limit", "500")))
            case "queue":
                return self.queue(names[0], words)
            case "form":
                return c.ClusterForm(ids[0], names[0])
        raise AssertionError(f"unknown command: {verb}")

    def spec(self, words: Words) -> bytes:
        (name,) = words.names
        retry = spec.Retry(
            attempts_max=int(words.take("attempts", str(limits.ATTEMPTS_DEFAULT))),
            base_ms=words.ms("backoff", limits.BACKOFF_BASE_MS_DEFAULT),
            factor_milli=int(words.take("factor", "2000")),
            cap_ms=words.ms("cap", limits.BACKOFF_CAP_MS_DEFAULT),
            jitter_milli=int(words.take("jitter", "0%").rstrip("%")) * 10,
        )
        unique, during = words.take("unique"), words.take("during", "running")
        not_before = words.ms("not_before")
        tags, headers = words.take("tags"), words.take("headers")
        return spec.encode(
            spec.Spec(
                id=name_id(words.take("id", name)),
                type=words.take("type", TYPE_DEFAULT),
                payload=words.take("payload", "").encode(),
                queue=words.take("queue", "default"),
                priority=int(words.take("priority", str(limits.PRIORITY_DEFAULT))),
                content_type=words.take("content_type", "application/octet-stream"),
                delay_ms=words.ms("delay", 0),
                not_before_ms=None if not_before is None else self.start_ms + not_before,
                expires_in_ms=words.ms("expires"),
                timeout_ms=words.ms("timeout"),
                deadline_ms=words.ms("deadline"),
                retry=retry,
                unique=None if unique is None else (unique, int(during == "running")),
                idempotency_key=words.take("key"),
                tags=tuple(tags.split(",")) if tags else (),
                headers=tuple(tuple(h.split(":")) for h in headers.split(",")) if headers else (),  # type: ignore[misc]
                result_ttl_ms=words.ms("result_ttl", limits.RESULT_TTL_MS_DEFAULT),
            )
        )

    def claim(self, session: str, words: Words) -> c.Claim:
        last = self.seqs.get(session, 0)
        seq = words.take("seq", str(last + 1))
        number = last if seq == "same" else int(seq)
        self.seqs[session] = max(last, number)
        queues = words.take("queues")
        return c.Claim(name_id(session), number, queues.split(",") if queues else [], int(words.take("max", "1")))

    def report(self, verb: str, words: Words) -> list[object]:
        (name,) = [n for n in words.names if n != "permanent"]
        id = name_id(name)
        fence_text = words.take("fence")
        fence = parse_fence(fence_text) if fence_text else self.fences.get(id, 0)
        body: object = None
        if verb == "complete":
            body = ["text/plain", words.take("result", "done").encode()]
        elif verb == "fail":
            error = ["Error", words.take("error", "broken"), "traceback"]
            body = [error, "permanent" in words.names, words.ms("after")]
        elif verb == "snooze":
            body = words.ms("delay", 60_000)
        return [id, fence, int(OUTCOMES[verb]), body]

    def checkpoint(self, words: Words) -> list[object]:
        is_none = words.flag("none")
        (name,) = words.names
        id = name_id(name)
        self.checkpoints += 1
        number = int(words.take("number", str(self.checkpoints)))
        fence_text = words.take("fence")
        fence = parse_fence(fence_text) if fence_text else self.fences.get(id, 0)
        return [id, fence, number, None if is_none else words.take("data", "half").encode()]

    def lease(self, name: str) -> list[object]:
        name, _, fence = name.partition("@")
        id = name_id(name)
        return [id, parse_fence(fence) if fence else self.fences[id]]

    def operation(self, words: Words) -> bytes:
        self.operations += 1
        return name_id(words.take("op", f"op{self.operations}"))

    def queue(self, name: str, words: Words) -> c.QueueSet:
        operation, by = self.operation(words), words.take("by", "ana")
        return c.QueueSet(operation, name, by, [self.setting(key, words.take(key)) for key in sorted(words.pairs)])

    def setting(self, key: str, text: str) -> list[object]:
        name = {"expires": "expires_in_ms", "attempts": "retry"}.get(key, f"{key}_ms")
        if key in ("timeout", "expires", "result_ttl", "finished_keep", "dead_keep"):
            return [name, None if text == "default" else duration_ms(text)]
        if text == "default":
            return ["retry" if key == "attempts" else key, None]
        if key == "attempts":
            return ["retry", [int(text), 1_000, 2_000, 60_000, 0]]
        if key == "paused":
            return [key, text == "yes"]
        return [key, text if key == "reason" else int(text)]

    def job(self, names: list[str], words: Words) -> c.JobStart:
        from harness import job_filter  # its form is the machine's

        before = words.ms("before")
        found = {
            "state": words.take("state"),
            "type": words.take("type"),
            "queue": words.take("queue"),
            "tag": words.take("tag"),
            "ended_before_ms": None if before is None else self.start_ms + before,
        }
        limit = words.take("limit")
        return c.JobStart(
            name_id(names[1]),
            ("retry", "purge").index(names[0]),
            job_filter({key: value for key, value in found.items() if value is not None}),
            None if limit is None else int(limit),
            words.ms("delay", 0),
        )


def parse_fence(text: str) -> int:
    index, _, ordinal = text.partition(".")
    return int(index) * limits.FENCE_ORDINALS + int(ordinal)


def fence_text(fence: int) -> str:
    return f"{fence // limits.FENCE_ORDINALS}.{fence % limits.FENCE_ORDINALS}"


def state_text(state: int | None) -> str:
    return "unknown" if state is None else State(state).name.lower()
