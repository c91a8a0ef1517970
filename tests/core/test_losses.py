"""What is given up of the nodes that are gone."""

from __future__ import annotations

from typing import Any

from leoronic.core.effects import SetTimer
from leoronic.core.entries import (
    Finished,
    Lost,
    Started,
)
from leoronic.core.outcome import Outcome
from leoronic.core.records import Status
from leoronic.core.runs import LOST, OPEN
from leoronic.core.tasks import Tasks
from leoronic.core.unheard import UNHEARD_OF_STEPS
from tests.core.entering import (
    BAD,
    GOOD,
    NOW,
    hear,
    stopped,
    submitted,
    tasks_of,
)
from tests.core.views import make_view


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
    tasks.now = NOW + 3600.0
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


def test_nobody_stands_in_for_a_node_that_nobody_has_told_of() -> None:
    """Its tasks may come here before the word of who took them in, and be placed by it."""
    tasks = tasks_of(view=make_view("b", "d"))
    hear(tasks, ("a", submitted()))
    assert ("", False) == (tasks.ownership.owner("a"), tasks.ownership.is_mine("a"))
    for _ in range(UNHEARD_OF_STEPS):
        assert not tasks.ownership.is_mine("a")
        tasks.unheard_of_for_longer()
    assert tasks.ownership.is_mine("a")
    tasks.see(make_view("b", "d", "a"))
    assert "a" == tasks.ownership.owner("a")


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
