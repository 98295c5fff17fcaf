"""The examples of the client's page are run, one after the other, against a real broker with the sample worker."""

from __future__ import annotations

import re

import pytest

from tests.cluster.processes import ROOT, Broker, Ground

PAGE = ROOT / "docs" / "client.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def address(shared_ground: Ground, shared_broker: Broker) -> str:
    worker = shared_ground.worker(shared_broker, "tq.samples")
    worker.start()
    return shared_broker.address


def test_there_are_examples_for_threads_and_for_coroutines() -> None:
    assert len(EXAMPLES) >= 6
    assert any("trio.run(" in text for text in EXAMPLES)
    assert any("asyncio.run(" in text for text in EXAMPLES)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_works(number: int, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = EXAMPLES[number]
    assert "127.0.0.1:7379" in text, "an example stands for itself"
    exec(compile(text.replace("127.0.0.1:7379", address), f"{PAGE.name}, example {number}", "exec"), {})
    if "print(info.state, info.result)" in text:
        assert capsys.readouterr().out == "completed b'hello'\n"
