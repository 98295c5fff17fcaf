from __future__ import annotations

from .rig import World, complete, task, task_id


def test_a_task_goes_through():
    world = World()
    peer = world.connect()
    assert peer.submit(task(1)).items == [0]
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    assert peer.report(session, complete(grant)) == [0]
    assert peer.state(task_id(1)) == "completed"
