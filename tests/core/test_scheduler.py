"""Stories of the scheduler: what starts next, and where."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from leoronic.core.barrier import SETTLE_S, WAIT_S_MAX
from leoronic.core.effects import Asked, Effect, Fired, Reply, Send, SetTimer
from leoronic.core.interests import CALM_S, EVERY_S, LOOK_S
from leoronic.core.nodes import NodePicture
from leoronic.core.peer import (
    Assign,
    AssignClass,
    AssignItem,
    CheckFiles,
    FilesPresent,
    Freed,
    Held,
    Interest,
    Offer,
    Outstanding,
    Reserve,
)
from leoronic.core.placement import PATIENCE_S
from leoronic.core.queue_messages import (
    AskBegun,
    AskReached,
    Begun,
    Declined,
    Item,
    Offered,
    Reached,
    SchedulerStarted,
    Withdrawn,
)
from leoronic.core.records import ClassTable, TaskClass
from leoronic.core.resources import Capacity
from leoronic.core.scheduler import (
    ENTRIES_S,
    FILES_EVERY_S,
    OUTSTANDING_S,
    STILL_S,
    SchedulerMachine,
    Start,
)
from leoronic.core.scheduler_messages import Explain
from leoronic.core.spec import TaskSpec
from leoronic.core.view import AskView, View
from tests.core.views import make_view

ORIGIN = "mm"
"""A node that is gone, and that n stands in for, beside m and o as well."""
NODE = Capacity(2000, 100, 100, (("gpu", 1.0),))


class Scheduler:
    """The machine with one node of two cpus, and a clock; nothing is to be heard any more."""

    def __init__(self, *peers: str, **offer: Any) -> None:
        self.machine = SchedulerMachine("n")
        self.now = 100.0
        self.classes = ClassTable()
        self.order = 0
        assert [Send("queue", SchedulerStarted()), Send("membership", AskView("scheduler"))] == (
            self.told(Start())
        )
        self.told(make_view("n", *peers))
        self.offer(**offer)
        other = self.task_class(node="nobody")
        asked = interests(self.told(Offered(other, [self.item("first")])))
        for node, interest in asked.items():
            self.offer(node=node, name=f"name-{node}", seen=interest.number, **offer)
        self.told(Withdrawn(other.number))
        self.now += CALM_S
        self.told(Fired("barrier"))
        self.told(Fired("interest"))
        assert self.machine._barriers.is_clear("n")

    def told(self, message: object) -> list[Effect]:
        """What it says, timers apart; who asks for the view is told it at once."""
        if isinstance(message, View):
            message = structs.replace(message, at=self.now)
        self.effects = self.machine.handle(message, self.now)
        ask = Send("membership", AskView("scheduler"))
        if ask in self.effects and self.machine._view is not None:
            self.effects.remove(ask)
            view = structs.replace(self.machine._view, at=self.now)
            self.effects += self.machine.handle(view, self.now)
        return [effect for effect in self.effects if not isinstance(effect, SetTimer)]

    def timers(self) -> list[Effect]:
        """Those set by the last message."""
        return [effect for effect in self.effects if isinstance(effect, SetTimer)]

    def offer(self, **changes: Any) -> list[Effect]:
        fields: dict[str, Any] = {
            "node": "n",
            "name": "name-n",
            "capacity": NODE,
            "tags": frozenset(),
            "draining": False,
            "held": [],
            "seen": self.machine._number,
            **changes,
        }
        return self.told(Offer(**fields))

    def task_class(self, **fields: Any) -> TaskClass:
        return self.classes.intern(TaskSpec("x", **fields), "n")

    def item(self, task: str, order: int | None = None, attempt: int = 1) -> Item:
        self.order += 1
        return Item(task, attempt, 0, self.order if order is None else order)

    def add(self, *tasks: str, **fields: Any) -> list[Effect]:
        """The queue offers these tasks, of one class."""
        items = [self.item(task) for task in tasks]
        return self.told(Offered(self.task_class(**fields), items))

    def started(self, effects: list[Effect]) -> list[str]:
        """The tasks that these effects assign; there is nothing else but what is given back."""
        found: list[str] = []
        for effect in effects:
            assert isinstance(effect, Send), effect
            if isinstance(effect.message, Declined):
                continue
            assert isinstance(effect.message, Assign), effect
            assert [] == effect.message.ahead
            found += [item.task for item in effect.message.items]
        return found

    def free(self, *tasks: str, wants: dict[int, int] | None = None) -> list[Effect]:
        """These attempts ended."""
        return self.told(Freed("n", [((task, 1), None) for task in tasks], wants=wants or {}))


def interests(effects: list[Effect]) -> dict[str, Interest]:
    """Who is asked what it has, and how."""
    found: dict[str, Interest] = {}
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Interest):
            found[effect.to.partition("@")[2] or "n"] = effect.message
    return found


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


def ahead(effects: list[Effect]) -> list[str]:
    found: list[str] = []
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Assign):
            found += [item.task for item in effect.message.ahead]
    return found


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

    before = scheduler.machine._number
    assert ["c", "d"] == wanted(2, before)
    assert ["e"] == wanted(3, before)
    assert ["f", "g", "h"] == wanted(3, scheduler.machine._number)


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


def test_nothing_succeeds_itself(scheduler: Scheduler) -> None:
    """An executor that says so changed nothing: what it has is not assigned again."""
    scheduler.add("t")
    scheduler.told(Freed("n", [(("t", 1), ("t", 1))]))
    assert {("t", 1)} == set(scheduler.machine.placement.nodes["n"].ours)
    scheduler.now += 60
    scheduler.told(Fired("claims"))
    assert [] == scheduler.started(scheduler.add("t"))


def test_what_a_node_has_is_not_assigned_to_it(scheduler: Scheduler) -> None:
    """Whatever became of the claim."""
    scheduler.add("t")
    scheduler.machine.placement.claims.forget_node("n")
    assert [] == scheduler.started(scheduler.add("t", "u")[1:])
    assert ("t", 1) in scheduler.machine.placement.claims


def test_an_offer_tells_what_is_held(scheduler: Scheduler) -> None:
    """By level: the ledger is as the executor says, not as it was thought."""
    scheduler.add("a", "b", "c")
    need = scheduler.task_class().need
    assert ["c"] == scheduler.started(scheduler.offer(held=[Held("a", 1, need)]))


def test_what_a_former_life_of_the_executor_never_got_is_given_back(scheduler: Scheduler) -> None:
    """A fresh executor is asked again; its answer tells what is not there."""
    scheduler.add("a", "b", "c")
    need = scheduler.task_class().need
    effects = scheduler.offer(fresh=True, seen=0)
    number = interests(effects)["n"].number
    assert [] == [effect for effect in effects if isinstance(effect.message, Assign)]  # type: ignore[union-attr]
    effects = scheduler.offer(seen=number, held=[Held("a", 1, need, "n")])
    assert Send("queue", Declined(["b"])) == effects[0]
    assert ["c"] == scheduler.started(effects[1:])


def test_a_node_that_is_not_known_frees_nothing() -> None:
    """Messages of an executor before its first offer change nothing."""
    machine = SchedulerMachine("n")
    assert [] == machine.handle(Freed("n", [(("a", 1), None)]), 0.0)
    assert [] == machine.handle(FilesPresent("n", frozenset()), 0.0)


# ---- questions ----


def explain(scheduler: Scheduler, **fields: Any) -> list[str]:
    [answer] = scheduler.told(Asked(1, Explain(scheduler.task_class(**fields).number)))
    assert isinstance(answer, Reply)
    return answer.result["name-n"]  # type: ignore[index, no-any-return]


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


def placed(effects: list[Effect]) -> dict[str, list[str]]:
    """The tasks that are assigned, by node."""
    found: dict[str, list[str]] = {}
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Assign):
            node = effect.to.partition("@")[2] or "n"
            found[node] = [item.task for item in effect.message.items]
    return found


def declines(effects: list[Effect]) -> list[str]:
    """The tasks that the queue gets back."""
    return [
        task
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, Declined)
        for task in effect.message.tasks
    ]


def two(**offer: Any) -> Scheduler:
    """This node and `m`, two cpus each; the others' room is known, as there is a task too many."""
    scheduler = Scheduler("m")
    scheduler.add("a", "b")
    asked = interests(scheduler.add("c"))
    assert {"n", "m"} == asked.keys()
    effects = scheduler.offer(node="m", name="name-m", seen=asked["m"].number, **offer)
    if not offer:
        assert {"m": ["c"]} == placed(effects)
    return scheduler


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


