"""What a handler knows of its task."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest

import tq
from tests.unit.worker.jobs import a_context
from tq import limits
from tq.errors import InvalidRequest, NotInHandler
from tq.worker.context import Context, current
from tq.worker.frame import call
from tq.worker.handlers import Handler


def test_it_shows_the_id_as_text() -> None:
    context = a_context(7)
    assert context.id == "00000000-0000-0000-0000-000000000007"
    assert repr(context) == "<Context t 00000000-0000-0000-0000-000000000007 attempt 2 fence 1007>"


def test_waiting_ends_with_the_cancel() -> None:
    context = a_context()
    waited = []
    thread = threading.Thread(target=lambda: waited.append(context.wait_cancelled(60)))
    thread.start()
    while context._event is None:
        pass
    context.cancel()
    thread.join(20)
    assert waited == [True]
    assert not context.lost


def test_waiting_after_the_cancel_does_not_wait() -> None:
    context = a_context()
    context.cancel(lost=True)
    assert context.lost
    assert context.wait_cancelled(60)


def test_waiting_ends_with_its_time() -> None:
    context = a_context()
    assert not context.wait_cancelled(0.001)
    assert not context.cancelled


@pytest.mark.parametrize("wrong", [-1, 1 << 54, float("nan"), float("inf"), "half", None])
def test_progress_is_a_number(wrong: object) -> None:
    context = a_context()
    with pytest.raises(InvalidRequest, match="done"):
        context.progress(wrong)  # type: ignore[arg-type]
    if wrong is not None:
        with pytest.raises(InvalidRequest, match="total"):
            context.progress(0, wrong)  # type: ignore[arg-type]
    assert context.word is None


def test_progress_is_what_was_said_last() -> None:
    context = a_context()
    context.progress(1, 2, "x" * 300)
    assert context.word == (1, 2, "x" * limits.PROGRESS_NOTE_CHARS_MAX)
    context.progress(Fraction(3, 2))  # type: ignore[arg-type]
    assert context.word == (1.5, None, None)


def test_current_says_that_no_handler_runs() -> None:
    with pytest.raises(NotInHandler, match="where no handler runs"):
        current()


def test_a_bare_thread_begins_without() -> None:
    found: list[str] = []

    def look() -> None:
        try:
            current()
        except NotInHandler as error:
            found.append(error.code)

    def handler(payload: bytes, ctx: Context) -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(20)

    call(Handler("t", handler, "thread", ""), b"", a_context())
    assert found == ["NOT_IN_HANDLER"]


def test_it_is_found_at_the_front_door() -> None:
    assert (tq.current, tq.Context) == (current, Context)
