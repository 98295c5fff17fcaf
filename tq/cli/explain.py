"""``tq explain``: why a task is where it is, how it came there, and what can be done."""

from __future__ import annotations

from typing import Any

import typer

from tq.cli import filters, known, show, times
from tq.cli.base import Brokers, Format, Output, Timeout, Verbose, World, connect, told, world, wrapped
from tq.errors import BrokerUnavailable, NotLeader


def add(app: typer.Typer) -> None:
    app.command("explain", short_help="Say why a task is where it is, and what to do next.")(explain)


@told
def explain(
    context: typer.Context,
    id: filters.Id,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Say why a task is where it is, what happened to it, and what to do next.

    Example: tq explain 0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90
    """
    here = world(context)
    with connect(context, brokers, timeout, verbose) as client:
        found = client.explain(filters.full_id(client, id))
        facts = show.plain(found.facts)
        nexts = [*near(client, facts), *what_next(facts)]
    if output is not Format.TABLE:
        show.document({"why": found.why, "next": nexts, "facts": facts}, output)
        return
    state, colon, rest = show.safe(found.why).partition(":")
    colour = show.STATE_COLOURS.get(str(facts.get("state")))
    said = wrapped(state + colon + rest, here.size()[0], 2) if here.is_terminal() else state + colon + rest
    show.put(here, show.painted(here, state, colour, bold=True) + said[len(state) :])
    for moment, text in timeline(facts):
        at = f"  {_at(here, moment)}  "
        show.tell(here, at + show.safe(text.replace("\n", " ")), len(at))
    if nexts:
        show.put(here)
    for text in nexts:
        show.tell(here, f"next: {text}", 6)
    if verbose:
        show.record(here, output, {name: value for name, value in facts.items() if name != "history"})


def near(client: Any, facts: dict[str, Any]) -> list[str]:
    """Of a task that no worker takes: what they would take. Mostly it is a slip in a name."""
    if facts.get("state") != "pending" or facts.get("has_worker") is not False or facts.get("paused"):
        return []
    try:
        text = known.near_work(client, facts["type"], facts["queue"])
    except (BrokerUnavailable, NotLeader):  # the leader alone knows workers, and has gone meanwhile
        return []
    return [text] if text else []


def _at(here: World, epoch: float) -> str:
    if not here.is_terminal():
        return times.moment(epoch)
    return f"{times.moment(epoch)[:19].replace('T', ' ')}  {times.ago(epoch, here.now()):>6}"


def timeline(facts: dict[str, Any]) -> list[tuple[float, str]]:
    """What happened when, the oldest first."""
    found = [(facts["created_at"], "submitted")] if facts.get("created_at") is not None else []
    if facts.get("history_dropped"):
        found.append((facts["created_at"], f"… {facts['history_dropped']} older attempts are not kept"))
    for row in facts.get("history", []):
        if row["ended_at"] is not None:
            found.append((row["ended_at"], _attempt(row)))
    if facts.get("state") == "running" and facts.get("started_at") is not None:
        found.append((facts["started_at"], f"attempt {facts['attempt']} began on {facts['worker']}"))
    elif facts.get("ended_at") is not None and facts.get("state") != "completed":
        reason = f" ({facts['reason']})" if facts.get("reason") else ""
        found.append((facts["ended_at"], f"{facts['state']}{reason}"))
    return found


def _attempt(row: dict[str, Any]) -> str:
    said = row["outcome"].replace("_", " ")
    where = f" on {row['worker']}" if row["worker"] else ""
    took = f" after {times.span(row['ended_at'] - row['started_at'])}" if row["started_at"] is not None else ""
    error = f": {row['error'][0]}: {row['error'][1]}" if row["error"] else ""
    if row["outcome"] == "stale":
        count = f" ({row['times']} times)" if row["times"] > 1 else ""
        return f"an outcome of an older attempt was refused{where}{count}"
    return f"attempt {row['attempt']} {said}{where}{took}{error[:200]}"


def what_next(facts: dict[str, Any]) -> list[str]:
    """What somebody who does not like it can do: commands to type."""
    id, queue, type_ = facts["id"], facts["queue"], facts["type"]
    failed = any(row["error"] for row in facts.get("history", []))
    trace = [f"tq status {id} -v shows the traceback"] if failed else []
    match facts["state"]:
        case "scheduled":
            return [*trace, f"it runs by itself when it is due; tq cancel {id} gives it up"]
        case "waiting":
            return [f"it goes on when what it depends on has ended; tq cancel {id} gives it up"]
        case "pending":
            return _of_pending(facts, id, queue, type_)
        case "running":
            if facts.get("cancelling"):
                return ["its handler was told to stop; when the grace is over it counts as cancelled in any case"]
            return [f"tq status {id} --watch waits for its end; tq cancel {id} tells its handler to stop"]
        case "completed":
            return [f"tq status {id} shows its result"]
        case "dead":
            return [*trace, *_of_dead(facts), f"tq retry {id} runs it again, attempts from 0"]
        case "cancelled" | "expired" | "skipped":
            return [f"tq retry {id} runs it after all"]
    return []


def _of_pending(facts: dict[str, Any], id: str, queue: str, type_: str) -> list[str]:
    if facts.get("paused"):
        return [f"tq queues resume {queue} lets its tasks be taken"]
    if facts.get("has_worker") is False:
        return [
            f"start a worker that has a handler for {type_}: tq worker MODULE --queues {queue}",
            "tq workers shows those that are connected, with their types and queues",
        ]
    if facts.get("ahead"):
        return [
            f"tq queue-depth --watch shows whether {queue} gets shorter; tq workers, whether all are busy",
            "more workers, or a higher --concurrency, take more at a time",
        ]
    return ["a worker that is free takes it at once: tq workers shows whether all are busy"]


def _of_dead(facts: dict[str, Any]) -> list[str]:
    match facts.get("reason"):
        case "poison":
            return [
                'its handler may end the process that it runs in: see the worker\'s log, or run it with executor="process"'
            ]
        case "deadline":
            return ["its deadline, set at the submit, was over: mind that a retry begins the deadline anew"]
        case "permanent":
            return ["its handler said that no retry can help: mend what it says first"]
    return []
