"""The live tasks as the join of their entries.

Promised: entries that were written without knowing of each other may come in any order, any of them
may come again while its task lives, and all nodes come to the same; anything about a task that is
final changes nothing; and loading from the tables gives the same as having heard every entry.
"""

from __future__ import annotations

from typing import Any

import pytest

from leoronic.core.arrays import ArrayRecord
from leoronic.core.effects import Send, SetTimer
from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
    Tagged,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Flip, Item, Offered, StopAttempt, Withdrawn
from leoronic.core.records import LOSSES_MAX, Record, Status, _Rare
from leoronic.core.runs import ENDED, LOST, OPEN
from leoronic.core.spec import After, TaskSpec
from leoronic.core.tasks import UNHEARD_OF_STEPS, Tasks
from leoronic.core.view import View
from tests.core.views import make_view

NOW = 100.0
GOOD = Outcome(1.0, 2.0, exit_code=0)
BAD = Outcome(1.0, 2.0, exit_code=1)


def submitted(task: str = "a", **fields: object) -> Submitted:
    fields.setdefault("command", "x")
    return Submitted(task, TaskSpec(**fields), 0.0)  # type: ignore[arg-type]


def tasks_of(*entries: Entry, view: View | None = None) -> Tasks:
    """Node `n`, alone unless there is a view, having heard these of itself."""
    tasks = Tasks()
    tasks.at(NOW)
    tasks.see(view or make_view("n"))
    for number, entry in enumerate(entries, 1):
        tasks.apply(Numbered("n", number, entry))
    return tasks


def sent(tasks: Tasks) -> list[tuple[str, Any]]:
    """What was sent since this was last asked."""
    effects, tasks.effects[:] = list(tasks.effects), []
    return [(effect.to, effect.message) for effect in effects if isinstance(effect, Send)]


def offered(tasks: Tasks) -> list[str]:
    """The tasks that the scheduler is told of now."""
    tasks.feed()
    told = [message for _, message in sent(tasks)]
    return [item.task for message in told if isinstance(message, Offered) for item in message.items]


def stopped(tasks: Tasks) -> list[str]:
    """The attempts that are ended now, in words."""
    told = [message for to, message in sent(tasks) if to == "runner"]
    return [f"{stop.task} {stop.attempt} {stop.reason}" for stop in told]


def seen(record: Record) -> dict[str, object]:
    """All that a record holds, but for its class's number."""
    rare = [name for name, value in vars(Record).items() if isinstance(value, _Rare)]
    apart = ("_rare", "_status", "parent", "task_class")
    names = [name for name in Record.__slots__ if name not in apart] + rare
    found = {name: getattr(record, name) for name in [*names, "status"]}
    found["runs"] = record.runs.phases()
    found["why_held"], found["not_before"] = record.why_held(), record.not_before
    found["class"] = (record.task_class.origin, record.task_class.need)
    if isinstance(record, ArrayRecord):
        found["ended"] = dict(record.ended)
        found["open"] = [record.is_open(index) for index in range(record.count)]
        found["elements"] = {i: seen(e) for i, e in sorted(record.elements.items())}
    return found


def state(tasks: Tasks) -> dict[str, object]:
    return {"ended": dict(tasks.ended), **{task: seen(r) for task, r in tasks.live.items()}}


# ---- single entries ----


def test_what_comes_too_late_changes_nothing() -> None:
    """Old news of a run, old revisions, and anything about a task that is final."""
    tasks = tasks_of(
        submitted(retries=5),
        Started("a", 1, "n", 1.0),
        Lost("a", 1, "n", 2.0, "why"),
        Started("a", 2, "n", 3.0),
        Held("a", 1, 1.0, "hold"),
        Released("a", 2, 1.0),
    )
    before = state(tasks)
    for late in (
        Started("a", 1, "n", 9.0),
        Lost("a", 1, "n", 9.0, "why"),
        Held("a", 1, 9.0),
        Released("a", 1, 9.0),
    ):
        tasks.apply(Numbered("n", 99, late))
        assert before == state(tasks)
    tasks.apply(Numbered("n", 100, Finished("a", 2, "n", GOOD, True)))
    after = state(tasks)
    for later in (Cancelled("a", 9.0), Held("a", 9, 9.0), Finished("a", 3, "n", BAD, True)):
        tasks.apply(Numbered("n", 101, later))
        assert after == state(tasks)


