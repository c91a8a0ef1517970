"""Stories of the queue: what is asked of it, and what it answers."""

from __future__ import annotations

import pytest

from leoronic.core.queue_messages import (
    Accepted,
    ChangeTasks,
    Count,
    FindLive,
    SubmitSpecs,
    TasksChanged,
    Watching,
)
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import BadRequest, Conflict
from tests.core.world import World


@pytest.fixture
def world() -> World:
    return World()


# ---- submitting ----


def test_a_task_from_door_to_outcome(world: World) -> None:
    """Submitted, started, finished, forgotten: and nothing else is said to the runner."""
    world.add("a")
    assert ["run a 1"] == world.told()
    assert "running" == world.state("a")
    world.finish("a")
    assert ["forget a 1"] == world.told()
    assert "succeeded" == world.state("a")
    assert {} == world.timers("queue")


def test_who_else_holds_a_submission_is_told(world: World) -> None:
    """The nodes that replication names, each time anew."""
    world.copies = ["m"]
    accepted = world.ask("queue", SubmitSpecs([TaskSpec("x")]))
    assert ["m"] == accepted.held_by
    assert {} == world.timers("queue")


def test_ids_are_given_in_the_order_of_the_specs(world: World) -> None:
    """Own ids are kept, the others are made; the answer has the order of the request."""
    ids = world.submit(TaskSpec("x"), TaskSpec("y", id="mine"), TaskSpec("z"))
    assert 3 == len(set(ids))
    assert "mine" == ids[1]
    assert ["x", "y", "z"] == [world.reads.spec(task).command for task in ids]  # type: ignore[union-attr]


def test_a_submission_is_whole_or_nothing(world: World) -> None:
    """One task with an unknown dependency: none of the request is on disk, the place is named."""
    with pytest.raises(BadRequest) as caught:
        world.submit(TaskSpec("x", id="a"), TaskSpec("y", id="b", after=(After("nobody"),)))
    assert "tasks[1].after: no task has the id or name 'nobody'" == caught.value.message
    assert [] == world.reads.page()
    assert [] == world.told()
    world.add("a")  # its id is free again
    assert ["run a 1"] == world.told()


def test_every_mistake_of_a_submission_is_told(world: World) -> None:
    """Several mistakes come together, each with its place."""
    with pytest.raises(BadRequest) as caught:
        world.submit(TaskSpec("x", after=(After("p"),)), TaskSpec("y", after=(After("q"),)))
    assert [
        "tasks[0].after: no task has the id or name 'p'",
        "tasks[1].after: no task has the id or name 'q'",
    ] == caught.value.problems


def test_an_own_id_makes_repeating_harmless(world: World) -> None:
    """The same submission again, while it lives or after it ended, changes nothing."""
    world.add("a")
    world.add("a")
    assert ["run a 1"] == world.told()
    world.finish("a")
    world.add("a")
    assert ["forget a 1"] == world.told()
    assert 1 == len(world.reads.page())


def test_an_own_id_of_another_task_is_a_conflict(world: World) -> None:
    """Another command under a known id is refused, and the rest of that request with it."""
    world.add("a")
    with pytest.raises(Conflict, match="the id a belongs to another task"):
        world.submit(TaskSpec("fine", id="new"), TaskSpec("other", id="a"))
    assert 1 == len(world.reads.page())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(TaskSpec("x", id="a"), TaskSpec("x", id="a"), id="known on disk"),
        pytest.param(TaskSpec("x", id="a"), TaskSpec("y", id="a"), id="conflicts"),
    ],
)
def test_the_same_own_id_twice_at_once(world: World, first: TaskSpec, second: TaskSpec) -> None:
    """A second submission of an id under way waits for the first one's end, whatever it is."""
    world.submit(TaskSpec("x", id="a"))
    requests = [world.ask_later("queue", SubmitSpecs([spec])) for spec in (second, second, first)]
    world.run_until_idle()
    assert [True, True, True] == [world.is_answered(request) for request in requests]


def test_an_id_whose_submission_is_refused_is_free_for_who_waits(world: World) -> None:
    """The parked request is looked at again when the one before it was refused."""
    bad = TaskSpec("x", id="a", after=(After("nobody"),))
    refused = world.ask_later("queue", SubmitSpecs([bad]))
    good = world.ask_later("queue", SubmitSpecs([TaskSpec("x", id="a")]))
    world.run_until_idle()
    with pytest.raises(BadRequest):
        world.answer(refused)
    assert Accepted(["a"]) == world.answer(good)


# ---- after ----


