"""The live tasks as the join of their entries.

Promised: entries that were written without knowing of each other may come in any order, any of them
may come again while its task lives, and all nodes come to the same; anything about a task that is
final changes nothing; and loading from the tables gives the same as having heard every entry.
"""

from __future__ import annotations

import pytest

from leoronic.core.effects import Send
from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Tagged,
)
from leoronic.core.queue_messages import Flip, StopAttempt, Withdrawn
from leoronic.core.records import Status
from leoronic.core.runs import ENDED, OPEN
from leoronic.core.spec import After
from tests.core.entering import (
    BAD,
    GOOD,
    cluster,
    hear,
    offered,
    sent,
    state,
    stopped,
    submitted,
    tasks_of,
)
from tests.core.views import make_view

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
    for turned, expected in (("failed", "bad"), ("succeeded", "good")):
        was = "succeeded" if turned == "failed" else "failed"
        tasks.flip(Flip("a", was, turned))
        assert (0, 1) == (tasks.ended[was], tasks.ended[turned])
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
