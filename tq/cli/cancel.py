"""``tq cancel``: by id, or all of a filter.

A cancel of many is no job of the broker, as a retry or a purge is: this lists the tasks, the newest first, and cancels them a batch
at a time. So Ctrl-C ends it in between, and it is told how far it came. Newest first, because what is submitted meanwhile is newer:
it is not touched, and there is an end.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any

import attrs
import typer

from tq.cli import filters, show, times
from tq.cli.base import (
    FAILED,
    INTERRUPTED,
    Brokers,
    DryRun,
    Format,
    Output,
    Timeout,
    Verbose,
    Yes,
    connect,
    say,
    told,
)
from tq.cli.bulk import PAST, Bulk, Progress, tasks
from tq.cli.changes import say_refused
from tq.cli.changes import told as changes_told
from tq.cli.filters import NOTHING_GIVEN, Given, filtered

BATCH = 1_000
"""Tasks of a request."""


def add(app: typer.Typer) -> None:
    app.command("cancel", short_help="Cancel tasks, also running ones: by id, or all of a filter.")(cancel)


@told
@filtered
def cancel(
    context: typer.Context,
    ids: filters.SomeIds = None,
    given: Given = NOTHING_GIVEN,
    limit: filters.Limit = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="So long a running handler has to stop [default: 10s]."),
    ] = None,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="DURATION", help="With ids: wait so long for the end.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Cancel tasks, by id, or all of a filter: those that wait at once, those that run by telling their handler.

    Example: tq cancel 0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90 --wait 15s

    Example: tq cancel --queue mail --state queued --dry-run
    """
    grace_s, wait_s = times.seconds("--grace", grace), times.seconds("--wait", wait)
    if wait_s is not None and not ids:
        raise typer.BadParameter(
            "goes with ids; after a filter, look with tq list --state running", param_hint="--wait"
        )
    with connect(context, brokers, timeout, verbose) as client:
        bulk = _Cancels(context, output, client, "cancel", grace=grace_s)
        bulk.wait_s = wait_s
        bulk.change(ids, given, limit, dry_run, yes)


@attrs.define
class _Done:
    """Counts of tasks. told: they run, and their handlers were told. late: they had ended by themselves. failed: refused."""

    cancelled: int = 0
    told: int = 0
    late: int = 0
    failed: int = 0

    def add(self, change: Any) -> None:
        if change.error is not None:
            self.failed += 1
            say_refused(change.id, change.error.message)
        elif change.state == "cancelled":
            self.cancelled += 1
        elif change.state == "cancelling":
            self.told += 1
        else:
            self.late += 1

    def __str__(self) -> str:
        parts = [f"cancelled {tasks(self.cancelled)}"]
        if self.told:
            parts.append(f"told {tasks(self.told)} to stop")
        if self.late:
            parts.append(f"{tasks(self.late)} had ended before")
        return ", ".join(parts)


class _Cancels(Bulk):
    kind = "live"
    wait_s: float | None = None

    def touched(self, fields: dict[str, Any]) -> Iterable[Any]:
        return super().touched({"state": "live", **fields})

    def may_touch(self, info: Any) -> bool:
        return not info.ended

    def work_ids(self, ids: list[str]) -> None:
        rows = [show.plain(change) for change in self.client.cancel_many(ids, **self.more)]
        for row in rows:
            if self.wait_s is not None and row["state"] == "cancelling":
                row["state"] = self.client.wait(row["id"], self.wait_s).state
        changes_told(self.world, self.output, rows)

    def work(self, given: Given, fields: dict[str, Any], limit: int | None) -> None:
        done = _Done()
        progress = Progress(PAST[self.verb], self.world)
        try:
            left = islice((info.id for info in self.touched(fields)), limit)
            while batch := list(islice(left, BATCH)):
                for change in self.client.cancel_many(batch, **self.more):
                    done.add(change)
                if len(batch) == BATCH:
                    progress.tell(done.cancelled)
        except KeyboardInterrupt:
            progress.end()
            say(f"stopped: {done}, and perhaps the next {BATCH:,}; the others are as they were, repeat it to go on")
            raise typer.Exit(INTERRUPTED) from None
        progress.end()
        if self.output is Format.TABLE:
            typer.echo(str(done))
        else:
            show.document(attrs.asdict(done), self.output)
        if done == _Done():
            filters.say_doubt(self.client, given.queue)
        if done.failed:
            raise typer.Exit(FAILED)