def test_after_by_id_name_and_beginning(world: World) -> None:
    """A dependency may be named by id, by name, or by an unambiguous beginning of the id."""
    world.submit(TaskSpec("x", id="first-task", name="prepare"))
    world.add("b", after=("first-task",))
    world.add("c", after=("prepare",))
    world.add("d", after=("first",))
    assert ["run first-task 1"] == world.told()
    assert ["waiting"] * 3 == world.states("b", "c", "d")
    assert ["it runs after first-task has succeeded"] == world.live("d").reasons
    world.finish("first-task")
    assert ["forget first-task 1", "run b 1", "run c 1"] == world.told()


def test_after_within_one_submission(world: World) -> None:
    """Tasks of one request may name each other, later ones as well; a shared name means all."""
    world.submit(
        TaskSpec("sum", id="sum", after=(After("part"),)),
        TaskSpec("p", id="p1", name="part"),
        TaskSpec("p", id="p2", name="part"),
    )
    assert ["run p1 1", "run p2 1"] == world.told()
    world.finish("p1")
    assert "waiting" == world.state("sum")
    world.finish("p2")
    assert "running" == world.state("sum")


def test_a_beginning_that_fits_several_is_refused(world: World) -> None:
    """Which one is meant must be said."""
    world.submit(TaskSpec("x", id="part-1"), TaskSpec("x", id="part-2"))
    with pytest.raises(BadRequest, match="'part' fits 2 tasks"):
        world.add("b", after=("part",))


def test_circles_are_refused_and_named(world: World) -> None:
    """A circle of dependencies is refused, with the whole circle in the message."""
    with pytest.raises(BadRequest, match="in a circle: a > c > b > a"):
        world.submit(
            TaskSpec("x", id="a", after=(After("c"),)),
            TaskSpec("x", id="b", after=(After("a"),)),
            TaskSpec("x", id="c", after=(After("b"),)),
        )
    with pytest.raises(BadRequest, match="in a circle: d > d"):
        world.add("d", after=("d",))


def test_both_whens_of_one_task(world: World) -> None:
    """Asked for success and for the end of the same task, it waits for success."""
    world.add("a")
    world.add("b", after=("a ended", "a succeeded"))
    world.finish("a", 1)
    assert "blocked" == world.state("b")
    with pytest.raises(BadRequest, match="cannot both succeed and fail"):
        world.add("c", after=("a failed", "a succeeded"))


def test_failure_cascades_into_blocked(world: World) -> None:
    """What waits for a failed task is blocked, and what waits for that; each says why."""
    world.add("a")
    world.add("b", after=("a",))
    world.add("c", after=("b ended",))
    world.finish("a", 1)
    assert ["failed", "blocked", "blocked"] == world.states("a", "b", "c")
    assert ["it runs after a has succeeded, but that failed"] == world.live("b").reasons
    assert ["it runs after b, which is blocked itself"] == world.live("c").reasons


def test_after_failed_and_ended(world: World) -> None:
    """`failed` runs after a failure only, `ended` after any end."""
    world.add("a")
    world.add("clean", after=("a ended",))
    world.add("mourn", after=("a failed",))
    world.add("cheer", after=("a succeeded",))
    world.finish("a", 1)
    assert ["running", "running", "blocked"] == world.states("clean", "mourn", "cheer")
    world.drain()
    world.add("b")
    world.add("mourn b", after=("b failed",))
    world.finish("b")
    assert ["it runs after b has failed, but that succeeded"] == world.live("mourn b").reasons


def test_redo_unblocks(world: World) -> None:
    """A redo of the culprit mends what it broke, all the way down."""
    world.add("a")
    world.add("b", after=("a",))
    world.add("c", after=("b",))
    world.finish("a", 1)
    world.submit(TaskSpec("do a", id="a2", redo_of="a"))
    assert ["waiting", "waiting"] == world.states("b", "c")
    assert ["a2", "b", "c"] == world.drain()
    assert ["succeeded"] * 3 == world.states("a2", "b", "c")


def test_a_task_added_after_the_redo_waits_for_it(world: World) -> None:
    """Whoever depends on a failed task that was redone depends on the redo, however often."""
    world.add("a")
    world.finish("a", 1)
    world.submit(TaskSpec("do a", id="a2", redo_of="a"))
    world.add("b", after=("a",))
    assert "waiting" == world.state("b")
    world.finish("a2", 1)
    assert "blocked" == world.state("b")
    world.submit(TaskSpec("do a", id="a3", redo_of="a2"))
    world.add("c", after=("a",))
    assert ["a3", "b", "c"] == world.drain()


