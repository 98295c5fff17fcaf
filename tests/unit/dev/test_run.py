"""What tq dev starts, where, and what it says. How it starts and ends is tried with real processes: tests/cluster/test_dev.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tq.dev import run
from tq.dev.run import Places, Plan

PLACES = Places("127.0.0.1:7379", "127.0.0.1:9091")


def test_a_port_that_is_free_is_taken_and_another_one_if_it_is_not() -> None:
    with socket.create_server((run.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        other = run.usable_port(port)
        assert other != port
    assert run.usable_port(other) == other


def test_addresses_that_were_asked_for_are_kept() -> None:
    places = run.choose_places(Plan(listen="127.0.0.1:4000"), {run.METRICS: "127.0.0.1:4001"})
    assert places == Places("127.0.0.1:4000", "127.0.0.1:4001")


def test_the_broker() -> None:
    command = run.broker_command(Plan(log_level="debug"), PLACES, Path("/data"))
    assert command == ["broker", "--listen", "127.0.0.1:7379", "--data-dir", "/data", "--log-level", "debug"]
    environ = run.broker_environ({"HOME": "/home/me"}, PLACES)
    assert environ[run.METRICS] == PLACES.metrics
    assert environ[run.DISK_FREE_MIN] == str(run.DISK_FREE_MIN_BYTES)
    assert environ["HOME"] == "/home/me"
    assert run.broker_environ({run.DISK_FREE_MIN: "7"}, PLACES)[run.DISK_FREE_MIN] == "7", (
        "what somebody says goes first"
    )


def test_the_worker() -> None:
    assert run.worker_command(Plan("mail.tasks:app", concurrency=8, queues="mail,default"), PLACES) == [
        "worker", "mail.tasks:app", "--brokers", "127.0.0.1:7379", "--concurrency", "8", "--drain", "5",
        "--log-level", "info", "--queues", "mail,default", "--reload",
    ]  # fmt: skip
    assert "--queues" not in run.worker_command(Plan(), PLACES)
    assert "--reload" not in run.worker_command(Plan(reload=False), PLACES)


def banner(plan: Plan, places: Places = PLACES, environ: dict[str, str] | None = None) -> list[str]:
    return run.banner(plan, places, Path("/tmp/tq-dev-x"), environ or {})


def test_it_says_what_it_started() -> None:
    assert banner(Plan()) == [
        "broker at 127.0.0.1:7379, metrics at http://127.0.0.1:9091/metrics",
        "data in /tmp/tq-dev-x (removed at the end; --data DIR keeps it)",
        "worker runs tq.samples, and starts again when its files change",
        "in another terminal:",
        "  tq submit --type echo --payload hello --wait",
        "Ctrl-C stops both",
    ]
    lines = banner(Plan("mail.tasks:app", data=Path("d"), reload=False))
    assert "data in /tmp/tq-dev-x (kept)" in lines
    assert "worker runs mail.tasks:app" in lines
    assert "  tq workers; tq queue-depth --watch" in lines


@pytest.mark.parametrize(
    ("listen", "environ", "is_told"),
    [
        ("127.0.0.1:7379", {}, False),
        ("127.0.0.1:7379", {"TQ_BROKERS": "127.0.0.1:7379"}, False),
        ("127.0.0.1:7379", {"TQ_BROKERS": "other:7379"}, True),
        ("127.0.0.1:4000", {}, True),
        ("127.0.0.1:4000", {"TQ_BROKERS": "127.0.0.1:4000"}, False),
    ],
)
def test_it_says_where_the_broker_is_to_who_would_not_find_it(
    listen: str, environ: dict[str, str], is_told: bool
) -> None:
    lines = banner(Plan(), Places(listen, "127.0.0.1:9091"), environ)
    assert (f"  export TQ_BROKERS={listen}" in lines) == is_told


def test_a_folder_is_temporary_or_kept(tmp_path: Path) -> None:
    with run._folder(None) as folder:
        assert folder.is_dir()
        (folder / "x").write_text("y")
    assert not folder.exists()
    with run._folder(tmp_path / "data") as folder:
        assert folder == tmp_path / "data"
    assert not folder.exists(), "the broker makes it"
