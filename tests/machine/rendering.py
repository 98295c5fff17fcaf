"""What the machine answered, in lines for the scripts. Events stand behind a ``*``, times count from the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import indexes
from harness import START_MS, Pair
from language import duration_text, fence_text, id_name, name_id, state_text

from tq import spec
from tq.errors import TqError
from tq.machine import commands as c
from tq.machine.answers import QUEUE_EVENTS, Applied, EventKind, ReportOutcome, SubmitOutcome
from tq.machine.commands import Outcome


def at(time_ms: int) -> str:
    return "+" + duration_text(time_ms - START_MS) if time_ms != START_MS else "+0"


class Printer:
    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def clock(self) -> str:
        return f"at {at(self.pair.time_ms)}"

    # ---- an entry ----------------------------------------------------------------------------------

    def entry(self, commands: Sequence[c.Command], applied: Applied) -> list[str]:
        lines = []
        for command, answer in zip(commands, applied.answers, strict=True):
            lines += self.answer(command, answer)
        lines += [self.event(*event) for event in applied.events]
        for id, fence, session, grace_ms in applied.cancels:
            lines.append(f"> tell {id_name(session)}: cancel {id_name(id)} {fence_text(fence)} grace={grace_ms}ms")
        lines += [f"> over {id_name(id)} {fence_text(fence)}" for id, fence in applied.released]
        return lines

    def event(self, kind: int, id: bytes, queue: int, _type: int, fence: int, extra: object) -> str:
        if kind in QUEUE_EVENTS:
            return f"* {EventKind(kind).name} {self.pair.machine.queue_name(queue)} {extra}"
        shown = "" if extra is None else f" {extra}"
        if kind == EventKind.STALE_REFUSED:
            shown = f" said under {fence_text(extra)}"  # type: ignore[arg-type]
        elif kind == EventKind.SCHEDULED:
            shown = f" due={at(extra)}"  # type: ignore[arg-type]
        return f"* {EventKind(kind).name} {id_name(id)}" + (f" {fence_text(fence)}" if fence else "") + shown

    def answer(self, command: c.Command, answer: Any) -> list[str]:
        if isinstance(answer, TqError):
            return [f"error {answer.code}"]
        match command:
            case c.Submit():
                return [self.submitted(raw, item) for raw, item in zip(command.specs, answer, strict=True)]
            case c.Claim():
                return [self.grant(grant) for grant in answer] or ["nothing"]
            case c.Report() | c.Checkpoint():
                return [self.reported(item, got) for item, got in zip(command.items, answer, strict=True)]
            case c.Cancel() | c.Retry() | c.Purge():
                return [self.done(id, *item) for id, item in zip(command.ids, answer, strict=True)]
            case c.JobStart() | c.JobStep():
                operation, verb, done, matched, finished = answer
                verb_text = ("retry", "purge")[verb]
                return [f"job {id_name(operation)} {verb_text} done={done} matched={matched} finished={finished}"]
            case c.QueueSet():
                shown = [f"{name}={value}" for name, value in self.settings(answer).items() if value is not None]
                return [f"queue {command.queue} " + (" ".join(shown) or "as any")]
            case c.ClusterForm():
                return [f"cluster {id_name(answer)}"]
            case c.Advance():
                return [f"handled {answer}"]
            case _:
                return ["ok" if answer is None else repr(answer)]

    def settings(self, answer: dict[str, Any]) -> dict[str, Any]:
        pause = answer["paused"]
        if pause is None:
            return answer
        return {**answer, "paused": f"{at(pause['since_ms'])} by={pause['by']} reason={pause['reason']}"}

    def submitted(self, raw: bytes, item: Any) -> str:
        if item == 0:
            return f"{id_name(spec.parse(raw).id)} created pending"
        outcome, state, id, error = item
        name = "?" if id is None else id_name(id)
        said = SubmitOutcome(outcome).name.lower()
        shown = "" if state is None else " " + state_text(state)
        return f"{name} {said}{shown}" + self.error(error)

    def grant(self, grant: list[Any]) -> str:
        raw, attempt, crashes, fence, _lease_ms, timeout_ms, deadline_ms, *kept = grant
        line = f"{id_name(spec.parse(raw).id)} attempt={attempt} crashes={crashes} fence={fence_text(fence)}"
        if timeout_ms is not None:
            line += f" timeout={duration_text(timeout_ms)}"
        if deadline_ms is not None:
            line += f" deadline={at(deadline_ms)}"
        return line + f" checkpoint={kept[0].decode()}" if kept else line

    def reported(self, item: list[Any], got: Any) -> str:
        name = id_name(item[0])
        if isinstance(got, int):
            return f"{name} {ReportOutcome(got).name.lower()}"
        return f"{name} stale, is {state_text(got[1])}"

    def done(self, id: bytes, state: int | None, error: Any) -> str:
        return f"{id_name(id)} {state_text(state)}{self.error(error)}"

    def error(self, error: Any) -> str:
        if error is None:
            return ""
        detail = error[6]
        facts = detail.get("field") or ("purged" if detail.get("purged") else "")
        return f": {error[0]}" + (f" ({facts})" if facts else "")

    # ---- questions ---------------------------------------------------------------------------------

    def question(self, line: str) -> list[str]:
        verb, *names = line.split()
        match verb:
            case "show":
                return [self.show(name) for name in names]
            case "history":
                return [text for name in names for text in self.history(name)]
            case "counts":
                return self.pair.count_lines()
        raise AssertionError(line)

    def show(self, name: str) -> str:
        seen = indexes.seen(self.pair.store.txn, name_id(name))
        if seen is None:
            return f"{name} not found"
        parts = [f"{name} {state_text(seen['state'])}"]
        if seen["cancelling"]:
            parts.append("cancelling")
        parts.append(f"attempt={seen['attempt']} crashes={seen['crashes']}")
        if seen["fence"]:
            parts.append(f"fence={fence_text(seen['fence'])}")
        if seen["due_ms"] is not None:
            parts.append(f"due={at(seen['due_ms'])}")
        if seen["reason"]:
            parts.append(f"reason={seen['reason']}")
        if seen["checkpoint"] is not None:
            parts.append(f"checkpoint={seen['checkpoint'].decode()}")
        if seen["result"] is not None:
            parts.append(f"result={seen['result'][1].decode()}")
        return " ".join(parts)

    def history(self, name: str) -> list[str]:
        txn, id = self.pair.store.txn, name_id(name)
        lines = []
        for what, fence, attempt, _started, _ended, worker, outcome, error, times in indexes.past(txn, id):
            said = "" if outcome is None else f" said={Outcome(outcome).name.lower()}"
            told = "" if error is None else f" {error[0]}: {error[1]}"
            often = "" if times == 1 else f" ×{times}"
            lines.append(f"{fence_text(fence)} {what} attempt={attempt} by={worker or '-'}{said}{told}{often}")
        return lines or ["none"]
