"""``tq retry`` and ``tq purge``: by id, or all of a filter.

By filter the broker does the work in the background, as one job; this waits for it and says how far it is. Before that it
says how many tasks it will be, and asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from tq.cli import filters, show, times
from tq.cli.base import (
    INTERRUPTED,
    Brokers,
    DryRun,
    Format,
    Output,
    Timeout,
    Verbose,
    World,
    Yes,
    confirm,
    connect,
    say,
    told,
    world,
)
from tq.cli.changes import changes
from tq.cli.filters import NOTHING_GIVEN, Given, filtered
from tq.cli.tasks import LIST_COLUMNS, LIST_SHOWN
from tq.errors import TqError

COUNT_MAX = 10_000
"""More are not counted for a question; who asks with --dry-run gets them all."""
SHOWN_MAX = 20
PAST = {"retry": "retried", "purge": "purged", "cancel": "cancelled"}


def add(app: typer.Typer) -> None:
    app.command("retry", short_help="Run ended tasks again: by id, or all of a filter.")(retry)
    app.command("purge", short_help="Forget ended tasks: by id, or all of a filter.")(purge)


@told
@filtered
def retry(
    context: typer.Context,
    ids: filters.SomeIds = None,
    given: Given = NOTHING_GIVEN,
    limit: filters.Limit = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help="They do not run before that: 30s, 10m, 2h.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Run dead, cancelled, expired or skipped tasks again: by id, or all of a filter.

    Example: tq retry --state dead --queue mail --ended-since 2h --dry-run
    """
    delay_s = times.seconds("--delay", delay) or 0.0
    with connect(context, brokers, timeout, verbose) as client:
        Bulk(context, output, client, "retry", delay=delay_s).change(ids, given, limit, dry_run, yes)


@told
@filtered
def purge(
    context: typer.Context,
    ids: filters.SomeIds = None,
    given: Given = NOTHING_GIVEN,
    limit: filters.Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    brokers: Brokers = None,
    output: Output = Format.TABLE,
    verbose: Verbose = False,
    timeout: Timeout = 30.0,
) -> None:
    """Forget ended tasks, payload and result: by id, or all of a filter. This cannot be undone.

    Example: tq purge --state completed --older-than 1h --dry-run
    """
    with connect(context, brokers, timeout, verbose) as client:
        Bulk(context, output, client, "purge").change(ids, given, limit, dry_run, yes)


