from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tq.bench import facts, report, run
from tq.bench.measure import Line
from tq.bench.processes import ProcessFailed
from tq.bench.scenarios import Scale


def fast(_scale: Scale) -> Iterator[Line]:
    yield Line("F", "fast thing", 12_345, "/s", 10_000, "higher", "a note")


def later(_scale: Scale) -> Iterator[Line]:
    yield Line("L", "needs more nodes", None, "ms", None, "lower", "not yet")


def broken(_scale: Scale) -> Iterator[Line]:
    raise ProcessFailed("the broker died\nbroker | its last words")
    yield  # a scenario is a generator


@pytest.fixture(autouse=True)
def scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SCENARIOS", {"F": fast, "L": later, "broken": broken})
    monkeypatch.setattr(run.facts, "gather", partial(facts.gather, syncs=3, busy_seconds=0.01))


def test_text_has_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["F", "L"]) == 0
    out, err = capsys.readouterr()
    assert "fast thing" in out
    assert "12,300 /s" in out
    assert "needs more nodes" in out
    assert "fast thing" in err, "told as soon as it is there"


def test_json_stands_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--json", "F", "L"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(line["scenario"], line["value"], line["kept"]) for line in document["lines"]] == [
        ("F", 12_345, True), ("L", None, None),
    ]  # fmt: skip


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Title\n{report.BEGIN}\n{report.END}\nend\n", "utf-8")
    assert run.main(["--output", str(page), "F"]) == 0
    text = page.read_text("utf-8")
    assert re.search(r"^\| F \| fast thing \| 12,300 /s \| ≥ 10,000 /s \| kept \| \d+ % \| a note \|$", text, re.M)
    assert text.startswith("# Title\n")
    assert text.endswith("end\n")


def test_a_page_without_markers_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "other.md"
    page.write_text("text", "utf-8")
    assert run.main(["--output", str(page), "F"]) == 2
    assert run.main(["--output", str(tmp_path / "absent.md"), "F"]) == 2
    assert "markers" in capsys.readouterr().err
    assert page.read_text("utf-8") == "text"


def test_the_number_of_nodes_reaches_the_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(scale: Scale) -> Iterator[Line]:
        seen.append(scale.nodes)
        return fast(scale)

    monkeypatch.setattr(run, "SCENARIOS", {"look": look, "apply": broken})
    assert run.main(["--nodes", "3", "--quick"]) == 0
    assert run.main(["--nodes", "2"]) == 2
    assert seen == [3]


def test_an_unknown_scenario_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["F", "S99"]) == 2
    assert "no scenario S99; there are F, L, broken" in capsys.readouterr().err


def test_usage_errors_are_two_and_help_is_zero() -> None:
    assert run.main(["--no-such-option"]) == 2
    assert run.main(["--seconds", "0"]) == 2
    assert run.main(["--seconds", "nan"]) == 2
    assert run.main(["--rounds", "0"]) == 2
    assert run.main(["--help"]) == 0


def test_a_failed_process_ends_it_with_its_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["F", "broken"]) == 1
    assert "its last words" in capsys.readouterr().err


def test_the_page_of_the_documentation_has_the_markers() -> None:
    assert report.has_markers(Path(__file__).resolve().parents[3] / "docs" / "performance.md")


def test_seconds_are_those_of_the_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Scale] = []

    def look(scale: Scale) -> Iterator[Line]:
        seen.append(scale)
        return fast(scale)

    monkeypatch.setattr(run, "SCENARIOS", {"look": look})
    assert run.main(["--seconds", "2", "look"]) == 0
    assert (seen[0].seconds, seen[0].work_seconds, seen[0].drain) == (2, 6, 10_000)


def test_of_several_rounds_the_best_is_kept_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = iter([(3.0, 30.0), (1.0, 50.0), (2.0, 10.0)])

    def noisy(_scale: Scale) -> Iterator[Line]:
        seconds, p99 = next(values)
        yield Line("N", "seconds", seconds, "s", None, "lower")
        yield Line("N", "p99", p99, "ms", None, "lower")

    monkeypatch.setattr(run, "SCENARIOS", {"N": noisy, "L": later})
    assert run.main(["--json", "--rounds", "3", "N"]) == 0
    assert [line["value"] for line in json.loads(capsys.readouterr().out)["lines"]] == [1.0, 50.0]
    assert run.main(["--rounds", "2", "L"]) == 0


def test_the_best_rate_is_the_highest() -> None:
    slow, quick = ([Line("N", "w", value, "/s", None, "higher")] for value in (1.0, 2.0))
    assert run.best([slow, quick, slow]) is quick
