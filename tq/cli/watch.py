"""``--watch``: look again and again. One way for all commands that have it.

On a terminal the screen is drawn anew; in a pipe, and where TERM is dumb, a table follows a table, behind an empty line. JSON is
a line a look, YAML a document a look. To see a cluster come back is what one watches for, so a broker that cannot be reached is said, and looked
for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import typer

from tq.cli import show, times
from tq.cli.base import Format, World, say
from tq.errors import BrokerUnavailable, NotLeader

T = TypeVar("T")
QUIET_S = 5.0
"""After so long without an event it is asked whether there is a broker at all."""
CLEAR_SCREEN = "\x1b[H\x1b[2J"
LINES_RESERVED = 4
"""Of the terminal: what is said above and below a table."""


def look(
    world: World,
    output: Format,
    every: float | None,
    ask: Callable[[], T],
    plain: Callable[[T], Any],
    draw: Callable[[T, int | None], None],
) -> T:
    """Ask and print, once, or each ``every`` seconds until Ctrl-C. Returns what was answered.

    plain: what JSON has of an answer. draw: print all else of it; the second argument is how many lines it may take.
    """
    if every is None:
        found = ask()
        if output is Format.TABLE:
            draw(found, None)
        else:
            show.document(plain(found), output)
        return found
    is_first = True
    while True:
        try:
            found = ask()
        except (BrokerUnavailable, NotLeader) as error:
            say(f"tq: {error.message}")
        else:
            _again(world, output, every, found, plain, draw, is_first)
            is_first = False
        world.pause(every)


def _again(
    world: World,
    output: Format,
    every: float,
    found: T,
    plain: Callable[[T], Any],
    draw: Callable[[T, int | None], None],
    is_first: bool,
) -> None:
    if output is Format.JSON:
        show.line(plain(found))
    elif output is Format.YAML:
        typer.echo("---")
        show.document(plain(found), output)
    elif world.is_screen():
        show.put(world, CLEAR_SCREEN, nl=False)
        show.put(world, f"every {times.span(every)}, at {times.clock(world.now())[:8]} UTC; Ctrl-C ends")
        draw(found, world.size()[1] - LINES_RESERVED)
    else:
        if not is_first:
            typer.echo()
        draw(found, None)


def steadily(happened: Any, ask: Callable[[], object]) -> Iterator[Any]:
    """Events, for as long as it takes. They come again by themselves when a broker was lost; here that is said.

    happened: events of the client, which end after ``QUIET_S`` without one and may be iterated again. ask: a small request.
    """
    is_lost = False
    while True:
        for event in happened:
            is_lost = False
            yield event
        if happened.closed:
            return
        try:
            ask()
        except (BrokerUnavailable, NotLeader) as error:
            if not is_lost:
                say(f"tq: {error.message}; waiting for a broker")
            is_lost = True
        else:
            if is_lost:
                say("tq: a broker answers again")
            is_lost = False