class Bulk:
    """A change of many tasks, and what is told of it."""

    kind = "ended"
    """The tasks that it may touch, in a word."""

    def __init__(self, context: typer.Context, output: Format, client: Any, verb: str, **more: Any) -> None:
        """verb: "retry" or "purge", as the client has it too. more: what it takes beside the tasks."""
        self.context = context
        self.world = world(context)
        self.output = output
        self.client = client
        self.verb = verb
        self.more = more

    def change(self, ids: list[str] | None, given: Given, limit: int | None, dry_run: bool, yes: bool) -> None:
        """By ids, or all of a filter: whichever was given."""
        if ids:
            filters.only_ids(given, limit)
            self._change_ids(filters.full_ids(self.client, ids), dry_run, yes)
        else:
            filters.need_filter(given)
            self._change_where(given, limit, dry_run, yes)

    def _change_ids(self, ids: list[str], dry_run: bool, yes: bool) -> None:
        if dry_run:
            self.show_ids(ids)
            return
        if self.verb == "purge":
            confirm(self.context, yes, f"Purge {tasks(len(ids))}?")
        self.work_ids(ids)

    def work_ids(self, ids: list[str]) -> None:
        """Do it to each of these, and say what became of them."""
        verb = getattr(self.client, f"{self.verb}_many")
        changes(self.world, self.output, verb(ids, **self.more))

    def _change_where(self, given: Given, limit: int | None, dry_run: bool, yes: bool) -> None:
        fields = given.fields(self.world)
        if dry_run:
            self.show_what(given, fields, limit)
            return
        self.ask(given, fields, limit, yes)
        self.work(given, fields, limit)

    def work(self, given: Given, fields: dict[str, Any], limit: int | None) -> None:
        """Do it, after all questions, and say what was done."""
        verb = getattr(self.client, f"{self.verb}_where")
        with _JobProgress(PAST[self.verb], self.world) as tell:
            job = verb(limit=limit, progress=tell, **self.more, **fields)
        self.finished(given, job)

    def show_ids(self, ids: list[str]) -> None:
        """What a change by ids would touch."""
        rows = []
        for id in ids:
            try:
                rows.append(show.plain(self.client.get(id, parts=0)))
            except TqError as error:
                rows.append({"id": id, "state": error.message})
        show.rows(self.world, self.output, rows, LIST_COLUMNS, LIST_SHOWN)
        say("nothing was done")

    def show_what(self, given: Given, fields: dict[str, Any], limit: int | None) -> None:
        """What a change by filter would touch: count all, show the first."""
        shown: list[dict[str, Any]] = []
        count = 0
        for info in self.touched(fields):
            if limit is not None and count == limit:
                break
            count += 1
            if len(shown) < SHOWN_MAX:
                shown.append(show.plain(info))
        if self.output is not Format.TABLE:
            show.document({"would": self.verb, "count": count, "first": shown}, self.output)
        elif shown:
            show.rows(self.world, self.output, shown, LIST_COLUMNS, LIST_SHOWN)
        more = f", of which the first {len(shown)} are shown" if count > len(shown) else ""
        say(f"would {self.verb} {tasks(count)}{more}; nothing was done")
        if count == 0:
            filters.say_doubt(self.client, given.queue)

    def ask(self, given: Given, fields: dict[str, Any], limit: int | None, yes: bool) -> None:
        """Whether it may be done; of how many tasks, if somebody is there to read it."""
        if yes or not self.world.is_interactive():
            confirm(self.context, yes, f"{self.verb.capitalize()} all {self.kind} tasks with {given}?")
            return
        bound = COUNT_MAX if limit is None else min(limit, COUNT_MAX)
        count = sum(1 for _at, _info in zip(range(bound + 1), self.touched(fields), strict=False))
        if count == 0:
            say(f"no task with {given} can be {PAST[self.verb]}")
            filters.say_doubt(self.client, given.queue)
            raise typer.Exit
        many = (
            tasks(count)
            if count <= bound
            else f"the first {limit:,} tasks"
            if limit == bound
            else f"more than {bound:,} tasks"
        )
        confirm(self.context, yes, f"{self.verb.capitalize()} {many} with {given}?")

    def finished(self, given: Given, job: Any) -> None:
        if self.output is Format.TABLE:
            typer.echo(f"{PAST[self.verb]} {tasks(job.done)}")
        else:
            show.document(show.plain(job), self.output)
        if job.done == 0:
            filters.say_doubt(self.client, given.queue)

    def touched(self, fields: dict[str, Any]) -> Iterable[Any]:
        """Those of the filter that it may touch."""
        return (info for info in self.client.list_all(**fields) if self.may_touch(info))

    def may_touch(self, info: Any) -> bool:
        """A retry leaves live and completed tasks alone, a purge live ones."""
        return info.ended and not (self.verb == "retry" and info.state == "completed")


class Progress:
    """Tells on standard error how many there are so far; on a terminal always on one line, until ``end``."""

    def __init__(self, verb: str, world: World) -> None:
        self._verb = verb
        self._is_drawn = False
        self._is_live = world.is_interactive() and world.is_terminal()

    def tell(self, count: int) -> None:
        text = f"{self._verb} {count:,} so far"
        if self._is_live:
            typer.echo(f"\r{text}", nl=False, err=True)
            self._is_drawn = True
        else:
            say(text)

    def end(self) -> None:
        if self._is_drawn:
            say("")
        self._is_drawn = False


class _JobProgress:
    """How far a job is, when there is something new to tell. Left by Ctrl-C, the job goes on."""

    def __init__(self, verb: str, world: World) -> None:
        self._verb = verb
        self._done: int | None = None  # nothing was answered yet
        self._progress = Progress(verb, world)

    def __call__(self, job: Any) -> None:
        known, self._done = self._done or 0, job.done
        if job.done != known and not job.finished:
            self._progress.tell(job.done)

    def __enter__(self) -> _JobProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> None:
        self._progress.end()
        if kind is KeyboardInterrupt:
            if self._done is None:
                say(
                    "not waited for any longer; no broker has answered yet, so it may have begun or not; it may be repeated"
                )
            else:
                say(f"not waited for any longer; the broker goes on: {self._done:,} {self._verb} so far")
            raise typer.Exit(INTERRUPTED)


def tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