def test_interest_is_told_and_lost() -> None:
    """Others are asked while there is too much for this node, again and again, then no more."""
    scheduler = two()
    need = scheduler.task_class().need
    scheduler.add("d", "e")
    scheduler.now += EVERY_S
    asked = interests(scheduler.told(Fired("interest")))
    assert {"n": need, "m": need} == {node: one.need for node, one in asked.items()}
    held = [Held("c", 1, need, "n"), Held("d", 1, need, "n")]
    scheduler.offer(node="m", held=held)
    scheduler.free("a")
    scheduler.now += CALM_S
    # What has not begun may be given back, or be lost with its node: the queue must know of it.
    told = scheduler.told(Fired("interest"))
    ask = AskBegun([("c", 1), ("d", 1)])
    assert Send("queue", ask) in told
    assert all(one.on for one in interests(told).values())
    assert not interests(scheduler.told(Begun([("c", 1)])))
    off = interests(scheduler.told(Begun(ask.attempts)))
    assert {"n": False, "m": False} == {node: one.on for node, one in off.items()}
    assert ["n"] == list(scheduler.machine.placement.nodes)


def test_nothing_is_placed_before_all_have_told_what_they_have() -> None:
    """After a start: what an earlier life assigned may be about to run anywhere."""
    scheduler = Scheduler("m", "o")
    other = scheduler.classes.intern(TaskSpec("x"), ORIGIN)
    scheduler.offer(seen=0)
    items = [scheduler.item("a"), scheduler.item("b")]
    asked = interests(scheduler.told(Offered(other, items)))
    assert {"m", "n", "o"} == asked.keys()
    numbers = {node: one.number for node, one in asked.items()}
    held = [Held("a", 1, other.need, "dead")]
    for node in "mno":
        old = numbers[node] - 10
        assert {} == placed(scheduler.offer(node=node, name=node, seen=old))
        assert {} == placed(
            scheduler.offer(
                node=node, name=node, seen=numbers[node], held=held if node == "m" else []
            )
        )
    assert [SetTimer("barrier", scheduler.now + SETTLE_S)] == scheduler.timers()
    scheduler.now += SETTLE_S
    assert {"n": ["b"]} == placed(scheduler.told(Fired("barrier")))