def test_a_start_of_what_has_ended_is_stopped() -> None:
    """Somebody began it without knowing: it is told to end, by the node where it runs."""
    tasks = tasks_of(submitted(), Cancelled("a", 1.0))
    tasks.effects.clear()
    tasks.apply(Numbered("m", 1, Started("a", 1, "m", 2.0)))
    assert [] == tasks.effects
    tasks.apply(Numbered("n", 3, Started("a", 1, "n", 2.0)))
    assert [Send("runner", StopAttempt("a", 1, "the task had ended already"))] == tasks.effects


def test_an_end_without_a_start() -> None:
    """The end tells that there was an attempt; its start, coming later, is old news."""
    tasks = tasks_of(submitted(retries=1), Finished("a", 1, "n", BAD, False))
    assert (1, 1) == (tasks.live["a"].runs.attempt, tasks.live["a"].runs.failures)
    before = state(tasks)
    tasks.apply(Numbered("n", 9, Started("a", 1, "n", 1.0)))
    assert before == state(tasks)


def test_entries_about_nodes_are_for_others() -> None:
    """Tags do not concern tasks."""
    assert {} == tasks_of(Tagged("n", "t", 1.0)).live


def test_what_the_scheduler_is_told() -> None:
    """Offered once, with the number of the next attempt; withdrawn when it may not start."""
    tasks = tasks_of(submitted(retries=2), submitted("b", on_loss="hold"))
    tasks.feed()
    a, b = tasks.live["a"], tasks.live["b"]
    assert [
        Send("scheduler", Offered(a.task_class, [Item("a", 1, 2, 1)])),
        Send("scheduler", Offered(b.task_class, [Item("b", 1, 0, 2, hold_if_lost=True)])),
    ] == tasks.effects
    tasks.effects.clear()
    tasks.feed()
    assert [] == tasks.effects
    tasks.apply(Numbered("n", 3, Held("a", 1, 1.0)))
    assert [Send("scheduler", Withdrawn(a.task_class.number, ["a"]))] == tasks.effects


def test_the_last_loss_before_the_hold_is_said_with_the_item() -> None:
    """The executor must know, because it writes the loss."""
    entries: list[Entry] = [submitted()]
    for attempt in range(1, LOSSES_MAX):
        tasks = tasks_of(*entries)
        tasks.feed()
        [(_, told)] = sent(tasks)
        assert isinstance(told, Offered)
        assert [(attempt, False)] == [(i.attempt, i.hold_if_lost) for i in told.items]
        entries += [Started("a", attempt, "n", 1.0), Lost("a", attempt, "n", 2.0, "why")]
    tasks = tasks_of(*entries)
    sent(tasks)
    tasks.feed()
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


def test_strangers_are_asked_about() -> None:
    """Tasks that others wait for and that are not live: the journal knows how they ended."""
    tasks = tasks_of(submitted(after=(After("z"),)))
    assert ["z"] == list(tasks.strangers)
    assert Status.DEPENDING == tasks.live["a"].status
    tasks.parent_known("z", "failed", "z2")
    assert ["z", "z2"] == list(tasks.strangers)
    assert Status.DEPENDING == tasks.live["a"].status
    tasks.parent_known("z2", "succeeded", "")
    assert [Status.READY] == [tasks.live["a"].status]


