"""What all commands share: the options, the exit codes, and how an error is told.

Standard output carries the answer alone, so that ``--output json`` can be piped; messages, progress and errors go
to standard error. Modules behind a command are imported inside of it: ``tq --help`` loads none of them.
"""

from __future__ import annotations

import enum
import functools
import os
import re
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import attrs
import typer

from tq import errors
from tq.cli import times

if TYPE_CHECKING:
    from tq.client.blocking import Client

P = ParamSpec("P")
T = TypeVar("T")

DONE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_ALLOWED = 4
INTERRUPTED = 130

REACH_SECONDS = 3.0
"""So long a command looks for a broker before it says that there is none."""


WATCH_SECONDS = 1.0
WATCH_SECONDS_MIN = 0.2


class Format(enum.StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Brokers = Annotated[
    str | None,
    typer.Option(
        "--brokers",
        envvar="TQ_BROKERS",
        metavar="HOST:PORT,...",
        help="Where the brokers are [default: 127.0.0.1:7379].",
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How the answer is printed.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long a request may take.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")]
Every = Annotated[
    str | None,
    typer.Option("--every", metavar="DURATION", help="With --watch: how often, as in 5s or 1m [default: 1s]."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def new_client(brokers: str | None, timeout: float) -> Client:
    from tq.client.blocking import Client

    return Client(brokers, timeout=timeout, reach=min(REACH_SECONDS, timeout), name=f"tq-cli/{os.getpid()}")


def _now() -> float:
    from tq.world import RealClock

    return RealClock().wall_ms() / 1000


@attrs.define
class World:
    """What a command gets from outside, so that tests can play it."""

    client: Callable[[str | None, float], Any] = new_client
    is_terminal: Callable[[], bool] = sys.stdout.isatty
    is_interactive: Callable[[], bool] = sys.stdin.isatty
    pause: Callable[[float], object] = threading.Event().wait
    """Let so many seconds pass: for ``--watch``."""
    now: Callable[[], float] = _now
    """Epoch seconds."""
    size: Callable[[], tuple[int, int]] = shutil.get_terminal_size
    """Columns and lines of the terminal."""
    environ: Mapping[str, str] = os.environ
    verbose: bool = False

    def has_colour(self) -> bool:
        """Colour is for terminals that have it, and for people who want it (https://no-color.org)."""
        return self.is_screen() and not self.environ.get("NO_COLOR")

    def is_screen(self) -> bool:
        """A terminal that can be drawn anew, and not one line below the other only."""
        return self.is_terminal() and self.environ.get("TERM") != "dumb"


def world(context: typer.Context) -> World:
    found = context.find_root().obj
    assert isinstance(found, World)
    return found


def is_said(context: typer.Context, option: str) -> bool:
    """On the command line itself, not by the environment or a default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def connect(context: typer.Context, brokers: str | None, timeout: float, verbose: bool = False) -> Any:
    """A client for this command; use it as a context manager."""
    here = world(context)
    here.verbose = verbose
    return here.client(brokers, timeout)


def say(text: str) -> None:
    """A message for the person, never part of the answer."""
    if sys.stderr.isatty():
        text = wrapped(text, shutil.get_terminal_size()[0])
    typer.echo(text, err=True)


def wrapped(text: str, width: int, indent: int = 0) -> str:
    """Lines of a terminal, broken between words; an id is a word. indent: of what a line does not hold, in cells."""
    lines = text.split("\n")
    return "\n".join(
        textwrap.fill(line, max(20, width), subsequent_indent=" " * indent, **_WRAP) if len(line) > width else line
        for line in lines
    )


_WRAP: dict[str, Any] = {
    "break_long_words": False, "break_on_hyphens": False, "drop_whitespace": True, "replace_whitespace": False,
}  # fmt: skip


def fail(text: str, code: int = FAILED) -> NoReturn:
    say(f"tq: {text}")
    raise typer.Exit(code)


def confirm(context: typer.Context, yes: bool, question: str) -> None:
    """Ask before what cannot be undone; without a terminal, ``--yes`` must say it."""
    if yes:
        return
    if not world(context).is_interactive():
        fail(f"{question} Say --yes, or look first with --dry-run.", USAGE)
    if not typer.confirm(question, err=True):
        fail("nothing was done")


def told(command: Callable[P, T]) -> Callable[P, T]:
    """Errors of the product become a message that says what to do next, and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except errors.TqError as error:
            say(f"tq: {explain(error)}")
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            close_output()  # whoever reads us has enough (``| head``)
            raise typer.Exit(DONE) from None

    return run


def is_of_output(error: OSError) -> bool:
    """Whether it was raised where answers are written."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is typer.echo.__code__


def close_output() -> None:
    """What was not written has nowhere to go, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def exit_code(error: errors.TqError) -> int:
    if isinstance(error, (errors.BrokerUnavailable, errors.NotLeader)):
        return UNREACHABLE
    if isinstance(error, (errors.Unauthenticated, errors.PermissionDenied)):
        return NOT_ALLOWED
    if isinstance(error, errors.ConfigError) or error.detail.get("field") == "brokers":
        return USAGE
    return FAILED


_ID = re.compile(r"\b([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})\b")
"""As brokers write it into their messages; here it is printed as everywhere else."""


def dashed(text: str) -> str:
    return _ID.sub(r"\1-\2-\3-\4-\5", text)


def explain(error: errors.TqError) -> str:
    """The message, and what to do next where we know it."""
    text = dashed(error.message)
    if isinstance(error, errors.BatchRefused):
        text += "".join(f"\n  {item.id} {item.outcome}" for item in error.items[:10])
    if isinstance(error, errors.BrokerUnavailable) and not error.detail.get("sent"):
        text += (
            "\nIs a broker running? To try tq: tq dev. To serve: tq broker --config FILE."
            "\nIs it elsewhere? --brokers HOST:PORT, or TQ_BROKERS."
        )
    elif isinstance(error, errors.NotFound) and error.detail.get("purged"):
        text += "\nIt ended and was purged; only its id is remembered."
    elif isinstance(error, errors.WaitTimeout):
        text += "\nLook again: tq status ID, or tq explain ID."
    elif error.retry_after is not None:
        text += f"\nTry again in {error.retry_after:g} s."
    return text


def every_seconds(watch: bool, every: str | None) -> float | None:
    """How often to look; None: once. ``--every`` alone is a wish to watch, too."""
    if every is None:
        return WATCH_SECONDS if watch else None
    found = times.seconds("--every", every)
    if found is None or found < WATCH_SECONDS_MIN:
        raise typer.BadParameter(f"{every!r}: at least {WATCH_SECONDS_MIN:g}s", param_hint="--every")
    return found


def plain_options(**values: Any) -> dict[str, Any]:
    """Only those that were given."""
    return {name: value for name, value in values.items() if value is not None}
