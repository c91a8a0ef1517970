"""Stories of the scheduler: what starts next, and where."""

from __future__ import annotations

from typing import Any

import pytest

from leoronic.core.effects import Asked, Effect, Fired, Reply, Send, SetTimer
from leoronic.core.queue_messages import Feasible, Item, Offered, SchedulerStarted, Withdrawn
from leoronic.core.records import ClassTable, TaskClass
from leoronic.core.resources import Capacity
from leoronic.core.scheduler import (
    FILES_EVERY_S,
    PATIENCE_S,
    SchedulerMachine,
    Start,
)
from leoronic.core.scheduler_messages import (
    Assign,
    CheckFiles,
    Explain,
    FilesPresent,
    Freed,
    Held,
    Offer,
)
from leoronic.core.spec import TaskSpec
from tests.core.world import World

NODE = Capacity(2000, 100, 100, (("gpu", 1.0),))


class Scheduler:
    """The machine with one node of two cpus, and a clock."""

    def __init__(self, **offer: Any) -> None:
        self.machine = SchedulerMachine()
        self.now = 0.0
        self.classes = ClassTable()
        self.order = 0
        assert [Send("queue", SchedulerStarted())] == self.told(Start())
        self.offer(**offer)

    def told(self, message: object) -> list[Effect]:
        return self.machine.handle(message, self.now)

    def offer(self, **changes: Any) -> list[Effect]:
        fields: dict[str, Any] = {
            "node": "n",
            "name": "name",
            "capacity": NODE,
            "tags": frozenset(),
            "draining": False,
            "held": [],
            **changes,
        }
        return self.told(Offer(**fields))

    def task_class(self, **fields: Any) -> TaskClass:
        return self.classes.intern(TaskSpec("x", **fields))

    def item(self, task: str, order: int | None = None, attempt: int = 1) -> Item:
        self.order += 1
        return Item(task, attempt, 0, self.order if order is None else order)

    def add(self, *tasks: str, **fields: Any) -> list[Effect]:
        """The queue offers these tasks, of one class."""
        items = [self.item(task) for task in tasks]
        return self.told(Offered(self.task_class(**fields), items))

    def started(self, effects: list[Effect]) -> list[str]:
        """The tasks that these effects assign; there is nothing else but timers."""
        found: list[str] = []
        for effect in effects:
            if isinstance(effect, SetTimer):
                continue
            assert isinstance(effect, Send), effect
            assert isinstance(effect.message, Assign), effect
            assert [] == effect.message.ahead
            found += [item.task for item, _ in effect.message.items]
        return found

    def free(self, *tasks: str, wants: dict[int, int] | None = None) -> list[Effect]:
        """These attempts ended."""
        return self.told(Freed("n", [((task, 1), None) for task in tasks], wants or {}))


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


# ---- order ----


def test_an_assignment_names_item_and_class(scheduler: Scheduler) -> None:
    """One message for all that starts now."""
    task_class = scheduler.task_class()
    a, b, c = scheduler.item("a"), scheduler.item("b"), scheduler.item("c")
    assert [Send("runner", Assign([(a, task_class), (b, task_class)]))] == scheduler.told(
        Offered(task_class, [a, b, c])
    )
    assert [Send("runner", Assign([(c, task_class)]))] == scheduler.free("a")
    assert [] == scheduler.free("b", "c")


def test_priority_then_order_of_submission(scheduler: Scheduler) -> None:
    """Across classes: the higher priority first, then the older."""
    assert ["r"] == scheduler.started(scheduler.add("r", cpus=2.0))
    scheduler.add("old", cpus=1.5)
    scheduler.add("new", cpus=1.75)
    scheduler.add("urgent", cpus=2.0, priority=1)
    assert ["urgent"] == scheduler.started(scheduler.free("r"))
    assert ["old"] == scheduler.started(scheduler.free("urgent"))
    assert ["new"] == scheduler.started(scheduler.free("old"))


def test_classes_take_turns_by_age(scheduler: Scheduler) -> None:
    """The order of submission holds across classes, task by task."""
    scheduler.add("r", cpus=2.0)
    small, large = scheduler.task_class(memory=1), scheduler.task_class(memory=2)
    items = [scheduler.item(task) for task in "abcd"]
    scheduler.told(Offered(small, [items[0], items[2]]))
    scheduler.told(Offered(large, [items[1], items[3]]))
    order = scheduler.started(scheduler.free("r"))
    order += scheduler.started(scheduler.free("a"))
    order += scheduler.started(scheduler.free("b"))
    assert ["a", "b", "c", "d"] == order


