"""What the scheduler is shown of the live tasks, and what is taken back."""

from __future__ import annotations

from leoronic.core.effects import Send
from leoronic.core.entries import (
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Started,
)
from leoronic.core.queue_messages import Item, Offered, Withdrawn
from leoronic.core.records import LOSSES_MAX, Status
from leoronic.core.tasks import Tasks
from tests.core.entering import (
    GOOD,
    cluster,
    hear,
    offered,
    sent,
    submitted,
    tasks_of,
)
from tests.core.views import make_view


def test_what_the_scheduler_is_told() -> None:
    """Offered once, with the number of the next attempt; withdrawn when it may not start."""
    tasks = tasks_of(submitted(retries=2), submitted("b", on_loss="hold"))
    tasks.windows.feed()
    a, b = tasks.live["a"], tasks.live["b"]
    assert [
        Send("scheduler", Offered(a.task_class, [Item("a", 1, 2, 1)])),
        Send("scheduler", Offered(b.task_class, [Item("b", 1, 0, 2, hold_if_lost=True)])),
    ] == tasks.effects
    tasks.effects.clear()
    tasks.windows.feed()
    assert [] == tasks.effects
    tasks.apply(Numbered("n", 3, Held("a", 1, 1.0)))
    assert [Send("scheduler", Withdrawn(a.task_class.number, ["a"]))] == tasks.effects


def test_the_last_loss_before_the_hold_is_said_with_the_item() -> None:
    """The executor must know, because it writes the loss."""
    entries: list[Entry] = [submitted()]
    for attempt in range(1, LOSSES_MAX):
        tasks = tasks_of(*entries)
        tasks.windows.feed()
        [(_, told)] = sent(tasks)
        assert isinstance(told, Offered)
        assert [(attempt, False)] == [(i.attempt, i.hold_if_lost) for i in told.items]
        entries += [Started("a", attempt, "n", 1.0), Lost("a", attempt, "n", 2.0, "why")]
    tasks = tasks_of(*entries)
    sent(tasks)
    tasks.windows.feed()
    [(_, told)] = sent(tasks)
    assert told.items[0].hold_if_lost


def test_the_window_of_a_class_is_refilled_by_halves() -> None:
    """The scheduler sees at most 128 of a class, and is told in batches."""
    tasks = tasks_of(*(submitted(f"t{n}") for n in range(300)))

    def start(first: int, last: int) -> None:
        for number in range(first, last):
            tasks.apply(Numbered("n", 1000, Started(f"t{number}", 1, "n", 1.0)))

    assert 128 == len(offered(tasks))
    start(0, 63)
    assert [] == offered(tasks)
    start(63, 64)
    assert 64 == len(offered(tasks))


def test_only_the_elements_of_an_array_are_first_together() -> None:
    """What comes after the array waits until all of it is handed out."""
    conditions = ("queue:is_first",)
    tasks = tasks_of(
        submitted("a", count=3, conditions=conditions),
        submitted("b", conditions=conditions),
        submitted("c", conditions=conditions),
    )
    assert ["a.0", "a.1", "a.2"] == offered(tasks)


# ---- whose task it is ----


def test_only_the_owner_shows_a_task_to_its_scheduler() -> None:
    """Its own origin's while that is there, and those to which it is the heir."""
    assert ["b"] == offered(cluster("b", "a", "c"))
    assert ["b", "a"] == sorted(offered(cluster("b", "a down", "c")), reverse=True)
    assert ["a", "b", "c"] == sorted(offered(cluster("b", "a left", "c down")))
    assert ["b"] == offered(cluster("b", "a suspect", "c"))


def test_nobody_owns_anything_before_it_has_caught_up() -> None:
    """Without a view, or while it isn't ready, a node offers nothing, not even its own."""
    tasks = cluster("b", "a", "c")
    tasks.see(make_view("b", "a", "c", catching_up=("b",)))
    assert [] == offered(tasks)
    tasks.see(make_view("b", "a down", "c down", catching_up=("a", "b", "c")))
    assert [] == offered(tasks)
    blank = Tasks()
    hear(blank, ("", submitted()))
    assert [] == offered(blank)


def test_taking_over_and_giving_back() -> None:
    """The heir offers what waits, and takes it back from its scheduler when the other is there."""
    tasks = cluster("b", "a", "c")
    offered(tasks)
    tasks.see(make_view("b", "a down", "c"))
    assert ["a"] == offered(tasks)
    number = tasks.live["a"].task_class.number
    tasks.see(make_view("b", "a", "c"))
    assert [("scheduler", Withdrawn(number))] == sent(tasks)
    assert (Status.READY, Status.OFFERED) == (tasks.live["a"].status, tasks.live["b"].status)
    assert [] == offered(tasks)
    tasks.see(make_view("b", "a left", "c"))
    assert ["a"] == offered(tasks)


def test_what_others_place_does_not_pile_up() -> None:
    """Tasks of others that came and went are forgotten, although this node never offers them."""
    tasks = cluster("b", "a", "c")
    for n in range(2000):
        hear(tasks, ("a", submitted(f"t{n}")), ("a", Finished(f"t{n}", 1, "a", GOOD, True)))
        tasks.windows.feed()
    waiting = tasks.windows.ready[tasks.live["a"].task_class.number]
    assert len(waiting._fifo) + len(waiting._returned) < 400
    tasks.see(make_view("b", "a down", "c"))
    assert {"a", "b"} == set(offered(tasks))


def test_gates_look_at_the_tasks_of_all() -> None:
    """Who is first, and whether all that match are done, does not depend on whose they are."""
    tasks = tasks_of(view=make_view("b", "a"))
    hear(
        tasks,
        ("a", submitted("earlier", command="make")),
        ("b", submitted("first", conditions=("queue:is_first",))),
        ("b", submitted("done", conditions=("queue:all_with_cmd_done ^make",))),
    )
    tasks.commands_matched("^make", ["earlier"])
    assert [] == offered(tasks)
    hear(tasks, ("a", Started("earlier", 1, "a", 1.0)))
    assert ["first"] == offered(tasks)
    hear(tasks, ("a", Finished("earlier", 1, "a", GOOD, True)))
    assert ["done"] == offered(tasks)


def test_a_start_that_another_scheduler_made_is_taken_back() -> None:
    """What this scheduler has in hand is withdrawn, unless it was just that which started."""
    tasks = tasks_of(submitted(retries=5), submitted("b"))
    offered(tasks)
    hear(tasks, ("m", Started("b", 1, "m", 1.0)), ("m", Started("a", 2, "m", 1.0)))
    number = tasks.live["a"].task_class.number
    assert [("scheduler", Withdrawn(number, ["a"]))] == sent(tasks)
    assert {} == {k: v for r in tasks.windows.ready.values() for k, v in r.offered.items()}


def test_what_is_awaited_of_an_attempt() -> None:
    """While the scheduler has it in hand, until an entry tells of it."""
    tasks = tasks_of(submitted())
    assert not tasks.is_awaited("a", 1)
    assert ["a"] == offered(tasks)
    assert tasks.is_awaited("a", 1)
    hear(tasks, ("m", Started("a", 1, "m", 1.0)))
    assert not tasks.is_awaited("a", 1)
    assert not tasks.is_awaited("z", 1)
