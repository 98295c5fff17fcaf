"""The kinds of fields that messages have, and how each is checked.

A *kind* makes a check for a field of a given name; kinds are built at import, one check per field, so that a
message costs a handful of small calls. ``tq.protocol.messages`` annotates its fields with them.

Two things can be wrong with a field. The wrong CBOR type is a ProtocolError: the peer's encoder is broken, and
nothing else it says can be trusted. The right type with a value out of bounds is an InvalidRequest, the fault of
one request: it is answered, and the connection with all its other requests goes on.

The reader leaves floats, simple values and keys to us (``tq.cbor.loads_shaped``): whatever has a free shape is
walked by ``require_plain``; all else is compared with exact types, so True is not 1 here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tq import limits
from tq.cbor import require_plain
from tq.errors import InvalidRequest, PayloadTooLarge, ProtocolError

Check = Callable[[Any], None]
Kind = Callable[[str], Check]

U32_MAX = (1 << 32) - 1
U63_MAX = (1 << 63) - 1
FLAT_ENTRIES_MAX = 64
FLAT_TEXT_CHARS_MAX = 1_024
RETRY_NUMBERS_MAX = 8
FILTER_STATES_MAX = 16


def wrong_kind(field: str, value: object, expected: str) -> NoReturn:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    raise ProtocolError(f"{field} is {shown}: it must be {expected}")


def whole(least: int = 0, most: int = U63_MAX) -> Kind:
    """An integer from ``least`` to ``most``."""

    def kind(field: str) -> Check:
        def check(value: Any) -> None:
            if type(value) is not int:
                wrong_kind(field, value, "an integer")
            if not least <= value <= most:
                raise InvalidRequest.of(field, value, f"{least} .. {most}")

        return check

    return kind


def rid(field: str) -> Check:
    """A request id. Without a good one nothing can be answered, so anything else is a ProtocolError."""

    def check(value: Any) -> None:
        if type(value) is not int or not 0 <= value <= U32_MAX:
            wrong_kind(field, value, f"an integer 0 .. {U32_MAX}")

    return check


def flag(field: str) -> Check:
    def check(value: Any) -> None:
        if value is not True and value is not False:
            wrong_kind(field, value, "a boolean")

    return check


def text(chars_max: int, chars_min: int = 0) -> Kind:
    def kind(field: str) -> Check:
        def check(value: Any) -> None:
            if type(value) is not str:
                wrong_kind(field, value, "text")
            if not chars_min <= len(value) <= chars_max:
                raise InvalidRequest.of(field, value, f"text of {chars_min} .. {chars_max} characters")

        return check

    return kind


def data(bytes_max: int) -> Kind:
    def kind(field: str) -> Check:
        def check(value: Any) -> None:
            if type(value) is not bytes:
                wrong_kind(field, value, "a byte string")
            if len(value) > bytes_max:
                raise InvalidRequest.of(field, value, f"at most {bytes_max} bytes")

        return check

    return kind


def id16(field: str) -> Check:
    """An id of a task, session, operation or cluster."""

    def check(value: Any) -> None:
        if type(value) is not bytes:
            wrong_kind(field, value, "a byte string")
        if len(value) != limits.ID_BYTES:
            raise InvalidRequest.of(field, value, f"{limits.ID_BYTES} bytes")

    return check


def maybe(inner: Kind) -> Kind:
    def kind(field: str) -> Check:
        check_inner = inner(field)

        def check(value: Any) -> None:
            if value is not None:
                check_inner(value)

        return check

    return kind


def many(inner: Kind, most: int) -> Kind:
    """An array of at most ``most``, each of the same kind."""

    def kind(field: str) -> Check:
        check_item = inner(f"an item of {field}")

        def check(value: Any) -> None:
            check_count(field, value, most)
            for item in value:
                check_item(item)

        return check

    return kind


def many_data(most: int, each_bytes: int | None = None) -> Kind:
    """An array of byte strings, of ``each_bytes`` where given; as ``many``, without a call an item."""

    def kind(field: str) -> Check:
        def check(value: Any) -> None:
            check_count(field, value, most)
            if not value:
                return
            if set(map(type, value)) != {bytes}:
                wrong_kind(field, value, "an array of byte strings")
            if each_bytes is not None and set(map(len, value)) != {each_bytes}:
                raise InvalidRequest.of(field, value, f"byte strings of {each_bytes}")

        return check

    return kind


def row(*inner: Kind, optional: int = 0) -> Kind:
    """An array with exactly these items; the last ``optional`` of them may be left off."""

    def kind(field: str) -> Check:
        checks = [make(f"item {at} of {field}") for at, make in enumerate(inner)]
        most = len(checks)
        least = most - optional
        bound = f"an array of {most}" if not optional else f"an array of {least} .. {most}"

        def check(value: Any) -> None:
            if type(value) is not list or not least <= len(value) <= most:
                wrong_kind(field, value, bound)
            for check_item, item in zip(checks, value):  # noqa: B905  # those left off are not there
                check_item(item)

        return check

    return kind


def number(most: int) -> Kind:
    """A whole number or a float, from 0 to ``most``."""

    def kind(field: str) -> Check:
        def check(value: Any) -> None:
            if type(value) is not int and type(value) is not float:
                wrong_kind(field, value, "a number")
            if not 0 <= value <= most:  # nor NaN
                raise InvalidRequest.of(field, value, f"0 .. {most}")

        return check

    return kind


def number_or(inner: Kind) -> Kind:
    """A small number for the common case, else ``inner``."""

    def kind(field: str) -> Check:
        check_inner = inner(field)

        def check(value: Any) -> None:
            if type(value) is int:
                if not 0 <= value <= 255:
                    raise InvalidRequest.of(field, value, "0 .. 255")
                return
            check_inner(value)

        return check

    return kind


def plain(field: str) -> Check:
    """Anything the CBOR of ``tq.cbor.loads`` may hold."""

    def check(value: Any) -> None:
        try:
            require_plain(value)
        except ValueError as error:
            raise ProtocolError(f"{field}: {error}") from error

    return check


def plain_map(field: str) -> Check:
    """A map of text to anything plain."""
    check_plain = plain(field)

    def check(value: Any) -> None:
        if type(value) is not dict:
            wrong_kind(field, value, "a map")
        check_plain(value)

    return check


def flat_map(field: str) -> Check:
    """A small map of text to numbers, text, booleans, null or byte strings: what a broker keeps of a stranger."""
    check_plain = plain(field)

    def check(value: Any) -> None:
        if type(value) is not dict:
            wrong_kind(field, value, "a map")
        if not value:
            return
        check_plain(value)
        if len(value) > FLAT_ENTRIES_MAX:
            raise InvalidRequest.of(field, value, f"at most {FLAT_ENTRIES_MAX} entries")
        for key, item in value.items():
            if len(key) > limits.NAME_CHARS_MAX:
                raise InvalidRequest.of(field, key, f"keys of at most {limits.NAME_CHARS_MAX} characters")
            kind = type(item)
            if kind is list or kind is dict:
                raise InvalidRequest.of(f"{field}.{key}", item, "not an array or a map")
            if (kind is str or kind is bytes) and len(item) > FLAT_TEXT_CHARS_MAX:
                raise InvalidRequest.of(f"{field}.{key}", item, f"at most {FLAT_TEXT_CHARS_MAX} characters")

    return check


def task_filter(field: str) -> Check:
    """A flat map, but ``state`` may be an array of texts."""
    check_flat = flat_map(field)

    def check(value: Any) -> None:
        if type(value) is dict and type(value.get("state")) is list:
            states = value["state"]
            check_count(f"{field}.state", states, FILTER_STATES_MAX)
            if not set(map(type, states)) <= {str}:
                wrong_kind(f"{field}.state", states, "text, or an array of texts")
            value = {key: item for key, item in value.items() if key != "state"}
        check_flat(value)

    return check


def queue_changes(field: str) -> Check:
    """A flat map, but ``retry`` may be an array of integers."""
    check_flat = flat_map(field)

    def check(value: Any) -> None:
        if type(value) is dict and type(value.get("retry")) is list:
            retry = value["retry"]
            check_count(f"{field}.retry", retry, RETRY_NUMBERS_MAX)
            if not set(map(type, retry)) <= {int}:
                wrong_kind(f"{field}.retry", retry, "an array of integers")
            value = {key: item for key, item in value.items() if key != "retry"}
        check_flat(value)

    return check


def check_count(field: str, value: Any, most: int) -> None:
    if type(value) is not list:
        wrong_kind(field, value, "an array")
    if len(value) > most:
        raise InvalidRequest.of(field, f"an array of {len(value)}", f"at most {most} items")


# ---- shapes that several messages share ------------------------------------------------------------


def leases(field: str) -> Check:
    """``[id, fence]`` each, without a call an item: a heartbeat may name a thousand."""

    def check(value: Any) -> None:
        check_count(field, value, limits.SESSION_TASKS_MAX)
        for item in value:
            if type(item) is not list or len(item) != 2:
                wrong_kind(f"an item of {field}", item, "[id, fence]")
            check_lease(field, item[0], item[1])

    return check


def check_lease(field: str, id: Any, fence: Any) -> None:
    if type(id) is not bytes or type(fence) is not int:
        wrong_kind(f"an item of {field}", [id, fence], "begun by id and fence")
    if len(id) != limits.ID_BYTES or not 0 <= fence <= U63_MAX:
        raise InvalidRequest.of(f"an item of {field}", [id, fence], "an id of 16 bytes and a fence")


def grants(field: str) -> Check:
    """``[spec, attempt, crashes, fence, lease_ms, timeout_ms, deadline_ms]`` each, and a checkpoint if there is one.

    Each task passes here, so what most of them are is told in one look; all else is for ``check_row``, which names it."""
    check_row = row(
        data(limits.SPEC_BYTES_MAX), whole(), whole(), whole(), whole(), maybe(whole()), maybe(whole()),
        data(limits.CHECKPOINT_BYTES_MAX), optional=1,
    )(f"an item of {field}")  # fmt: skip

    def check(value: Any) -> None:
        check_count(field, value, limits.CLAIM_TASKS_MAX)
        for item in value:
            if type(item) is list and len(item) == 7:
                spec, attempt, crashes, fence, lease_ms, timeout_ms, deadline_ms = item
                if (
                    timeout_ms is deadline_ms is None
                    and type(spec) is bytes
                    and type(attempt) is type(crashes) is type(fence) is type(lease_ms) is int
                    and 0 <= attempt <= U63_MAX
                    and 0 <= crashes <= U63_MAX
                    and 0 <= fence <= U63_MAX
                    and 0 <= lease_ms <= U63_MAX
                    and len(spec) <= limits.SPEC_BYTES_MAX
                ):
                    continue
            check_row(item)

    return check


error = row(text(64, 1), text(U32_MAX), flag, maybe(whole()), maybe(text(256)), text(64), plain_map)
"""``tq.errors.to_wire`` form."""


# ---- outcomes of attempts --------------------------------------------------------------------------

_COMPLETE, _FAIL, _RELEASE, _SNOOZE, _CANCELLED = range(5)  # tq.machine.commands.Outcome


def outcomes(field: str) -> Check:
    """``[id, fence, outcome, body]`` each; the body's shape depends on the outcome."""
    item_field = f"an item of {field}"
    check_failure = row(
        row(text(U32_MAX), text(U32_MAX), text(U32_MAX)), flag, maybe(whole(0, limits.DURATION_MS_MAX))
    )(f"the failure in {item_field}")
    check_snooze = whole(0, limits.DURATION_MS_MAX)(f"the delay in {item_field}")

    def check(value: Any) -> None:
        check_count(field, value, limits.BATCH_TASKS_MAX)
        for item in value:
            if type(item) is not list or len(item) != 4:
                wrong_kind(item_field, item, "[id, fence, outcome, body]")
            id, fence, outcome, body = item
            if type(id) is not bytes or type(fence) is not int or type(outcome) is not int:
                wrong_kind(item_field, item, "[id, fence, outcome, body]")
            if len(id) != limits.ID_BYTES or not 0 <= fence <= U63_MAX:
                raise InvalidRequest.of(item_field, [id, fence], "an id of 16 bytes and a fence")
            if outcome == _COMPLETE:
                _check_result(item_field, body)
            elif outcome == _FAIL:
                check_failure(body)
            elif outcome == _SNOOZE:
                check_snooze(body)
            elif outcome not in (_RELEASE, _CANCELLED):
                raise InvalidRequest.of(f"the outcome in {item_field}", outcome, "0 .. 4")
            elif body is not None:
                wrong_kind(f"the body in {item_field}", body, "null for this outcome")

    return check


def _check_result(item_field: str, body: Any) -> None:
    if type(body) is not list or len(body) != 2 or type(body[0]) is not str or type(body[1]) is not bytes:
        wrong_kind(f"the result in {item_field}", body, "[content type, bytes]")
    if len(body[0]) > limits.CONTENT_TYPE_CHARS_MAX:
        bound = f"at most {limits.CONTENT_TYPE_CHARS_MAX} characters"
        raise InvalidRequest.of(f"the content type in {item_field}", body[0], bound)
    if len(body[1]) > limits.RESULT_BYTES_MAX:
        size = len(body[1])
        raise PayloadTooLarge(
            f"the result in {item_field} has {size:,} bytes: at most {limits.RESULT_BYTES_MAX:,}",
            detail={"field": "result", "value": size, "bound": limits.RESULT_BYTES_MAX},
        )
