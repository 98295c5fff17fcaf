"""tq queue-depth, printed again and again."""

from __future__ import annotations

import json

from tests.unit.cli.fake import FakeClient, run


def test_watch_prints_again_after_each_pause() -> None:
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 3:
            raise KeyboardInterrupt

    result = run(FakeClient(), "queue-depth", "--watch", "2.5", "-o", "json", pause=pause)
    assert paused == [2.5, 2.5, 2.5]
    assert [json.loads(line)[0]["name"] for line in result.stdout.splitlines()] == ["mail"] * 3
    assert result.exit_code == 130