def test_ids_of_elements_that_are_none() -> None:
    """A task whose own id looks like an element's is itself; other ids are nobody's."""
    tasks = tasks_of(submitted("a"), submitted("b", count=2))
    assert tasks.array_of("a.0") is None
    assert tasks.find("a.0") is None
    assert tasks.find("b.0") is None
    assert (tasks.live["b"], 1) == tasks.array_of("b.1")


# ---- whose task it is ----


def cluster(me: str, *members: str) -> Tasks:
    """Node `me`, that sees `members`, and has heard of task `a` of node `a`, ..., `c` of `c`."""
    tasks = tasks_of(view=make_view(me, *members))
    hear(tasks, *((node, submitted(node)) for node in "abc"))
    return tasks


def hear(tasks: Tasks, *told: tuple[str, Entry]) -> None:
    """Entries, each with its origin."""
    for number, (origin, entry) in enumerate(told, 1):
        tasks.apply(Numbered(origin, number, entry))


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
        tasks.feed()
    waiting = tasks.ready[tasks.live["a"].task_class.number]
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
    assert {} == {k: v for r in tasks.ready.values() for k, v in r.offered.items()}


def test_what_is_awaited_of_an_attempt() -> None:
    """While the scheduler has it in hand, until an entry tells of it."""
    tasks = tasks_of(submitted())
    assert not tasks.is_awaited("a", 1)
    assert ["a"] == offered(tasks)
    assert tasks.is_awaited("a", 1)
    hear(tasks, ("m", Started("a", 1, "m", 1.0)))
    assert not tasks.is_awaited("a", 1)
    assert not tasks.is_awaited("z", 1)


# ---- two nodes took the same id ----


def test_a_twin_that_holds_replaces_the_task() -> None:
    """Its class and owner are the other's; its runs, holds and dependants stay."""
    tasks = tasks_of(view=make_view("n", "m"))
    hear(
        tasks,
        ("n", submitted("a", retries=3)),
        ("n", submitted("child", after=(After("a"),))),
        ("n", Started("a", 1, "n", 1.0)),
        ("n", Finished("a", 1, "n", BAD, False)),
        ("n", Held("a", 1, 1.0, "why")),
        ("n", Started("a", 2, "m", 1.0)),
    )
    for _ in range(2):
        hear(tasks, ("m", submitted("a", retries=3, memory=7)))
        record = tasks.live["a"]
        assert ("m", 7) == (record.task_class.origin, record.task_class.need.memory)
        assert {(1, "n"): ENDED, (2, "m"): OPEN} == record.runs.phases()
        assert (Status.RUNNING, "why") == (record.status, record.held)
        assert 2 == len(tasks.classes)
    tasks.see(make_view("n", "m down"))
    assert [("a", 2, "m")] == [(e.task, e.attempt, e.node) for e in tasks.appends]  # type: ignore[union-attr]
    hear(tasks, ("m", Finished("a", 2, "m", GOOD, True)))
    assert ["child"] == offered(tasks)


def test_a_twin_of_what_was_offered_is_taken_back() -> None:
    """It is the other node's now; if that is down, it is offered again as the other's."""
    tasks = tasks_of(submitted(), view=make_view("n", "m"))
    assert ["a"] == offered(tasks)
    number = tasks.live["a"].task_class.number
    hear(tasks, ("m", submitted("a", memory=7)))
    told = [message for _, message in sent(tasks)]
    assert [Withdrawn(number, ["a"]), Withdrawn(number)] == told
    assert [] == offered(tasks)
    tasks.see(make_view("n", "m down"))
    assert ["a"] == offered(tasks)


def test_a_twin_of_an_array_keeps_its_elements() -> None:
    """They are the same, but for whose they are."""
    tasks = tasks_of(
        submitted(count=3), Finished("a.0", 1, "n", GOOD, True), Started("a.1", 1, "n", 1.0)
    )
    hear(tasks, ("m", submitted(count=3, memory=7)))
    array = tasks.arrays["a"]
    assert {1: {(1, "n"): OPEN}} == {i: e.runs.phases() for i, e in array.elements.items()}
    assert ([False, True, True], 1) == ([array.is_open(i) for i in range(3)], array.unmade)
    assert "m" == array.elements[1].task_class.origin