def behind_m(scheduler: Scheduler) -> None:
    """All have answered for a task of another origin; the entry that m's offer names is awaited."""
    other = scheduler.classes.intern(TaskSpec("x"), ORIGIN)
    asked = interests(scheduler.told(Offered(other, [scheduler.item("a")])))
    for node, one in asked.items():
        number = 9 if node == "m" else 0
        told = scheduler.offer(node=node, name=f"name-{node}", seen=one.number, number=number)
        asks = [Send("queue", AskReached({"m": 9}))] if node == "m" else []
        assert asks == [e for e in told if isinstance(e, Send) and e.to == "queue"]
    scheduler.now += SETTLE_S
    assert {} == placed(scheduler.told(Fired("barrier")))
    assert [SetTimer("barrier", scheduler.now - SETTLE_S + WAIT_S_MAX)] == scheduler.timers()


def test_nothing_is_placed_before_the_entries_behind_an_offer_are_applied() -> None:
    """It no longer shows what has ended: how that ended is in entries that may be late."""
    scheduler = Scheduler("m")
    behind_m(scheduler)
    assert {} == placed(scheduler.told(Reached({"m": 8, "n": 50})))
    assert {"n": ["a"]} == placed(scheduler.told(Reached({"m": 9})))


def test_a_queue_that_forgot_is_asked_again() -> None:
    """It begins a new life without what was asked of the old one."""
    scheduler = Scheduler("m")
    behind_m(scheduler)
    scheduler.now += LOOK_S
    ask = Send("queue", AskReached({"m": 9}))
    assert ask in scheduler.told(Fired("interest"))
    scheduler.told(Reached({"m": 10}))
    scheduler.now += LOOK_S
    assert ask not in scheduler.told(Fired("interest"))