def test_the_first_that_fits_starts(scheduler: Scheduler) -> None:
    """What does not fit lets younger ones pass."""
    scheduler.add("r", cpus=1.0)
    assert [] == scheduler.started(scheduler.add("big", cpus=2.0))
    assert ["small"] == scheduler.started(scheduler.add("small", cpus=0.5))


def test_what_comes_back_keeps_its_place(scheduler: Scheduler) -> None:
    """A retry is older than what was offered meanwhile."""
    scheduler.add("r", cpus=2.0)
    scheduler.add("late")
    scheduler.told(Offered(scheduler.task_class(), [scheduler.item("back", order=0)]))
    assert ["back", "late"] == scheduler.started(scheduler.free("r"))


def test_what_is_withdrawn_does_not_start(scheduler: Scheduler) -> None:
    """Some of a class, or all of it; what is not known is no matter."""
    scheduler.add("r", cpus=2.0)
    scheduler.add("a", "b", "c")
    number = scheduler.task_class().number
    assert [] == scheduler.told(Withdrawn(number, ["a", "zzz"]))
    assert [] == scheduler.told(Withdrawn(999))
    assert ["b", "c"] == scheduler.started(scheduler.free("r"))
    scheduler.add("d", "e")
    scheduler.told(Withdrawn(number))
    assert [] == scheduler.free("b", "c")


def test_an_attempt_is_assigned_once(scheduler: Scheduler) -> None:
    """Offered again while it holds its share, it is dropped."""
    assert ["a"] == scheduler.started(scheduler.add("a"))
    assert [] == scheduler.add("a")
    assert ["b"] == scheduler.started(scheduler.add("b"))


# ---- needs ----


def test_exclusive_tasks_are_alone_and_come_to_it() -> None:
    """One that wants the node to itself is not passed by for ever by small ones."""
    world = World(cpus=2.0)
    world.add("s0")
    world.add("s1")
    world.add("alone", concurrent=False)
    number = 2
    for _ in range(40):
        world.advance(1.0)
        if "alone" in world.running():
            break
        world.add(f"s{number}")
        number += 1
        world.finish(world.running()[0])
    assert ["alone"] == world.running()
    assert number < 12
    world.add("later")
    assert ["alone"] == world.running()
    world.finish("alone")
    assert 2 == len(world.running())


def test_big_tasks_are_not_starved() -> None:
    """After `PATIENCE_S` of being passed by, a node keeps free what the big one needs."""
    world = World(cpus=4.0)
    for number in range(4):
        world.add(f"s{number}", cpus=1.0)
    world.add("big", cpus=3.0)
    number, waited_s = 4, 0.0
    while "big" not in world.running():
        world.add(f"s{number}", cpus=1.0)
        number += 1
        world.advance(0.5)
        waited_s += 0.5
        world.finish(world.running()[0])
        assert waited_s < PATIENCE_S + 5.0, "starved"
    assert waited_s > PATIENCE_S
    assert 1 == len(set(world.running()) - {"big"})  # beside it there is room for one


def reserved(scheduler: Scheduler) -> None:
    """`big` waits for both cpus, of which `r` has one, and has been passed by for too long."""
    scheduler.add("r", cpus=1.0)
    scheduler.add("big", cpus=2.0)
    assert ["s"] == scheduler.started(scheduler.add("s", cpus=0.5))
    scheduler.now += PATIENCE_S
    assert [] == scheduler.told(Fired("patience"))


def test_patience_is_timed(scheduler: Scheduler) -> None:
    """From the first time that it was passed by."""
    scheduler.add("r", cpus=1.0)
    scheduler.add("big", cpus=2.0)
    scheduler.now = 100.0
    effects = scheduler.add("s", cpus=0.5)
    assert SetTimer("patience", 100.0 + PATIENCE_S) in effects


def test_a_reservation_lets_pass_only_what_leaves_room(scheduler: Scheduler) -> None:
    """Nothing that the waiting task would have to wait for."""
    reserved(scheduler)
    assert [] == scheduler.add("t", cpus=0.5)
    assert ["free of charge"] == scheduler.started(scheduler.add("free of charge", cpus=0.0))
    assert [] == scheduler.free("s")
    assert ["big"] == scheduler.started(scheduler.free("r"))


