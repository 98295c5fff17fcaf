"""What handlers return and raise, as it goes over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.protocol import messages as m
from tq.protocol.codec import decode, encode
from tq.verdicts import Fatal, RetryAfter, Snooze
from tq.worker.outcomes import COMPLETE, FAIL, SNOOZE, Said, completed, crashed, error_of, failed, raised


def caught(error: BaseException, gives_up: Any = None) -> Said:
    def handler() -> None:
        raise error

    try:
        handler()
    except BaseException as seen:  # noqa: BLE001 - as the frame does
        return raised(seen, gives_up)
    raise AssertionError


@pytest.mark.parametrize("result", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_bytes_of_any_kind_are_a_result(result: object) -> None:
    assert completed("text/plain", result) == (COMPLETE, ["text/plain", b"abc"])


def test_none_is_an_empty_result() -> None:
    assert completed("text/plain", None) == (COMPLETE, ["text/plain", b""])


def test_another_type_fails_for_good_and_says_what_it_was() -> None:
    outcome, (error, permanent, _after) = completed("", {"a": 1})
    assert (outcome, permanent) == (FAIL, True)
    assert "returned dict" in error[1]


def test_a_result_above_the_bound_fails_for_good() -> None:
    assert completed("", bytes(limits.RESULT_BYTES_MAX))[0] == COMPLETE
    outcome, (error, permanent, _after) = completed("", bytes(limits.RESULT_BYTES_MAX + 1))
    assert (outcome, error[0], permanent) == (FAIL, "ResultTooLarge", True)


def test_an_exception_has_its_type_text_and_traceback() -> None:
    outcome, (error, permanent, after_ms) = caught(ValueError("bad input"))
    assert (outcome, permanent, after_ms) == (FAIL, False, None)
    assert error[:2] == ["ValueError", "bad input"]
    assert "raise error" in error[2]


def test_first_frames_of_ours_are_left_out_and_no_later_ones() -> None:
    """As the frame calls a handler; ``exec`` gives a function another module."""
    ours: dict[str, Any] = {"__name__": "tq.worker.frame"}
    text = (
        "def outer(f, raised):\n try: f()\n except ValueError as e: return raised(e)\ndef inner():\n raise ValueError"
    )
    exec(text, ours)

    def handler() -> None:
        ours["inner"]()

    trace = ours["outer"](handler, raised)[1][0][2]
    assert "in outer" not in trace
    assert trace.index("in handler") < trace.index("in inner")


def test_who_says_that_an_error_is_for_good_is_believed_and_may_fail() -> None:
    assert caught(ValueError("x"), lambda error: str(error) == "x")[1][1] is True
    assert caught(RetryAfter(5), lambda error: True)[1][1:] == [False, 5_000], "a verdict means what it says"
    _outcome, (error, permanent, _after) = caught(ValueError("x"), lambda error: 1 / 0)
    assert permanent is False
    assert error[1] == "x (and whether to give up could not be told: ZeroDivisionError: division by zero)"


def test_a_class_of_a_module_is_named_with_it() -> None:
    class Odd(Exception):
        pass

    assert caught(Odd())[1][0][0].endswith("test_outcomes.test_a_class_of_a_module_is_named_with_it.<locals>.Odd")


def test_the_verdicts() -> None:
    assert caught(Snooze(1.5)) == (SNOOZE, 1_500)
    assert caught(RetryAfter(0.25, "later"))[1][2] == 250
    assert caught(Fatal("never"))[1][1] is True


def test_an_exception_that_cannot_be_shown_is_told_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError("no words")

    assert "could not be made: KeyError" in caught(Mute())[1][0][1]


def test_long_texts_are_cut_within_the_bound_and_the_end_of_the_traceback_stays() -> None:
    error = error_of("T" * 500, "é" * 10_000, "α" * 100_000 + "the last line")
    assert sum(len(text.encode()) for text in error) <= limits.ERROR_TEXT_BYTES_MAX
    assert error[2].endswith("the last line")
    assert "(cut)" in error[1]
    assert "(cut)" in error[2]


def test_lone_surrogates_do_not_reach_the_wire() -> None:
    error = error_of("T", "a\ud800b", "c\udfffd")
    assert error[1:] == ["a?b", "c?d"]


@pytest.mark.parametrize(
    "said",
    [
        completed("text/plain", b"x"),
        failed("T", "m", "t"),
        caught(Snooze(0)),
        caught(RetryAfter(3)),
        caught(OSError(5, "x")),
    ],
)
def test_the_protocol_takes_what_we_make(said: Said) -> None:
    message = m.TaskResult(1, bytes(16), [[bytes(16), 5, said[0], said[1]]])
    frame = encode(message)
    assert decode(frame[4], frame[5:]) == message


def test_a_crash_names_its_cause() -> None:
    assert crashed("WorkerCrashed", "SIGSEGV")[1] == ["WorkerCrashed", "SIGSEGV", ""]
