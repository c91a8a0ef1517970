"""Stories of the scheduler: several nodes, questions, and a process that stood still."""

from __future__ import annotations

import pytest
from msgspec import structs

from leoronic.core.barrier import SETTLE_S
from leoronic.core.effects import Asked, Fired, Reply, Send, SetTimer
from leoronic.core.peer import (
    CheckFiles,
    FilesPresent,
    Freed,
    Held,
    Reserve,
)
from leoronic.core.placement import PATIENCE_S
from leoronic.core.queue_messages import (
    Offered,
    Withdrawn,
)
from leoronic.core.resources import Capacity
from leoronic.core.scheduler import STILL_S
from leoronic.core.scheduler_messages import Explain
from leoronic.core.view import AskView
from tests.core.scheduling import (
    Scheduler,
    explain,
    placed,
    reserved,
    two,
)
from tests.core.views import make_view


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


# ---- questions ----


def test_why_a_task_does_not_start(scheduler: Scheduler) -> None:
    """Node by node, all that stands in the way."""
    scheduler.add("a", "b")
    scheduler.add("c")
    assert ["needs 1 cpus, less is free now"] == explain(scheduler)
    scheduler.add("d", cpus=0.0, conditions=("worker:tag x", "worker:has_file f"))
    assert ["worker:tag x does not hold", "worker:has_file f does not hold"] == explain(
        scheduler, cpus=0.0, conditions=("worker:tag x", "worker:has_file f")
    )
    scheduler.add("e", cpus=0.0, conditions=("worker:not_tag y",))
    need = scheduler.task_class().need
    held = [Held("a", 1, need), Held("b", 1, need)]
    scheduler.offer(draining=True, tags=frozenset({"y"}), held=held)
    scheduler.add("f", cpus=0.0, conditions=("worker:not_tag y",))
    assert ["the node is draining", "worker:not_tag y does not hold"] == explain(
        scheduler, cpus=0.0, conditions=("worker:not_tag y",)
    )
    [answer] = scheduler.told(Asked(2, Explain(999)))
    assert Reply(2, {}) == answer


def test_a_condition_that_is_not_known_never_holds(scheduler: Scheduler) -> None:
    """Another version took the task in; this one says why it does not start."""
    assert [] == scheduler.started(scheduler.add("a", conditions=("worker:arch arm",)))
    expected = "this version of leoronic does not know the condition worker:arch arm"
    assert [expected] == explain(scheduler, conditions=("worker:arch arm",))


def test_why_beside_a_reservation(scheduler: Scheduler) -> None:
    """The reservation is a reason like any other."""
    reserved(scheduler)
    scheduler.add("t", cpus=0.25)
    told = explain(scheduler, cpus=0.25)
    assert ["the node is kept free for a bigger task that waited longer"] == told


# ---- several nodes ----


def test_own_node_first_then_the_others() -> None:
    """What it can take at once goes nowhere else; the next to where most is free."""
    scheduler = two()
    assert {"m": ["d"]} == placed(scheduler.add("d"))
    assert {} == placed(scheduler.add("e"))
    assert {"n": ["e"]} == placed(scheduler.free("a"))
    scheduler.free("b", "e")
    scheduler.told(Freed("m", [(("c", 1), None)]))
    assert {"n": ["f", "g"], "m": ["h"]} == placed(scheduler.add("f", "g", "h"))


def test_many_go_in_one_message_to_each_node() -> None:
    """Spread over all that have room."""
    scheduler = two(capacity=Capacity(64_000, 1 << 40, 1 << 40))
    effects = scheduler.add(*[f"t{number}" for number in range(100)], cpus=1.0)
    [sent] = [effect for effect in effects if placed([effect])]
    assert 63 == len(placed([sent])["m"])


