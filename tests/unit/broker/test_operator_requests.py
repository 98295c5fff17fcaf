"""What operators ask."""

from __future__ import annotations

import pytest

from tq.errors import InvalidRequest, Unsupported
from tq.protocol import messages as m

from .rig import SESSION, World, with_task


@pytest.fixture
def world() -> World:
    return World()


def test_workers_are_shown(world):
    peer = with_task(world)
    peer.call(m.RegisterWorker, SESSION, "host-1-abc", ["work"], ["default", "low"], {"version": "1"})
    peer.claim(SESSION, 1)
    peer.call(m.Heartbeat, SESSION, [], {"cpu_percent": 12})
    (row,) = peer.call(m.Workers).workers
    assert (row["name"], row["types"], row["queues"]) == ("host-1-abc", ["work"], ["default", "low"])
    assert (row["running"], row["info"], row["stats"]) == (1, {"version": "1"}, {"cpu_percent": 12})


@pytest.mark.parametrize(
    ("change", "arguments", "error"),
    [
        ("grow", {}, Unsupported),
        ("transfer", {"from": 1, "to": None}, InvalidRequest),
        ("transfer", {"from": "n1", "to": ["n2"]}, InvalidRequest),
        ("replace", {"node": None, "incarnation": None}, InvalidRequest),
        ("replace", {"node": "n1", "incarnation": bytes(16)}, InvalidRequest),
    ],
)
def test_changes_that_cannot_be_are_refused(world, change, arguments, error):
    peer = world.connect()
    with pytest.raises(error):
        peer.call(m.ChangeCluster, change, arguments)
    assert peer.call(m.Ping).index, "the connection lives on"


def test_who_leads_already_leads_on(world):
    peer = world.connect()
    for arguments in ({"from": "n2"}, {"to": "n1"}):
        assert peer.call(m.ChangeCluster, "transfer", arguments).answer == {"leader": "n1", "to": None}