def test_after_a_task_that_ended_already(world: World) -> None:
    """The journal is asked how it ended."""
    world.add("good")
    world.add("bad")
    world.finish("good")
    world.finish("bad", 1)
    world.told()
    world.add("b", after=("good",))
    world.add("c", after=("bad",))
    assert ["run b 1"] == world.told()
    assert "blocked" == world.state("c")


# ---- changing ----


def test_cancel_what_waits_and_what_runs(world: World) -> None:
    """Cancelling is final at once; what runs is killed, and its end changes nothing more."""
    for task in ("a", "b", "c"):
        world.add(task)
    world.told()
    assert ["a", "c"] == world.change("cancel", "a", "c")
    assert ["kill a 1 cancelled", "forget a 1"] == world.told()
    assert ["cancelled", "running", "cancelled"] == world.states("a", "b", "c")
    assert [] == world.change("cancel", "a")
    assert 1 == world.ask("queue", Count())["running"]
    assert 2 == world.ask("queue", Count())["cancelled"]


def test_an_answer_tells_what_changed_and_what_did_not(world: World) -> None:
    """Each id once, in one of three lists: held but running is said apart."""
    world.add("a", cpus=2.0)
    world.add("b")
    answer = world.ask("queue", ChangeTasks("hold", ["a", "b", "b", "gone"]))
    assert (["b"], ["gone"], ["a"]) == (answer.changed, answer.unchanged, answer.running)


def test_hold_and_release(world: World) -> None:
    """A held task stays where it is, lets others pass, and keeps its place in the order."""
    world.add("a", cpus=2.0)
    world.add("b", cpus=2.0)
    world.add("c", cpus=2.0)
    world.change("hold", "b")
    assert "held" == world.state("b")
    assert ["held"] == world.live("b").reasons
    world.finish("a")
    assert ["c"] == world.running()
    world.add("d", cpus=2.0)
    assert ["b"] == world.change("release", "b")
    assert [] == world.change("release", "b")
    assert ["c", "b", "d"] == world.drain()


def test_what_runs_goes_on_while_it_is_held(world: World) -> None:
    """A hold keeps a running task from its next attempt, not from its present one."""
    world.add("a", retries=1, retry_delay=0.0)
    world.change("hold", "a")
    assert ["run a 1"] == world.told()
    world.finish("a", 1)
    assert "held" == world.state("a")
    assert ["forget a 1"] == world.told()
    world.change("release", "a")
    assert ["run a 2"] == world.told()


def test_holding_an_array_holds_its_elements(world: World) -> None:
    """What runs of it goes on, nothing more starts; a release lets all of it go on."""
    world.add("a", count=4)
    assert ["a.0", "a.1"] == world.running()
    world.change("hold", "a")
    world.finish("a.0")
    world.finish("a.1")
    assert [] == world.running()
    assert {"succeeded": 2, "held": 2} == world.live("a").elements
    world.change("release", "a")
    assert ["a.2", "a.3"] == world.drain()
    assert "succeeded" == world.state("a")


# ---- questions ----


def test_count_and_find_live(world: World) -> None:
    """Counts have elements one by one; finding is newest first, page by page."""
    for task in ("a", "b", "c", "d"):
        world.add(task)
    world.add("array", count=10)
    world.change("hold", "d")
    counts = world.ask("queue", Count())
    assert (2, 11, 1) == (counts["running"], counts["waiting"], counts["held"])
    assert ["array", "c"] == world.ask("queue", FindLive("waiting", 5))
    assert ["c"] == world.ask("queue", FindLive("waiting", 5, before=world.live("array").order))
    assert ["b"] == world.ask("queue", FindLive("running", 1))


def test_an_element_whose_turn_has_not_come(world: World) -> None:
    """It is described by its array."""
    world.add("a", count=500)
    described = world.live("a.400")
    assert ("waiting", 0) == (described.state, described.attempt)
    assert "its turn has not come: array a" == described.reasons[0]


def test_watchers_hear_of_each_change(world: World) -> None:
    """While somebody watches, each change is told once, in order; else nothing is."""
    world.add("before")
    world.to_control.clear()
    world.tell("queue", Watching(True))
    world.add("a", cpus=0.5)
    world.finish("a")
    seen = [
        (change.id, change.state)
        for told in world.to_control
        if isinstance(told, TasksChanged)
        for change in told.changes
    ]
    assert [("a", "waiting"), ("a", "running"), ("a", "succeeded")] == seen
    world.to_control.clear()
    world.tell("queue", Watching(False))
    world.add("b", cpus=0.5)
    assert [] == world.to_control