def test_a_reservation_outlives_a_new_offer(scheduler: Scheduler) -> None:
    """A disk that fills up changes the offer every half minute: that must not starve anybody."""
    reserved(scheduler)
    scheduler.add("t", cpus=0.5)
    need = scheduler.task_class(cpus=1.0).need
    less = Capacity(2000, 100, 50, (("gpu", 1.0),))
    assert [] == scheduler.offer(capacity=less, held=[Held("r", 1, need)])
    assert ["big"] == scheduler.started(scheduler.free("r"))


def test_a_reservation_ends_with_what_it_was_for(scheduler: Scheduler) -> None:
    """The big task was cancelled: the others go on at once."""
    reserved(scheduler)
    scheduler.add("t", cpus=0.5)
    number = scheduler.task_class(cpus=2.0).number
    assert ["t"] == scheduler.started(scheduler.told(Withdrawn(number)))


def test_a_reservation_ends_when_the_node_can_not_serve_it(scheduler: Scheduler) -> None:
    """The node has shrunk: what could never start there must not keep others from it."""
    reserved(scheduler)
    scheduler.add("t", cpus=0.25)
    need = scheduler.task_class(cpus=1.0).need
    effects = scheduler.offer(capacity=Capacity(1500, 100, 100), held=[Held("r", 1, need)])
    number = scheduler.task_class(cpus=2.0).number
    told = Send("queue", Feasible(number, ["name: needs 2 cpus, the node has 1.5 in all"]))
    assert told == effects[0]
    assert ["t"] == scheduler.started(effects[1:])


def test_custom_resources(scheduler: Scheduler) -> None:
    """One gpu, one task at a time; what needs none passes."""
    gpu = {"gpu": 1.0}
    assert ["g1"] == scheduler.started(scheduler.add("g1", "g2", resources=gpu))
    assert ["c"] == scheduler.started(scheduler.add("c"))
    assert ["g2"] == scheduler.started(scheduler.free("g1"))


def test_what_no_node_could_ever_run_is_told(scheduler: Scheduler) -> None:
    """Once when it is so, and once when it is so no more."""
    number = scheduler.task_class(cpus=4.0).number
    obstacles = ["name: needs 4 cpus, the node has 2 in all"]
    assert [Send("queue", Feasible(number, obstacles))] == scheduler.add("a", cpus=4.0)
    assert [] == scheduler.add("b", cpus=4.0)
    [told, assign] = scheduler.offer(capacity=Capacity(4000, 0, 0))
    assert Send("queue", Feasible(number, [])) == told
    assert ["a"] == scheduler.started([assign])


# ---- conditions on the worker ----


def test_tags(scheduler: Scheduler) -> None:
    """A tag that is there, one that must not be; both by the node's last offer."""
    assert [] == scheduler.add("tagged", conditions=("worker:tag fast",))
    assert ["not"] == scheduler.started(scheduler.add("not", conditions=("worker:not_tag fast",)))
    assert ["tagged"] == scheduler.started(scheduler.offer(tags=frozenset({"fast"})))
    assert [] == scheduler.add("not2", conditions=("worker:not_tag fast",))


def test_has_file(scheduler: Scheduler) -> None:
    """The executor is asked at once and then every few seconds, while somebody waits for it."""
    look = [Send("runner", CheckFiles(["data"])), SetTimer("files", FILES_EVERY_S)]
    assert look == scheduler.add("a", conditions=("worker:has_file data",))
    assert [] == scheduler.told(FilesPresent("n", frozenset()))
    scheduler.now = 2.0
    assert [look[0], SetTimer("files", 4.0)] == scheduler.told(Fired("files"))
    assert ["a"] == scheduler.started(scheduler.told(FilesPresent("n", frozenset({"data"}))))
    assert [] == scheduler.told(Fired("files"))


def test_a_draining_node_runs_what_is_meant_for_it_alone(scheduler: Scheduler) -> None:
    """By id or by name; what is meant for another node is for nobody here."""
    scheduler.offer(draining=True)
    assert [] == scheduler.add("a")
    assert ["by id"] == scheduler.started(scheduler.add("by id", node="n"))
    assert ["by name"] == scheduler.started(scheduler.add("by name", node="name"))
    [told] = scheduler.add("other", node="m")
    assert isinstance(told, Send)
    assert isinstance(told.message, Feasible)
    assert ["name: the task is meant for node m"] == told.message.obstacles
    assert ["a"] == scheduler.started(scheduler.offer())


# ---- ahead ----