def test_conditions_and_pins_of_other_nodes() -> None:
    """Tags, files and names hold for the node that has them; all nodes are asked for files."""
    scheduler = two(tags=frozenset({"fast"}))
    assert {"m": ["t"]} == placed(scheduler.add("t", conditions=("worker:tag fast",)))
    assert {"m": ["p"]} == placed(scheduler.add("p", node="name-m", cpus=0.0))
    effects = scheduler.add("f", conditions=("worker:has_file data",), cpus=0.0)
    asked = {e.to for e in effects if isinstance(e, Send) and isinstance(e.message, CheckFiles)}
    assert {"runner", "runner@m"} == asked
    found = FilesPresent("m", frozenset({"data"}))
    assert {"m": ["f"]} == placed(scheduler.told(found))


def test_a_reservation_is_told() -> None:
    """So that other owners respect it; and when it is over."""
    scheduler = two()
    scheduler.add("big", cpus=2.0)
    need = scheduler.task_class(cpus=2.0).need
    number = scheduler.task_class(cpus=2.0).number
    scheduler.add("s", cpus=0.5)
    scheduler.now += PATIENCE_S
    effects = scheduler.told(Fired("patience"))
    [sent] = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Reserve)]
    assert isinstance(sent.message, Reserve)
    assert ("runner@m", need) == (sent.to, sent.message.need)
    assert Send("runner@m", Reserve("n", number)) in scheduler.told(Withdrawn(number))


def test_who_is_overtaken_by_other_owners_is_patient_no_longer() -> None:
    """Others' tasks that took the room count as well."""
    scheduler = two()
    scheduler.add("big", cpus=2.0)
    need = scheduler.task_class(cpus=0.5).need
    scheduler.told(Freed("m", taken=[Held("theirs", 1, need, "o")]))
    assert [SetTimer("patience", scheduler.now + PATIENCE_S)] == scheduler.timers()


def test_why_node_by_node() -> None:
    """Of those that did not tell yet, that."""
    scheduler = Scheduler("m")
    scheduler.add("a", "b")
    scheduler.add("c")
    [answer] = scheduler.told(Asked(1, Explain(scheduler.task_class().number)))
    assert isinstance(answer, Reply)
    assert {
        "name-n": ["needs 1 cpus, less is free now"],
        "name-m": ["it has not told what is free yet"],
    } == answer.result


# ---- cost ----


def test_who_heard_nothing_for_a_while_asks_whether_it_still_owns_anything() -> None:
    """Before it places anything: its process may have stood still, and been given up."""
    scheduler = two()
    machine, now = scheduler.machine, scheduler.now + STILL_S + 0.1
    waits = Offered(scheduler.task_class(), [scheduler.item("d")])
    effects = machine.handle(waits, now)
    assert Send("membership", AskView("scheduler")) in effects
    assert {} == placed(effects)
    old = structs.replace(make_view("n", "m"), at=now - 0.01)
    assert {} == placed(machine.handle(old, now + 0.01))
    again = machine.handle(Fired("view"), now + STILL_S)
    assert Send("membership", AskView("scheduler")) in again
    new = structs.replace(make_view("n", "m"), at=now + STILL_S)
    assert ["d"] == [
        t for tasks in placed(machine.handle(new, now + STILL_S)).values() for t in tasks
    ]


@pytest.mark.parametrize("ready", [(), ("m",)])
def test_who_has_to_catch_up_places_nothing(ready: tuple[str, ...]) -> None:
    """Not even of its own, though nobody else may be ready; and then only once all were asked."""
    scheduler = two()
    catching_up = tuple(node for node in "nm" if node not in ready)
    scheduler.told(make_view("n", "m", catching_up=catching_up))
    assert {} == placed(scheduler.add("d"))
    assert {} == placed(scheduler.told(make_view("n", "m")))
    for node in "nm":
        told = scheduler.offer(node=node, name=f"name-{node}")
        assert {} == placed(told)
    scheduler.now += SETTLE_S
    assert 1 == len(placed(scheduler.told(Fired("barrier"))))


def test_alone_nobody_else_can_own_anything(scheduler: Scheduler) -> None:
    """So there is nothing to ask."""
    task_class = scheduler.task_class()
    offered = Offered(task_class, [scheduler.item("a")])
    assert {"n": ["a"]} == placed(scheduler.machine.handle(offered, scheduler.now + 60.0))
