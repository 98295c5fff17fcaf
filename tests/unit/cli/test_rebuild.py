"""tq cluster rebuild, with a cluster that is played and a real directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.fake import FakeClient, run
from tq.errors import BrokerUnavailable, InvalidRequest
from tq.raft.identity import FILE_NAME, Identity
from tq.world import RealDisk, RealRandom

IDS = ["n1", "n2", "n3"]


class Cluster(FakeClient):
    """Admits whom it is asked to, unless there is something else to answer."""

    def __init__(self, *answers: Exception | None) -> None:
        super().__init__()
        self.calls: list[tuple[str, bytes | None]] = []
        self.refusals = list(answers)

    def replace_node(self, node: str, incarnation: bytes | None, **_: Any) -> dict[str, Any]:
        self.calls.append((node, incarnation))
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        if incarnation is None:
            return {}
        members = {"n1": b"1" * 16, node: incarnation, "n3": b"3" * 16}
        return {"cluster": b"c" * 16, "index": 9, "members": members}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("s" * 40)
    peers = ", ".join(
        f'{{id = "{id}", peer = "127.0.0.1:{7380 + at}", client = "127.0.0.1:{7390 + at}"}}'
        for at, id in enumerate(IDS)
    )
    text = f'[node]\nid = "n2"\ndata_dir = "data"\n[cluster]\nsecret_file = "secret"\npeers = [{peers}]\n'
    file = tmp_path / "n2.toml"
    file.write_text(text)
    return file


def start(file: Path) -> Identity:
    disk = RealDisk(str(file.parent / "data"))
    return Identity(disk, RealRandom(), node_id="n2", peers=IDS, has_journal=disk.exists("raft"))


def used(file: Path) -> bytes | None:
    folder = file.parent / "data"
    incarnation = start(file).ident().incarnation
    (folder / "raft").mkdir()
    (folder / "raft" / "term-a").write_text("votes")
    return incarnation


def test_the_others_are_asked_and_the_directory_joins(file: Path) -> None:
    before = used(file)
    cluster = Cluster()
    result = run(cluster, "cluster", "rebuild", "--config", str(file), "--yes")
    assert result.exit_code == 0, result.stderr
    assert cluster.where[0] == "127.0.0.1:7390,127.0.0.1:7392"
    assert "lost-1" in result.stderr
    assert "n2 is admitted with an empty directory. Start its broker" in result.stderr
    (_, first), (_, incarnation) = cluster.calls
    assert first is None
    assert incarnation != before
    assert (file.parent / "data" / "lost-1" / "raft" / "term-a").read_text() == "votes"
    identity = start(file)
    assert (identity.joins, identity.ident().incarnation, identity.ident().admitted_index) == (True, incarnation, 9)
    again = run(Cluster(), "cluster", "rebuild", "--config", str(file))
    assert (again.exit_code, "is rebuilt already" in again.stderr) == (0, True)


def test_nothing_is_touched_before_the_cluster_says_that_it_can_be_done(file: Path) -> None:
    before = used(file)
    for refusal, code in ((InvalidRequest("n2 runs: stop it"), 1), (BrokerUnavailable("no leader"), 3)):
        result = run(Cluster(refusal), "cluster", "rebuild", "--config", str(file), "--yes")
        assert (result.exit_code, refusal.message in result.stderr) == (code, True)
    result = run(Cluster(), "cluster", "rebuild", "--config", str(file))
    assert result.exit_code == 2
    result = run(Cluster(), "cluster", "rebuild", "--config", str(file), interactive=True, text="n\n")
    assert "nothing was done" in result.stderr
    assert start(file).ident().incarnation == before
    assert (file.parent / "data" / "raft" / "term-a").exists()


def test_it_goes_on_where_it_was_stopped(file: Path) -> None:
    used(file)
    stopped = Cluster(None, BrokerUnavailable("the leader died"))
    assert run(stopped, "cluster", "rebuild", "--config", str(file), "--yes").exit_code == 3
    cluster = Cluster()
    assert run(cluster, "cluster", "rebuild", "--config", str(file), "--yes").exit_code == 0
    assert cluster.calls[1] == stopped.calls[1]
    assert sorted(path.name for path in (file.parent / "data").iterdir()) == [FILE_NAME, "lock", "lost-1"]


def test_a_directory_that_is_in_use_is_refused(file: Path) -> None:
    disk = RealDisk(str(file.parent / "data"))
    disk.lock()
    cluster = Cluster()
    result = run(cluster, "cluster", "rebuild", "--config", str(file), "--yes")
    disk.unlock()
    assert (result.exit_code, cluster.calls) == (2, [])
    assert "in use" in result.stderr


def test_a_group_of_one_is_told_what_can_be_done(tmp_path: Path) -> None:
    file = tmp_path / "n1.toml"
    file.write_text('[node]\nid = "n1"\ndata_dir = "data"\n')
    result = run(Cluster(), "cluster", "rebuild", "--config", str(file), "--yes")
    assert result.exit_code == 1
    assert "nobody else has what its directory lost. Restore a backup" in result.stderr