def test_entries_that_do_not_come_are_waited_for_a_while() -> None:
    """As long as for an answer; nor is a node waited for that is gone."""
    scheduler = Scheduler("m")
    behind_m(scheduler)
    scheduler.now += WAIT_S_MAX - SETTLE_S
    assert {"n": ["a"]} == placed(scheduler.told(Fired("barrier")))
    scheduler = Scheduler("m")
    behind_m(scheduler)
    assert {"n": ["a"]} == placed(scheduler.told(make_view("n", "m down")))


def test_who_can_not_be_reached_is_waited_for_a_while() -> None:
    """It counts as there, as others hear it; some day the tasks must go on."""
    scheduler = Scheduler("m")
    other = scheduler.classes.intern(TaskSpec("x"), ORIGIN)
    asked = interests(scheduler.told(Offered(other, [scheduler.item("a")])))
    assert {} == placed(scheduler.offer(seen=asked["n"].number))
    assert ["first it must be known what runs on name-m"] == (
        scheduler.told(Asked(1, Explain(other.number)))[0].result["name-n"]  # type: ignore[union-attr, index]
    )
    scheduler.now += WAIT_S_MAX
    assert {"n": ["a"]} == placed(scheduler.told(Fired("barrier")))


def test_what_is_numbered_does_not_depend_on_the_clock() -> None:
    """Each life goes on from the number that it is given, which its host takes from the date."""
    machine = SchedulerMachine("n", 700)
    machine.handle(make_view("n", "m"), 5.0)
    classes = ClassTable()
    offered = Offered(classes.intern(TaskSpec("x"), "n"), [Item("a", 1, 0, 1)])
    asked = interests(machine.handle(offered, 5.0))
    assert all(700 < interest.number < 800 for interest in asked.values())


def test_who_leaves_is_not_waited_for() -> None:
    """Nor for the time it takes entries of others to arrive."""
    scheduler = Scheduler("m")
    other = scheduler.classes.intern(TaskSpec("x"), ORIGIN)
    asked = interests(scheduler.told(Offered(other, [scheduler.item("a")])))
    scheduler.offer(seen=asked["n"].number)
    assert {"n": ["a"]} == placed(scheduler.told(make_view("n", "m down")))


def test_a_node_that_vanishes_makes_the_queue_offer_again() -> None:
    """Whatever had been assigned to it: the queue knows what began."""
    scheduler = two()
    effects = scheduler.told(make_view("n", "m down"))
    assert Send("queue", SchedulerStarted()) in effects
    assert {"n": ["c"]} == placed([*scheduler.free("a"), *scheduler.add("c")])


def test_what_another_node_declines_goes_back_to_the_queue() -> None:
    """At once, and that node is left alone with this class for as long as it wants."""
    scheduler = two()
    late = Freed("m", declined=[("c", 1)], retry_s=0.2)
    assert ["c"] == declines(scheduler.told(late))
    assert {} == placed(scheduler.add("c"))
    scheduler.now += 0.2
    assert {"m": ["c"]} == placed(scheduler.told(Fired("place")))
    assert ["c"] == declines(scheduler.told(Freed("m", declined=[("c", 1)])))
    assert {"m": ["c"]} == placed(scheduler.add("c"))


