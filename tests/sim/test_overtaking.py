"""What a node offers may overtake the entries that it wrote before: nothing runs twice for that."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from leoronic.core.executor_messages import SetDraining
from leoronic.core.peer import Entries, Push
from leoronic.core.queue_messages import SubmitSpecs
from leoronic.core.ring import owner_of
from leoronic.core.spec import TaskSpec
from leoronic.errors import LeoronicError
from leoronic.sim.cluster import Cluster
from leoronic.sim.node import SimNode
from leoronic.sim.plan import Plan
from leoronic.sim.switches import INTACT, Switches

TASK = "task1"
STEP_S = 0.05


def nobody_waits(_result: object, _error: LeoronicError | None) -> None:
    """What was asked for is seen."""


def drain(node: SimNode, *, on: bool) -> None:
    node.call("runner", SetDraining(on), nobody_waits)


def run_until(cluster: Cluster, holds: Callable[[], bool], within_s: float) -> None:
    until = cluster.clock.now + within_s
    while not holds():
        assert cluster.clock.now < until
        cluster.clock.run(cluster.clock.now + STEP_S)


def runs_of_an_owner_that_vanished(switches: Switches) -> list[str]:
    """Where TASK ran, if all this happens, by what that node was: origin, heir or executor.

    Its origin assigns it to another node and vanishes. There it ends; the offer that says so (as
    it is not in it) reaches the heir 2 s before the entries do.
    """
    cluster = Cluster(Random(1), 3, switches)
    origin = cluster.nodes[0]
    others = {node.id: node for node in cluster.nodes[1:]}
    heir = others.pop(owner_of(origin.id, sorted(others)))
    [executor] = others.values()
    for node in cluster.nodes:
        node.capacity = origin.capacity
        node.start_core()
    cluster.clock.run(10.0)
    executor._lets_pass = lambda message: (
        not (isinstance(message, Push | Entries) and message.node == executor.id)
    )
    drain(origin, on=True)
    drain(heir, on=True)
    cluster.clock.run(cluster.clock.now + 1.0)
    spec = TaskSpec(Plan(1, 1.0).command, cpus=0.5, id=TASK)
    origin.call("queue", SubmitSpecs([spec], "sim"), nobody_waits)
    run_until(cluster, lambda: cluster.watch(executor).running == 1, 5.0)
    origin.lose_power()
    drain(executor, on=True)
    drain(heir, on=False)
    run_until(cluster, lambda: (heir.id, origin.id) in cluster.history.given_up, 10.0)
    assert 0 == cluster.watch(executor).running
    cluster.clock.run(cluster.clock.now + 2.0)
    executor._lets_pass = None
    cluster.clock.run(cluster.clock.now + 20.0)
    assert "succeeded" == cluster.watch(heir).facts.tasks[TASK].final
    named = {"origin": origin, "heir": heir, "executor": executor}
    ran = [name for name, node in named.items() if (TASK, 1) in cluster.watch(node)._ran]
    cluster.close()
    return ran


@pytest.mark.parametrize(
    ("switches", "ran"),
    [(INTACT, ["executor"]), (Switches(awaits_entries=False), ["heir", "executor"])],
    ids=["intact", "entries are not awaited"],
)
def test_what_ended_is_not_taken_for_what_never_arrived(switches: Switches, ran: list[str]) -> None:
    """An heir waits for the entries that an offer stands on; without that it runs it again."""
    assert ran == runs_of_an_owner_that_vanished(switches)
