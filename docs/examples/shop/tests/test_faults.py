"""What happens when machines fail. A task runs at least once; that is no reason to charge twice."""

from __future__ import annotations

from shop import bank
from shop.tasks import Order, app, charge, charge_naively

from tq.testing import Cluster, cluster

ORDER = Order(1, "4242", 1999, "a@example.org")


def test_a_leader_dies_and_nobody_notices(tq_cluster: Cluster) -> None:
    handles = [charge.submit(Order(number, "4242", 100, "a@example.org")) for number in range(10)]
    tq_cluster.kill("leader")
    assert sorted(handle.result(timeout=60) for handle in handles) == sorted(f"R{number}" for number in range(1, 11))
    assert len(bank.BANK.statement) == 10


def die_after_charging(task: object) -> str:
    """A worker charges the card, and is killed before it can say so. Another one gets the task."""
    with cluster(lease=5) as nodes:
        nodes.use(app)
        nodes.worker(app, name="first").kill("handled")
        handle = task.submit(ORDER)  # type: ignore[attr-defined]
        nodes.run_until_idle()
        nodes.worker(app, name="second")
        receipt: str = handle.result(timeout=60)
        assert handle.status().crashes == 1
        return receipt


def test_a_charge_with_a_key_is_one_charge() -> None:
    assert die_after_charging(charge) == "R1"
    assert bank.BANK.statement == [("4242", 1999)]


def test_a_charge_without_a_key_is_two() -> None:
    """This is the test that shows the slip in ``charge_naively``."""
    assert die_after_charging(charge_naively) == "R2"
    assert bank.BANK.statement == [("4242", 1999), ("4242", 1999)]


def test_a_worker_that_is_cut_off_loses_its_task() -> None:
    with cluster(lease=5) as nodes:
        nodes.use(app)
        cut_off = nodes.worker(app, name="cut-off")
        cut_off.freeze()
        handle = charge.submit(ORDER)
        nodes.partition([cut_off], nodes.nodes)
        cut_off.thaw()
        nodes.advance(10)
        assert handle.status().state == "pending"
        nodes.worker(app, name="other")
        assert handle.result(timeout=60) == "R1"
        nodes.heal()
        nodes.advance(10)
        assert bank.BANK.statement == [("4242", 1999)]
