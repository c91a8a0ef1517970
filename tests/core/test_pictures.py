"""Stories of what a scheduler knows of the nodes, and of what it must know before it places."""

from __future__ import annotations

import pytest
from msgspec import structs

from leoronic.core.barrier import SETTLE_S, WAIT_S_MAX
from leoronic.core.effects import Asked, Fired, Send, SetTimer
from leoronic.core.interests import CALM_S, EVERY_S, LOOK_S
from leoronic.core.peer import (
    HELD_MAX,
    Assign,
    FilesPresent,
    Freed,
    Held,
    Outstanding,
)
from leoronic.core.pictures import ENTRIES_S, OUTSTANDING_S
from leoronic.core.queue_messages import (
    AskBegun,
    AskReached,
    Begun,
    Declined,
    Item,
    Offered,
    Reached,
    SchedulerStarted,
)
from leoronic.core.records import ClassTable
from leoronic.core.run import AttemptKey
from leoronic.core.scheduler import SchedulerMachine
from leoronic.core.scheduler_messages import Explain
from leoronic.core.spec import TaskSpec
from leoronic.core.view import View
from tests.core.scheduling import (
    ORIGIN,
    Scheduler,
    declines,
    interests,
    placed,
    two,
)
from tests.core.views import make_view


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


# ---- lives ----


def test_nothing_succeeds_itself(scheduler: Scheduler) -> None:
    """An executor that says so changed nothing: what it has is not assigned again."""
    scheduler.add("t")
    scheduler.told(Freed("n", [(("t", 1), ("t", 1))]))
    assert {("t", 1)} == set(scheduler.machine.placement.nodes["n"].ours)
    scheduler.now += 60
    scheduler.told(Fired("claims"))
    assert [] == scheduler.started(scheduler.add("t"))


def test_a_node_that_takes_ever_more_fills_no_memory(scheduler: Scheduler) -> None:
    """It is asked what it has, and what it says it has of late does not count."""
    need = scheduler.task_class().need
    for number in range(3):
        taken = [Held(f"x{number}y{n}", 1, need, "other") for n in range(HELD_MAX // 2 + 1)]
        effects = scheduler.told(Freed("n", taken=taken))
    assert ["n"] == list(interests(effects))
    follows: list[tuple[AttemptKey, AttemptKey | None]]
    follows = [((f"no{n}", 1), (f"such{n}", 1)) for n in range(9)]
    scheduler.told(Freed("n", follows))
    assert HELD_MAX // 2 + 1 == len(scheduler.machine.placement.claims.of_node("n"))


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


# ---- several nodes ----


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
    number = scheduler.machine._out.number
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
