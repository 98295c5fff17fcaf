"""The bounds hold together where one protocol, one log and one store share them."""

from __future__ import annotations

import re
from pathlib import Path

from tq import cbor, limits, spec
from tq.protocol import messages as m
from tq.protocol.codec import encode

ID = bytes(16)
SOURCE = Path(limits.__file__).read_text()


def test_the_largest_task_fits_one_submit_and_one_grant() -> None:
    payload = bytes(limits.PAYLOAD_BYTES_MAX)
    headers = (("h", "v" * (limits.HEADERS_BYTES_MAX - 1)),)
    tags = tuple("é" * (limits.TAG_CHARS_MAX - 2) + f"{n:02}" for n in range(limits.TAGS_MAX))
    task = spec.Spec(ID, "t" * 128, payload, "q" * 128, 255, headers=headers, tags=tags, idempotency_key="é" * 256)
    raw = spec.encode(task)
    assert spec.parse(raw) == task
    assert len(raw) <= limits.SPEC_BYTES_MAX
    assert len(encode(m.SubmitTask(1, [raw]))) < limits.FRAME_BYTES_MAX
    grant = [raw, 1, 0, 1 << 62, 30_000, 1, 1]
    assert len(encode(m.ClaimReply(1, 1, [grant]))) < limits.FRAME_BYTES_MAX


def test_the_largest_batches_fit_a_frame() -> None:
    """BATCH_BYTES_MAX counts the contents; what surrounds them must fit into the rest of the frame."""
    each = limits.BATCH_BYTES_MAX // limits.BATCH_TASKS_MAX
    count = limits.BATCH_TASKS_MAX
    assert len(encode(m.SubmitTask(1, [bytes(each)] * count))) < limits.FRAME_BYTES_MAX
    results = [[ID, 1 << 62, 0, ["c" * limits.CONTENT_TYPE_CHARS_MAX, bytes(each)]]] * count
    assert len(encode(m.TaskResult(1, ID, results))) < limits.FRAME_BYTES_MAX
    grants = [[bytes(limits.GRANT_BYTES_MAX // count), 1, 1, 1 << 62, 1 << 40, 1 << 40, 1 << 47]] * count
    assert len(encode(m.ClaimReply(1, 1, grants))) < limits.FRAME_BYTES_MAX


def test_a_frame_fits_an_entry() -> None:
    entry = cbor.dumps([1, 1 << 47, [[1, [bytes(limits.BATCH_BYTES_MAX)], False]]])
    assert len(entry) < limits.ENTRY_BYTES_MAX < limits.APPEND_BATCH_BYTES


def test_hello_fits_its_frame() -> None:
    hello = m.Hello(1, 1, 65_535, "c" * 256, ["f" * 64] * 256, ["key", "s" * 1_024])
    assert len(encode(hello)) < limits.FRAME_HELLO_BYTES_MAX


def test_each_bound_has_one_line_and_a_unit() -> None:
    names = re.findall(r"^([A-Z_0-9]+): Final", SOURCE, re.MULTILINE)
    assert len(names) == len(set(names)) > 80
    for name in names:
        value = getattr(limits, name)
        for number in value if isinstance(value, tuple) else (value,):
            assert isinstance(number, int), name
            assert number >= 0, name