@pytest.mark.parametrize(("one", "other"), [(None, 2), (2, None), (2, 3)])
def test_a_twin_of_another_shape_ends_both(one: int | None, other: int | None) -> None:
    """What runs is stopped, whoever holds; what comes of it later changes nothing."""
    tasks = tasks_of(submitted(count=one), submitted("child", after=(After("a"),)))
    run = "a" if one is None else "a.1"
    hear(tasks, ("n", Started(run, 1, "n", 1.0)))
    hear(tasks, ("m", submitted(count=other)))
    assert ("runner", StopAttempt(run, 1, "cancelled")) in sent(tasks)
    hear(tasks, ("m", Started("a", 1, "m", 1.0)), ("m", Started("a.0", 1, "m", 1.0)))
    hear(tasks, ("m", Finished("a", 1, "m", GOOD, True)), ("n", Finished(run, 1, "n", BAD, True)))
    assert ["child"] == list(tasks.live)
    assert Status.BLOCKED is tasks.live["child"].status
    assert [] == tasks.open_runs.nodes()
    assert 1 == len(tasks.classes)


def test_a_twin_that_depends_on_nothing_frees_what_waits_for_it() -> None:
    """The first was blocked, and with it what runs after it."""
    tasks = tasks_of(submitted(after=(After("z"),)), submitted("b", after=(After("a"),)))
    tasks.parent_known("z", "failed", "")
    assert [Status.BLOCKED] * 2 == [record.status for record in tasks.live.values()]
    hear(tasks, ("m", submitted()))
    assert [Status.READY, Status.DEPENDING] == [record.status for record in tasks.live.values()]


# ---- nodes that are gone ----


def running_on_c(me: str, *members: str, **fields: Any) -> Tasks:
    """Task `a` of node `a` runs on `c`, as `me` knows."""
    tasks = tasks_of(view=make_view(me, *members))
    hear(tasks, ("a", submitted(**fields)), ("c", Started("a", 1, "c", 1.0)))
    return tasks


def lost(hold: bool = False) -> Lost:
    return Lost("a", 1, "c", NOW, "node name-c is down: silent for 5 s", hold)


def test_only_the_owner_gives_up_what_ran_on_a_node_that_is_gone() -> None:
    """Once, in words; others say nothing, until it is theirs to say."""
    down = "c down silent for 5 s"
    owner, other = running_on_c("a", "b", "c"), running_on_c("b", "a", "c")
    owner.see(make_view("a", "b", down))
    owner.see(make_view("a", "b", down))
    assert [lost()] == owner.appends
    other.see(make_view("b", "a", down))
    assert [] == other.appends
    other.see(make_view("b", "a down", down))
    assert [lost()] == other.appends


def test_a_start_that_is_heard_of_too_late_is_given_up() -> None:
    """The node was gone before its start came here."""
    assert [lost()] == running_on_c("a", "c down silent for 5 s").appends
    [entry] = running_on_c("a", "c left").appends
    assert isinstance(entry, Lost)
    assert "node name-c has left" == entry.suspicion
    assert [] == running_on_c("a", "c suspect").appends


def test_a_node_that_nobody_has_told_of_is_waited_for() -> None:
    """A newcomer may get entries of others before it is told who they are.

    However far the time of day is set forward meanwhile.
    """
    tasks = running_on_c("a", "b")
    tasks.at(NOW + 3600.0)
    tasks.give_up_lost()
    for _ in range(UNHEARD_OF_STEPS):
        assert [] == tasks.appends
        tasks.effects.clear()
        tasks.unheard_of_for_longer()
    assert [] == [effect for effect in tasks.effects if isinstance(effect, SetTimer)]
    [entry] = tasks.appends
    assert isinstance(entry, Lost)
    assert "node c is not known" == entry.suspicion
    introduced = running_on_c("a", "b")
    introduced.see(make_view("a", "b", "c"))
    for _ in range(UNHEARD_OF_STEPS):
        introduced.unheard_of_for_longer()
    assert [] == introduced.appends


