"""Stories of the scheduler: what starts next, and where."""

from __future__ import annotations

import pytest

from leoronic.core.blob import FileRef
from leoronic.core.effects import Fired, Send, SetTimer
from leoronic.core.nodes import NodePicture
from leoronic.core.peer import (
    Assign,
    AssignClass,
    AssignItem,
    CheckFiles,
    FilesPresent,
    Freed,
    Held,
)
from leoronic.core.pictures import FILES_EVERY_S
from leoronic.core.placement import PATIENCE_S
from leoronic.core.queue_messages import (
    Offered,
    Withdrawn,
)
from leoronic.core.records import TaskClass
from leoronic.core.resources import Capacity
from tests.core.scheduling import (
    Scheduler,
    ahead,
    placed,
    reserved,
    two,
)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


# ---- order ----


def test_an_assignment_names_items_and_classes(scheduler: Scheduler) -> None:
    """One message for all that starts now."""
    task_class = scheduler.task_class()
    a, b, c = scheduler.item("a"), scheduler.item("b"), scheduler.item("c")
    [effect] = scheduler.told(Offered(task_class, [a, b, c]))
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Assign)
    number = task_class.number
    items = [AssignItem("a", 1, 0, number), AssignItem("b", 1, 0, number)]
    classes = [AssignClass(number, task_class.need)]
    expected = Assign("n", items, [], classes, number=effect.message.number)
    assert ("runner", expected) == effect
    assert ["c"] == scheduler.started(scheduler.free("a"))
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


def test_patience_is_timed(scheduler: Scheduler) -> None:
    """From the first time that it was passed by."""
    scheduler.add("r", cpus=1.0)
    scheduler.add("big", cpus=2.0)
    scheduler.now += 100.0
    scheduler.add("s", cpus=0.5)
    assert SetTimer("patience", scheduler.now + PATIENCE_S) in scheduler.timers()


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
    assert [] == scheduler.started(scheduler.offer(capacity=less, held=[Held("r", 1, need)]))
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
    assert ["t"] == scheduler.started(effects)


def test_custom_resources(scheduler: Scheduler) -> None:
    """One gpu, one task at a time; what needs none passes."""
    gpu = {"gpu": 1.0}
    assert ["g1"] == scheduler.started(scheduler.add("g1", "g2", resources=gpu))
    assert ["c"] == scheduler.started(scheduler.add("c"))
    assert ["g2"] == scheduler.started(scheduler.free("g1"))


# ---- conditions on the worker ----


def test_tags(scheduler: Scheduler) -> None:
    """A tag that is there, one that must not be; both by the node's last offer."""
    assert [] == scheduler.add("tagged", conditions=("worker:tag fast",))
    assert ["not"] == scheduler.started(scheduler.add("not", conditions=("worker:not_tag fast",)))
    assert ["tagged"] == scheduler.started(scheduler.offer(tags=frozenset({"fast"})))
    assert [] == scheduler.add("not2", conditions=("worker:not_tag fast",))


def test_has_file(scheduler: Scheduler) -> None:
    """The executor is asked at once and then every few seconds, while somebody waits for it."""
    look = [Send("runner", CheckFiles("n", ["data"]))]
    assert look == scheduler.add("a", conditions=("worker:has_file data",))
    assert [SetTimer("files", scheduler.now + FILES_EVERY_S)] == scheduler.timers()
    assert [] == scheduler.told(FilesPresent("n", frozenset()))
    scheduler.now += FILES_EVERY_S
    assert look == scheduler.told(Fired("files"))
    assert [SetTimer("files", scheduler.now + FILES_EVERY_S)] == scheduler.timers()
    assert ["a"] == scheduler.started(scheduler.told(FilesPresent("n", frozenset({"data"}))))
    assert [] == scheduler.told(Fired("files"))


def test_a_draining_node_runs_what_is_meant_for_it_alone(scheduler: Scheduler) -> None:
    """By id or by name; what is meant for another node is for nobody here."""
    scheduler.offer(draining=True)
    assert [] == scheduler.add("a")
    assert ["by id"] == scheduler.started(scheduler.add("by id", node="n"))
    assert ["by name"] == scheduler.started(scheduler.add("by name", node="name-n"))
    assert [] == scheduler.add("other", node="m")
    assert ["a"] == scheduler.started(scheduler.offer())


# ---- ahead ----


