from __future__ import annotations

import typing

from tq.broker import services
from tq.broker.advance_timers import AdvanceTimers
from tq.broker.bulk_jobs import BulkJobs
from tq.broker.expire_leases import ExpireLeases
from tq.errors import BrokerUnavailable
from tq.machine.commands import Advance

from .rig import World, task, task_id


def test_all_services_are_run_by_the_broker():
    world = World()
    assert [type(service) for service in world.broker._services] == [ExpireLeases, AdvanceTimers, BulkJobs]


def test_timers_are_late_by_the_period_at_most():
    world = World()
    peer = world.connect()
    peer.submit(task(1, delay_ms=1_000))
    world.advance_ms(1_000 + services.PERIOD_MS)
    assert peer.state(task_id(1)) == "pending"


class Counting:
    def __init__(self) -> None:
        self.runs = 0

    def run_once(self) -> None:
        self.runs += 1


def test_they_run_on_a_leader_that_serves_and_on_nobody_else():
    world = World()
    service = Counting()
    world.broker._services = [service]
    world.look()
    assert service.runs == 1
    world.broker.on_role(False)
    world.broker.look()
    assert service.runs == 1
    world.broker.on_role(True)
    world.settle()
    world.broker.look()
    assert service.runs == 2
    world.broker.stop()
    world.broker.look()
    assert service.runs == 2


def test_a_service_may_run_twice_and_no_harm_is_done():
    """Two nodes may both believe that they lead: what is proposed twice happens once."""
    world = World()
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1), task(2, delay_ms=500))
    (_grant,) = peer.claim(session, 1)
    world.clock.advance_ms(900)
    world.broker.leases._look()
    for _ in range(6):
        world.clock.advance_ms(900)
        world.broker.leases._look()
    for service in world.broker._services * 2:
        service.run_once()
    world.broker.leases._quiet_until_ms.clear()
    for service in world.broker._services * 2:
        typing.cast(typing.Any, service)._under_way = set() if isinstance(service, AdvanceTimers) else None
        service.run_once()
    world.settle()
    found = peer.get(task_id(1))
    assert (found["state"], found["crashes"]) == ("pending", 1)
    assert peer.state(task_id(2)) == "pending"


def test_what_a_service_proposed_is_not_lost_with_leadership():
    """The answer says so, and the next leader looks again."""
    world = World(late=True)
    answers: list[object] = []

    world.broker.proposer.propose(Advance(0, 1, 0), 1, 1, lambda answer, index: answers.append(answer))
    world.settle()
    world.broker.on_role(False)
    assert isinstance(answers[0], BrokerUnavailable)
    world.finish_sync()
    assert len(answers) == 1


def test_the_protocols_are_met():
    propose: services.Propose = World().broker.proposer.propose
    assert callable(propose)