def test_what_is_given_up_is_held_if_it_must_not_run_twice() -> None:
    """The owner says so, as the executor would."""
    assert [lost(hold=True)] == running_on_c("a", "c down silent for 5 s", on_loss="hold").appends


def test_a_loss_for_which_there_was_no_room_is_written_again() -> None:
    """Unless it is not true any more."""
    tasks = running_on_c("a", "c down silent for 5 s")
    failed, tasks.appends = tasks.appends, []
    tasks.give_up_lost()
    assert [] == tasks.appends
    tasks.open_runs.not_written(failed)
    tasks.give_up_lost()
    assert [lost()] == tasks.appends
    tasks.appends = []
    tasks.open_runs.not_written(failed)
    tasks.see(make_view("a", "c"))
    assert [] == tasks.appends


def test_a_run_that_was_lost_ended_after_all() -> None:
    """What was done counts: the task has its outcome, and what ran instead is ended."""
    tasks = running_on_c("a", "c down silent for 5 s")
    hear(tasks, ("a", lost()), ("a", Started("a", 2, "a", 1.0)))
    assert {(1, "c"): LOST, (2, "a"): OPEN} == tasks.live["a"].runs.phases()
    hear(tasks, ("c", Finished("a", 1, "c", GOOD, True)))
    assert {"succeeded": 1, "failed": 0, "cancelled": 0} == tasks.ended
    assert ["a 2 superseded"] == stopped(tasks)
    assert [] == tasks.open_runs.nodes()


def test_a_lost_run_that_failed_after_all_is_a_failure() -> None:
    """It is no loss any more, and holds nothing."""
    tasks = running_on_c("a", "c down", retries=3, on_loss="hold")
    hear(tasks, ("a", Lost("a", 1, "c", NOW, "why", True)))
    assert Status.HELD == tasks.live["a"].status
    hear(tasks, ("c", Finished("a", 1, "c", BAD, False)))
    runs = tasks.live["a"].runs
    assert (Status.READY, 1, 0) == (tasks.live["a"].status, runs.failures, runs.losses)


def test_a_failure_by_a_fast_clock_delays_the_retry_no_longer() -> None:
    """The end of a run is not after now, whatever its node says."""
    tasks = tasks_of(submitted(retries=1, retry_delay=5.0), view=make_view("n", "m"))
    hear(tasks, ("m", Finished("a", 1, "m", Outcome(1.0, NOW + 3600, exit_code=1), False)))
    assert NOW + 5.0 == tasks.live["a"].not_before


# ---- two runs of one task ----


def test_the_lower_run_is_ended_where_it_runs() -> None:
    """By its own node, which hears of the higher one; the task goes on running."""
    for me, expected in (("b", ["a 1 superseded"]), ("c", []), ("a", [])):
        tasks = cluster(me, *(node for node in "abc" if node != me))
        hear(tasks, ("b", Started("a", 1, "b", 1.0)))
        assert [] == stopped(tasks)
        hear(tasks, ("c", Started("a", 1, "c", 1.0)))
        assert expected == stopped(tasks)
        hear(tasks, ("b", Finished("a", 1, "b", BAD, False)))
        assert Status.RUNNING == tasks.live["a"].status


def test_being_given_up_does_not_end_a_run() -> None:
    """Only when another attempt has begun elsewhere is it in the way."""
    tasks = cluster("b", "a", "c")
    hear(tasks, ("b", Started("a", 1, "b", 1.0)), ("a", Lost("a", 1, "b", 1.0, "why")))
    assert [] == stopped(tasks)
    hear(tasks, ("c", Started("a", 2, "c", 1.0)))
    assert ["a 1 superseded"] == stopped(tasks)


