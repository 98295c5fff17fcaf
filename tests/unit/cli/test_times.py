"""Durations and moments, as typed and as shown."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tq.cli import times

NOW = 1_764_151_200.0  # 2025-11-26T10:00:00Z


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", 0), ("90", 90), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("2h", 7_200), ("1h30m", 5_400), ("3d", 259_200),
        ("1w", 604_800), ("500ms", 0.5), ("1.5h", 5_400), (" 10M ", 600),
    ],
)  # fmt: skip
def test_durations(text: str, length: float) -> None:
    assert times.seconds("--delay", text) == length


@pytest.mark.parametrize("text", ["", "soon", "10x", "-5", "m", "1h x", "5 m", "nan", "inf", "1e400", "m10"])
def test_what_is_no_duration_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="10m") as caught:
        times.seconds("--delay", text)
    assert caught.value.param_hint == "--delay"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - 600),
        ("0", NOW),
        ("1764151200.5", NOW + 0.5),  # as JSON has it
        ("2025-11-26T10:00:00Z", NOW),
        ("2025-11-26T10:00:00", NOW),  # UTC, as all that is printed
        ("2025-11-26T11:00:00.250+01:00", NOW + 0.25),
        ("2025-11-26", NOW - 36_000),
    ],
)
def test_moments_of_the_past(text: str, moment: float) -> None:
    assert times.past("--since", text, NOW) == moment


def test_moments_to_come() -> None:
    assert times.future("--not-before", "10m", NOW) == NOW + 600
    assert times.future("--not-before", "2025-11-26T10:00:01Z", NOW) == NOW + 1
    assert times.future("--not-before", None, NOW) is None


@pytest.mark.parametrize("text", ["yesterday", "2025-13-01", "26.11.2025", "10:00"])
def test_what_is_no_moment_is_refused_with_what_to_write(text: str) -> None:
    for read in (times.past, times.future):
        with pytest.raises(typer.BadParameter, match="2026-11-26T10:00:00Z"):
            read("--since", text, NOW)


@pytest.mark.parametrize(
    ("length", "shown"),
    [(0, "0s"), (0.0004, "1ms"), (0.25, "250ms"), (0.9999, "1s"), (9, "9s"), (9.5, "9.5s"), (42, "42s"), (60, "1m"), (422, "7m2s"), (3_600, "1h"), (3_661, "1h1m"), (273_601, "3d4h")],
)  # fmt: skip
def test_spans(length: float, shown: str) -> None:
    assert times.span(length) == shown


@given(st.floats(0, 1e8))
def test_what_is_shown_can_be_typed(length: float) -> None:
    typed = times.seconds("--delay", times.span(length))
    assert typed is not None
    assert abs(typed - length) <= max(0.051, length * 0.1)  # the two largest units


def test_moments_shown() -> None:
    assert times.moment(1.5) == "1970-01-01T00:00:01.500Z"
    assert times.clock(1.5) == "00:00:01.500"
    assert times.ago(NOW - 422, NOW) == "7m2s"
    assert times.ago(NOW + 30, NOW) == "in 30s"
    assert times.ago(NOW + 0.5, NOW) == "0s", "clocks differ"