def test_short_tasks_are_sent_ahead(scheduler: Scheduler) -> None:
    """As many as are wanted, of the class whose turn it is."""
    scheduler.add("a", "b", "c", "d", "e", "f")
    number = scheduler.task_class().number
    [effect] = scheduler.free("a", wants={number: 2})
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Assign)
    assert ["c"] == [item.task for item in effect.message.items]
    assert ["d", "e"] == ahead([effect])
    assert [] == scheduler.told(Fired("patience"))  # what was wanted was sent, once


def test_the_last_ones_are_shared_out_ahead() -> None:
    """They do not all stand in the lanes of one node."""
    scheduler = two()
    scheduler.add("d")
    number = scheduler.task_class().number
    scheduler.told(Freed("m", [(("c", 1), ("x", 1))], wants={number: 16}))
    scheduler.told(Freed("n", [(("a", 1), ("y", 1))], wants={number: 16}))
    effects = scheduler.add(*"efghij")
    sent = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Assign)]
    assert [3, 3] == [len(assign.ahead) for assign in sent]


def test_what_is_under_way_counts_as_sent_ahead() -> None:
    """What an executor wants is less by what it had not seen yet when it said so."""
    scheduler = Scheduler()
    scheduler.add(*"abcdefghij")
    number = scheduler.task_class().number

    def wanted(room: int, seen: int) -> list[str]:
        freed = Freed("n", [], wants={number: room}, seen=seen)
        return ahead(scheduler.told(freed))

    before = scheduler.machine._out.number
    assert ["c", "d"] == wanted(2, before)
    assert ["e"] == wanted(3, before)
    assert ["f", "g", "h"] == wanted(3, scheduler.machine._out.number)


def test_what_started_instead_of_standing_behind_holds_its_share() -> None:
    """It is its own task, so nobody was overtaken; when it ends there is room again."""
    scheduler = Scheduler()
    scheduler.add("a", "b", "c", "d")
    number = scheduler.task_class().number
    assert ["c"] == ahead(scheduler.told(Freed("n", wants={number: 1})))
    need = scheduler.task_class().need
    taken = Freed("n", [(("a", 1), None), (("b", 1), None)], taken=[Held("c", 1, need, "n")])
    assert ["d"] == scheduler.started(scheduler.told(taken))
    assert not scheduler.machine.placement.overtaken()
    assert [] == scheduler.add("e", "f")
    assert ["e"] == scheduler.started(scheduler.free("c"))


def test_not_ahead_of_the_class_whose_turn_it_is(scheduler: Scheduler) -> None:
    """An older or more urgent class of other needs waits: nobody overtakes it that way."""
    scheduler.add("a", "b", "c", "d")
    number = scheduler.task_class().number
    scheduler.add("urgent", cpus=2.0, priority=1)
    assert [] == ahead(scheduler.free("a", wants={number: 2}))


@pytest.mark.parametrize("size", [1, 2**30])
def test_ahead_with_files_if_these_are_small(size: int) -> None:
    """Copies are made while it stands in a lane, where it holds no room for them."""
    scheduler = Scheduler(capacity=Capacity(2000, 2**40, 2**40))
    fields = {"files": (FileRef("f", "f", "s2:" + "0" * 64, size),)}
    scheduler.add("a", "b", "c", "d", **fields)
    number = scheduler.task_class(**fields).number
    found = ahead(scheduler.told(Freed("n", wants={number: 2})))
    assert (["c", "d"] if size == 1 else []) == found


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


# ---- cost ----


def test_a_round_looks_only_at_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thirty nodes and forty classes that wait, room on one node is no work for the others."""
    nodes = [f"m{number}" for number in range(30)]
    scheduler = Scheduler(*nodes)
    scheduler.add(*[f"t{number}" for number in range(200)])
    for node in nodes:
        scheduler.offer(node=node, name=node)
    for number in range(40):
        scheduler.add(f"w{number}", memory=number + 1)
    looked: list[str] = []
    may_start = NodePicture.may_start

    def counted(self: NodePicture, task_class: TaskClass, now: float) -> bool:
        looked.append(self.node)
        return may_start(self, task_class, now)

    monkeypatch.setattr(NodePicture, "may_start", counted)
    key = next(iter(scheduler.machine.placement.nodes["m7"].ledger.held))
    found = placed(scheduler.told(Freed("m7", [(key, None)])))
    assert {"m7": 1} == {node: len(tasks) for node, tasks in found.items()}
    assert {"m7"} == set(looked)
    assert len(looked) <= 2 + 41
    looked.clear()
    assert {} == placed(scheduler.told(FilesPresent("m7", frozenset())))
    assert [] == looked