def test_what_got_lost_on_the_way_goes_back_to_the_queue() -> None:
    """After a while: it may have run and ended, and only the news of that is late."""
    scheduler = two()
    number = scheduler.machine._number
    assert [] == declines(scheduler.offer(node="m", seen=number - 10))  # still under way
    assert [] == declines(scheduler.offer(node="m", seen=number))
    assert {} == placed(scheduler.add("c"))
    scheduler.now += ENTRIES_S
    assert ["c"] == declines(scheduler.told(Fired("claims")))
    assert {"m": ["c"]} == placed(scheduler.add("c"))


def test_an_attempt_that_any_node_has_is_not_assigned() -> None:
    """If that node gives it up for another owner, the queue is asked to look again."""
    scheduler = two()
    need = scheduler.task_class().need
    scheduler.told(Freed("m", taken=[Held("x", 1, need, "o")]))
    scheduler.free("a", "b")
    assert {} == placed(scheduler.add("x"))
    scheduler.told(Freed("m", [(("x", 1), None)]))
    scheduler.now += ENTRIES_S
    assert ["x"] == declines(scheduler.told(Fired("claims")))


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


def test_an_owner_that_is_back_is_told_what_is_under_way() -> None:
    """Of its own tasks only."""
    scheduler = Scheduler("m down", "o")
    theirs = scheduler.classes.intern(TaskSpec("x"), "m")
    asked = interests(scheduler.told(Offered(theirs, [scheduler.item("a")])))
    for node, one in asked.items():
        scheduler.offer(node=node, name=node, seen=one.number)
    scheduler.now += SETTLE_S
    assert {"n": ["a"]} == placed(scheduler.told(Fired("barrier")))
    scheduler.add("mine")
    told = Send("scheduler@m", Outstanding("n", [("a", 1, "n")]))
    assert told in scheduler.told(make_view("n", "m", "o"))


def test_what_is_outstanding_is_taken_for_a_while() -> None:
    """It may start there any moment; should it not, the queue looks again."""
    scheduler = two()
    scheduler.told(Outstanding("o", [("x", 1, "m")]))
    scheduler.free("a", "b")
    assert {} == placed(scheduler.add("x"))
    scheduler.now += OUTSTANDING_S
    assert ["x"] == declines(scheduler.told(Fired("claims")))


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


def test_a_connection_that_is_back_is_used_at_once() -> None:
    """Who could not be reached, or has started anew, is asked without waiting for the next time."""
    scheduler = two()
    scheduler.add("d", "e")
    view = make_view("n", "m")
    member = view.members["m"]
    cut = View("n", {**view.members, "m": structs.replace(member, linked=False)})
    anew = View(
        "n",
        {**view.members, "m": structs.replace(member, about=structs.replace(member.about, life=2))},
    )
    assert {} == interests(scheduler.told(view))
    scheduler.told(cut)
    assert ["m"] == list(interests(scheduler.told(view)))
    assert ["m"] == list(interests(scheduler.told(anew)))


def test_an_offer_that_comes_too_late_is_not_used() -> None:
    """Nobody would tell when it changes; its sender is told so."""
    scheduler = Scheduler("m")
    effects = scheduler.offer(node="m")
    assert {"m": False} == {node: one.on for node, one in interests(effects).items()}
    assert ["n"] == list(scheduler.machine.placement.nodes)


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


def test_alone_nobody_else_can_own_anything(scheduler: Scheduler) -> None:
    """So there is nothing to ask."""
    task_class = scheduler.task_class()
    offered = Offered(task_class, [scheduler.item("a")])
    assert {"n": ["a"]} == placed(scheduler.machine.handle(offered, scheduler.now + 60.0))
