"""How times are typed and shown: ``10m``, ``1h30m``, a moment in ISO 8601. What is shown can be typed."""

from __future__ import annotations

import datetime
import math
import re
from typing import Final

import typer

UNITS: Final = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
EPOCH_MIN: Final = 1e9
"""A bare number from here on is epoch seconds, as JSON answers have them; a smaller one is a duration."""
DURATION_FORM: Final = 'write seconds, or as in "90s", "10m", "1h30m", "2d"'
MOMENT_FORM: Final = 'write how long ago, as in "10m" or "2h", or a moment, as in "2026-11-26T10:00:00Z"'
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[wdhms])")


def seconds(option: str, text: str | None) -> float | None:
    """A duration in seconds. Raises BadParameter, naming the option."""
    if text is None:
        return None
    found = _duration(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: {DURATION_FORM}", param_hint=option)
    return found


def past(option: str, text: str | None, now: float) -> float | None:
    """A moment as epoch seconds: so long before ``now``, or at that time. Raises BadParameter, naming the option."""
    if text is None:
        return None
    found = _duration(text)
    if found is not None:
        return found if found >= EPOCH_MIN else now - found
    return _moment(option, text, MOMENT_FORM)


def future(option: str, text: str | None, now: float) -> float | None:
    """As ``past``, but so long behind ``now``."""
    if text is None:
        return None
    found = _duration(text)
    if found is not None:
        return found if found >= EPOCH_MIN else now + found
    return _moment(option, text, 'write in how long, as in "10m", or a moment, as in "2026-11-26T10:00:00Z"')


def _duration(text: str) -> float | None:
    bare = text.strip().lower()
    try:
        value = float(bare)
    except ValueError:
        parts = _PART.findall(bare)
        if not parts or "".join(number + unit for number, unit in parts) != bare:
            return None
        value = sum(float(number) * UNITS[unit] for number, unit in parts)
    return value if math.isfinite(value) and value >= 0 else None


def _moment(option: str, text: str, form: str) -> float:
    """Without a zone it is UTC, as all times that tq prints."""
    try:
        when = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: {form}", param_hint=option) from None
    return (when if when.tzinfo is not None else when.replace(tzinfo=datetime.UTC)).timestamp()


def moment(epoch: float) -> str:
    """``2026-11-26T10:00:00.250Z``"""
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def clock(epoch: float) -> str:
    """``10:00:00.250``, of a day that is known."""
    return moment(epoch)[11:-1]


def span(length_s: float) -> str:
    """The two largest units: 3d4h, 5h10m, 7m2s, 9.5s, 20ms."""
    whole = int(length_s)
    if 0 < length_s < 0.9995:
        return f"{max(1, round(length_s * 1000))}ms"
    if whole < 10:
        return f"{max(0.0, length_s):.1f}".removesuffix(".0") + "s"
    sizes = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    parts: list[str] = []
    for unit, size in sizes:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return parts[0] + (parts[1] if len(parts) > 1 and parts[1][0] != "0" else "")


def ago(epoch: float, now: float) -> str:
    """``7m2s``: how long ago; ``in 5s`` for what is to come; what clocks make of now is 0s."""
    if epoch > now + 1:
        return f"in {span(epoch - now)}"
    return span(float(max(0, round(now - epoch)))) if now - epoch >= 1 else "0s"