def ahead(effects: list[Effect]) -> list[str]:
    found: list[str] = []
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Assign):
            found += [item.task for item, _ in effect.message.ahead]
    return found


def test_short_tasks_are_sent_ahead(scheduler: Scheduler) -> None:
    """As many as are wanted, of the class whose turn it is."""
    scheduler.add("a", "b", "c", "d", "e", "f")
    number = scheduler.task_class().number
    [effect] = scheduler.free("a", wants={number: 2})
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Assign)
    assert ["c"] == [item.task for item, _ in effect.message.items]
    assert ["d", "e"] == ahead([effect])
    assert [] == scheduler.told(Fired("patience"))  # what was wanted was sent, once


def test_not_ahead_of_the_class_whose_turn_it_is(scheduler: Scheduler) -> None:
    """An older or more urgent class of other needs waits: nobody overtakes it that way."""
    scheduler.add("a", "b", "c", "d")
    number = scheduler.task_class().number
    scheduler.add("urgent", cpus=2.0, priority=1)
    assert [] == ahead(scheduler.free("a", wants={number: 2}))


def test_not_ahead_if_it_must_not_run_twice(scheduler: Scheduler) -> None:
    """What only stood in a lane when its runner was lost would be held without having run."""
    scheduler.add("a", "b", "c", "d", on_loss="hold")
    number = scheduler.task_class(on_loss="hold").number
    assert [] == ahead(scheduler.free("a", wants={number: 2}))


def test_not_ahead_on_a_reserved_node(scheduler: Scheduler) -> None:
    """It would keep the waiting task from its node."""
    reserved(scheduler)
    scheduler.add("x", "y", cpus=0.5, priority=5)
    number = scheduler.task_class(cpus=0.5, priority=5).number
    assert [] == ahead(scheduler.free("s", wants={number: 2}))


def test_a_successor_keeps_the_share(scheduler: Scheduler) -> None:
    """What took over in a lane holds what the one before it held."""
    scheduler.add("a", "b", "c")
    assert [] == scheduler.told(Freed("n", [(("a", 1), ("x", 1))]))
    assert ["c"] == scheduler.started(scheduler.told(Freed("n", [(("x", 1), None)])))


# ---- lives ----


def test_an_offer_tells_what_is_held(scheduler: Scheduler) -> None:
    """By level: the ledger is as the executor says, not as it was thought."""
    scheduler.add("a", "b", "c")
    need = scheduler.task_class().need
    assert ["c"] == scheduler.started(scheduler.offer(held=[Held("a", 1, need)]))


def test_a_fresh_executor_makes_the_queue_offer_again(scheduler: Scheduler) -> None:
    """What was assigned to its former life and is not held never arrived."""
    scheduler.add("a", "b", "c")
    assert [Send("queue", SchedulerStarted())] == scheduler.offer(fresh=True)
    assert ["c"] == scheduler.started(scheduler.add("c"))


def test_a_node_that_is_not_known_frees_nothing() -> None:
    """Messages of an executor before its first offer change nothing."""
    machine = SchedulerMachine()
    assert [] == machine.handle(Freed("n", [(("a", 1), None)]), 0.0)
    assert [] == machine.handle(FilesPresent("n", frozenset()), 0.0)


# ---- questions ----


def explain(scheduler: Scheduler, **fields: Any) -> list[str]:
    [answer] = scheduler.told(Asked(1, Explain(scheduler.task_class(**fields).number)))
    assert isinstance(answer, Reply)
    return answer.result["name"]  # type: ignore[index, no-any-return]


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


def test_why_beside_a_reservation(scheduler: Scheduler) -> None:
    """The reservation is a reason like any other."""
    reserved(scheduler)
    scheduler.add("t", cpus=0.25)
    told = explain(scheduler, cpus=0.25)
    assert ["the node is kept free for a bigger task that waited longer"] == told


# ---- cost ----


def test_a_round_costs_the_same_whatever_is_queued() -> None:
    """With a hundred times the tasks, as many messages, and no more is in the windows."""

    def effort(count: int) -> tuple[int, int]:
        world = World(cpus=2.0)
        world.submit(*["x"] * count)
        before = world.handled
        for _ in range(50):
            world.finish(world.running()[0])
        machine = world.machines["scheduler"]
        assert isinstance(machine, SchedulerMachine)
        held = sum(len(known.items) for known in machine._classes.values())
        return world.handled - before, held

    assert effort(300) == effort(5_000)