def test_a_final_task_ends_all_that_runs_of_it_here() -> None:
    """The word tells why; what runs on other nodes is theirs to end."""
    for end, why in (
        (Cancelled("a", 1.0), "cancelled"),
        (Finished("a", 3, "c", GOOD, True), "superseded"),
    ):
        tasks = cluster("b", "a", "c")
        hear(tasks, ("b", Started("a", 2, "b", 1.0)), ("c", Started("a", 1, "c", 1.0)), ("c", end))
        assert [f"a 2 {why}"] == stopped(tasks)


def test_the_end_of_what_runs_here_stops_nothing() -> None:
    """Its process is gone."""
    tasks = tasks_of(submitted(), Started("a", 1, "n", 1.0), Finished("a", 1, "n", GOOD, True))
    assert [] == stopped(tasks)


# ---- outcomes that turn out otherwise ----


def test_a_flip_is_counted_and_reaches_what_depends() -> None:
    """Of what has not started: what ran after a success waits in vain, and the other way round."""
    tasks = tasks_of(
        submitted(),
        submitted("good", after=(After("a"),)),
        submitted("bad", after=(After("a", "failed"),)),
        Finished("a", 1, "n", GOOD, True),
    )
    for state, expected in (("failed", "bad"), ("succeeded", "good")):
        was = "succeeded" if state == "failed" else "failed"
        tasks.flip(Flip("a", was, state))
        assert (0, 1) == (tasks.ended[was], tasks.ended[state])
        assert [expected] == [r.id for r in tasks.live.values() if r.status is Status.READY]


def test_a_flip_of_an_element_changes_how_its_array_will_end() -> None:
    """While the array lives; an array itself counts for nothing, as its elements do."""
    tasks = tasks_of(submitted(count=2), Finished("a.0", 1, "n", BAD, True))
    tasks.flip(Flip("a.0", "failed", "succeeded"))
    assert {"succeeded": 1, "failed": 0, "cancelled": 0} == tasks.ended
    tasks.apply(Numbered("n", 9, Finished("a.1", 1, "n", GOOD, True)))
    assert {"succeeded": 2, "failed": 0, "cancelled": 0} == tasks.ended
    tasks.flip(Flip("a", "succeeded", "failed", array=True))
    assert {"succeeded": 2, "failed": 0, "cancelled": 0} == tasks.ended


def test_a_flip_is_told_to_watchers() -> None:
    """With its new state."""
    tasks = tasks_of(submitted(), Finished("a", 1, "n", GOOD, True))
    tasks.watched = True
    tasks.flip(Flip("a", "succeeded", "cancelled"))
    assert [("a", "cancelled")] == [(change.id, change.state) for change in tasks.changes]


# ---- arrays and holds ----


def test_an_array_ends_with_its_last_element() -> None:
    """No entry tells of it, and hearing of the element twice changes nothing."""
    tasks = tasks_of(submitted(count=2), Finished("a.0", 1, "n", GOOD, True))
    assert "a" in tasks.live
    for _ in range(2):
        tasks.apply(Numbered("n", 3, Finished("a.1", 1, "n", BAD, True)))
        assert {"succeeded": 1, "failed": 1, "cancelled": 0} == tasks.ended
        assert ({}, [], []) == (tasks.live, list(tasks.arrays), tasks.appends)


@pytest.mark.parametrize("first", ["hold", "release"])
def test_the_highest_revision_wins(first: str) -> None:
    """In whatever order a hold and a release come."""
    entries: list[Entry] = [Held("a", 1, 1.0, "r"), Released("a", 2, 2.0)]
    if first == "release":
        entries.reverse()
    tasks = tasks_of(submitted(), *entries)
    assert (2, None) == (tasks.live["a"].revision, tasks.live["a"].held)
