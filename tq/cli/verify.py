"""``tq verify``: does this tq keep its promises in a bad world?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tq.cli import show, times
from tq.cli.base import FAILED, INTERRUPTED, USAGE, Format, Output, World, fail, say, told, world

if TYPE_CHECKING:
    from tq.sim.verify import Tally
    from tq.world import Clock

RUNS_DEFAULT = 20
NODES = (3, 5, 7)


def add(app: typer.Typer) -> None:
    app.command("verify", short_help="Check that tq keeps its promises in a bad world.")(run)


@told
def run(
    context: typer.Context,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="The first story; without it, one by the clock.")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            "--runs", metavar="N", min=1, help=f"So many stories, each of the next seed [default: {RUNS_DEFAULT}]."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", min=0.01, help="As many stories as fit.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Of the simulated cluster: 3, 5 or 7.")] = 3,
    output: Output = Format.TABLE,
) -> None:
    """Play random trouble on simulated clusters of this tq, and check that nothing that was promised is broken.

    Power losses, kills, pauses, cut and slow networks, lost messages, full and failing disks, wrong clocks. A story is
    a seed, and takes about a second. Exit code 1 and how to play it again if a promise is broken.

    Example: tq verify --runs 100

    Example: tq verify --seed 4711 --runs 1 --nodes 5
    """
    if not __debug__:
        fail("verify needs the assertions of Python: run it without -O, and without PYTHONOPTIMIZE", USAGE)
    if nodes not in NODES:
        raise typer.BadParameter(f"{nodes}: one of {', '.join(map(str, NODES))}", param_hint="--nodes")
    if runs is not None and minutes is not None:
        raise typer.BadParameter("give --runs or --minutes, not both")
    from tq import logs
    from tq.sim.verify import Tally, verify
    from tq.world import RealClock

    logs.silence()
    clock = RealClock()
    tally = Tally(clock.wall_ms() if seed is None else seed, nodes)
    seeds = _seeds(tally.first_seed, runs, minutes, clock)
    code = 0
    progress = _Progress(world(context))
    try:
        verify(seeds, tally, clock, progress)
    except KeyboardInterrupt:
        code = INTERRUPTED
    progress.end()
    if output is Format.TABLE:
        _tell(world(context), tally)
    else:
        show.document(tally.as_document(), output)
    raise typer.Exit(code if tally.failure is None else FAILED)


def _seeds(first: int, runs: int | None, minutes: float | None, clock: Clock) -> Iterator[int]:
    if minutes is None:
        yield from range(first, first + (runs or RUNS_DEFAULT))
        return
    end_ms = clock.monotonic_ms() + round(minutes * 60_000)
    for seed in itertools.count(first):
        if clock.monotonic_ms() >= end_ms and seed > first:
            return
        yield seed


class _Progress:
    """One line that counts, where somebody looks."""

    def __init__(self, world: World) -> None:
        self._is_live = world.is_terminal()
        self._is_drawn = False

    def __call__(self, tally: Tally) -> None:
        if self._is_live:
            self._is_drawn = True
            typer.echo(
                f"\r{tally.runs} played, {tally.tasks:,} tasks, {sum(tally.faults.values()):,} faults",
                nl=False,
                err=True,
            )

    def end(self) -> None:
        if self._is_drawn:
            say("")


def _tell(here: World, tally: Tally) -> None:
    from tq.sim.verify import CHECKS

    last = tally.first_seed + max(0, tally.runs - 1)
    stories = f"{tally.runs} stor{'y' if tally.runs == 1 else 'ies'} of {tally.nodes} nodes"
    took = f"{times.span(tally.wall_ms / 1000)} ({times.span(tally.simulated_ms / 1000)} of simulated time)"
    _row(here, "played", f"{stories}, seeds {tally.first_seed} to {last}, in {took}")
    _row(here, "work", f"{tally.tasks:,} tasks submitted, {tally.answers:,} answers, {tally.events:,} events heard")
    faults = sorted(tally.faults.items(), key=lambda item: -item[1])
    _row(here, "trouble", ", ".join(f"{count} {name}" for name, count in faults) or "none")
    _row(here, "survived", f"{tally.leaders:,} leaders, {tally.snapshots:,} snapshots installed")
    for at, check in enumerate(CHECKS):
        _row(here, "" if at else "checked", check)
    failure = tally.failure
    if failure is None:
        _row(here, "verdict", f"{show.painted(here, 'kept', 'green', bold=True)}: no promise was broken")
        _row(here, "again", tally.repeat)
        return
    _row(here, "verdict", f"{show.painted(here, 'BROKEN', 'red', bold=True)} in seed {failure.seed}:")
    for line in f"{failure.message}\n{failure.log}".splitlines():
        _row(here, "", line)
    _row(here, "again", failure.repeat)


TITLE_CELLS = 10


def _row(here: World, title: str, text: str) -> None:
    show.tell(here, f"{title:<{TITLE_CELLS}}{text}", TITLE_CELLS)
