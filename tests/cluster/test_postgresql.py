"""What docs/howto.md says of fences in PostgreSQL, on a real server with a socket of its own; skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.pages import blocks
from tests.cluster.processes import ROOT

SERVER = shutil.which("postgres")
NOBODY = 65_534  # the server refuses to run as root
ENVIRON = {"PATH": os.environ["PATH"], "LC_ALL": "C"}

pytestmark = pytest.mark.skipif(SERVER is None, reason="no PostgreSQL server is installed")  # it is run as it is


def _run(*argv: str) -> None:
    user = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=ENVIRON, cwd="/", timeout=60, **user)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def connection() -> Iterator[Any]:
    psycopg = pytest.importorskip("psycopg")
    assert SERVER is not None
    programs = Path(SERVER).resolve().parent
    folder = tempfile.mkdtemp(prefix="tq-pg-")  # not below tmp_path: the path of a socket must be short
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        data = f"{folder}/data"
        _run(f"{programs}/initdb", "-D", data, "-U", "tq", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        _run(f"{programs}/pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            with psycopg.connect(host=folder, user="tq", dbname="postgres") as found:
                yield found
        finally:
            _run(f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def test_an_older_attempt_is_refused(connection: Any) -> None:
    page = blocks(ROOT / "docs" / "howto.md")
    (source,) = [text for _language, text in page if text.startswith("# fenced.py\n")]
    names: dict[str, Any] = {}
    exec(source, names)
    keep = names["keep"]
    connection.execute("CREATE TABLE documents (name TEXT PRIMARY KEY, text TEXT, fence BIGINT NOT NULL)")
    highest = (1 << 63) - 1
    assert keep(connection, "a", "first", 1024, places="%s")
    assert keep(connection, "a", "second", highest, places="%s")
    assert not keep(connection, "a", "first, late", 1024, places="%s")
    assert not keep(connection, "a", "second, again", highest, places="%s")
    assert connection.execute("SELECT text, fence FROM documents").fetchall() == [("second", highest)]
