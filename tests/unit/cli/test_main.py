"""The program as a whole: help, version, lazy imports, configuration, brokers that are not there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from tests.unit.cli.fake import FakeClient, run
from tq.cli import main as main_module
from tq.cli.main import new_app

COMMANDS = (
    "dev submit status list cancel retry purge explain events queues queue-depth workers stats cluster-status cluster broker "
    "worker config verify bench"
)
PROGRAM = [sys.executable, "-c", "from tq.cli.main import main; main()"]


def program(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TQ_")}
    return subprocess.run(
        [*PROGRAM, *args], capture_output=True, text=True, timeout=60, env={**clean, **environ}, check=False
    )


def test_every_command_is_there() -> None:
    assert set(get_command(new_app()).commands) == set(COMMANDS.split())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS.split())
def test_help_of_each(name: str) -> None:
    result = run(FakeClient(), name, "--help")
    assert result.exit_code == 0
    assert "Usage: tq" in result.stdout or f"{name} [OPTIONS]" in result.stdout


def test_the_list_of_commands_is_not_cut_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(FakeClient(), "--help").stdout
    assert "..." not in shown.split("Commands:")[1]
    assert max(map(len, shown.splitlines())) <= 80


def test_version_and_no_arguments() -> None:
    from tq.version import VERSION

    assert run(FakeClient(), "--version").stdout == f"tq {VERSION}\n"
    assert "Commands" in run(FakeClient()).output


def test_help_loads_nothing_of_client_and_broker() -> None:
    code = (
        "import sys\n"
        "from tq.cli.main import new_app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(new_app(), ['--help']).exit_code == 0\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('trio', 'lmdb', 'pysyncobj', 'structlog')"
        " or name.startswith(('tq.client', 'tq.broker', 'tq.worker', 'tq.config'))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"


def test_no_broker_exits_with_3_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    result = program("list", TQ_BROKERS=address)
    assert result.returncode == 3
    assert result.stdout == ""
    assert f"cannot reach {address}" in result.stderr
    assert "tq broker --config" in result.stderr
    assert "tq dev" in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["lst"], "list"),
        (["cluster-stat"], "cluster-status"),
        (["queues", "pauze", "mail"], "pause"),
        (["list", "--stat", "dead"], "--state"),
    ],
)
def test_a_slip_is_answered_with_what_is_near(typed: list[str], meant: str) -> None:
    result = run(FakeClient(), *typed)
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr or "Possible options" in result.stderr
    assert meant in result.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["list", "--state", "ded"], "'ded' is no state: waiting, scheduled"),
        (["list", "--cursor", "!!"], "is no cursor"),
        (["submit", "--type", "x", "--priority", "300"], "--priority"),
        (["status", "xyz"], "'xyz' is no id"),
        (["submit", "--type", ""], "--type: '': write 1 to 128 characters"),
        (["submit", "--type", "x", "--queue", "y" * 129], "--queue"),
        (["queues", "pause", ""], "QUEUE: '': write 1"),
        (["queues", "resume", ""], "QUEUE"),
        (["queues", "set", "", "--max-length", "5"], "QUEUE"),
        (["explain", "012"], "at least 4"),
        (["cancel", "0" * 33], "is no id"),
    ],
)
def test_what_cannot_be_meant_is_a_wrong_use_and_asks_nothing(typed: list[str], said: str) -> None:
    client = FakeClient()
    result = run(client, *typed)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert client.asked == []


def test_ids_are_printed_in_one_form() -> None:
    from tests.unit.cli.fake import ID
    from tq.errors import NotFound

    client = FakeClient(get=NotFound(f"there is no task {ID.replace('-', '')}"))
    assert run(client, "status", ID).stderr == f"tq: there is no task {ID}\n"


def test_ctrl_c_before_a_command_has_begun_leaves_no_traceback() -> None:
    code = (
        "from tq.cli import main\n"
        "def interrupted(**_how):\n"
        "    raise KeyboardInterrupt\n"
        "main.new_app = lambda: interrupted\n"
        "main.main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (130, "")


def test_a_wrong_address_exits_with_2() -> None:
    result = program("list", "--brokers", "nowhere:port")
    assert result.returncode == 2
    assert "host:port" in result.stderr


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("tq que", "queue-depth queues"),
        ("tq queues p", "pause"),
        ("tq list --output j", "json"),
        ("tq list --state d", "dead"),
        ("tq purge --state e", "expired ended"),
        ("tq events --kind co", "completed"),
    ],
)
def test_the_shell_completes_commands_states_and_kinds(typed: str, found: str) -> None:
    words = typed.split()
    result = program(_TQ_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))
    assert result.stdout.split() == found.split()


# ---- config ----------------------------------------------------------------------------------------


def test_config_show_tells_where_values_come_from(tmp_path: Path) -> None:
    file = tmp_path / "n1.toml"
    file.write_text('[node]\nid = "n7"\n')
    result = program("config", "show", "--config", str(file), "-o", "json", TQ_LEASES__LEASE_MS="40000")
    assert result.returncode == 0
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)}
    assert rows["node.id"] == ("n7", "file")
    assert rows["leases.lease_ms"] == (40_000, "TQ_LEASES__LEASE_MS")
    assert rows["log.format"] == ("text", "default")


def test_config_show_says_what_each_value_is_for_when_asked() -> None:
    key, *_rest = table = run(FakeClient(), "config", "show", "-v").stdout.splitlines()
    assert key == "key\tvalue\torigin\twhat"
    assert "leases.heartbeat_ms\t15000\tdefault\tHow often workers send a heartbeat." in table
    assert run(FakeClient(), "config", "show").stdout.splitlines()[0] == "key\tvalue\torigin"


def test_config_check(tmp_path: Path) -> None:
    file = tmp_path / "n1.toml"
    file.write_text('[node]\nidd = "n7"\n')
    result = program("config", "check", "--config", str(file))
    assert result.returncode == 2
    assert "did you mean id?" in result.stderr
    file.write_text('[node]\nid = "n7"\n')
    assert program("config", "check", "--config", str(file)).returncode == 0
    assert program("broker", "--config", str(tmp_path / "missing.toml")).returncode == 2
    checked = run(FakeClient(), "config", "check", "--config", str(file), "-o", "json")
    assert json.loads(checked.stdout) == {"usable": True}


# ---- messages --------------------------------------------------------------------------------------


def test_a_terminal_breaks_lines_between_words_and_never_an_id() -> None:
    from tests.unit.cli.fake import ID
    from tq.cli.base import wrapped

    text = f"next: tq retry {ID} runs it again, attempts from 0\nshort"
    assert wrapped(text, 40, 6) == f"next: tq retry\n      {ID}\n      runs it again, attempts from 0\nshort"
    assert wrapped(text, 200) == text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
@pytest.mark.parametrize("arguments", [["config", "show"], ["config", "show", "--output", "json"], ["list", "--help"]])
def test_an_answer_that_cannot_be_written_is_told(arguments: list[str]) -> None:
    """A file on a full disk, say."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "tq: standard output cannot be written: No space left on device\n"


def test_another_error_of_the_system_is_not_taken_for_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_options: object) -> None:
        raise OSError(28, "of another file")

    monkeypatch.setattr(main_module, "new_app", lambda: broken)
    with pytest.raises(OSError, match="of another file"):
        main_module.main()
