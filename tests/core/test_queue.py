"""Stories of the queue: what is asked of it, what follows, and what survives."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leoronic.core.peer import Offer
from leoronic.core.queue_messages import (
    Accepted,
    ChangeTasks,
    Count,
    FindLive,
    LiveTask,
    SubmitSpecs,
    TasksChanged,
    Watching,
)
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import BadRequest, Conflict, DiskFull
from tests.core.world import NODE, World


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


# ---- arrays ----


def test_an_array_is_one_entry_and_ends_as_one(world: World) -> None:
    """Elements run in order; the array has failed if any of them has."""
    world.add("a", count=3)
    assert 1 == len(world.reads.page())
    world.finish("a.0")
    world.finish("a.1", 1)
    assert "running" == world.state("a")
    assert {"succeeded": 1, "failed": 1, "running": 1} == world.live("a").elements
    world.finish("a.2")
    assert ["failed", "succeeded", "failed"] == world.states("a", "a.0", "a.1")
    assert {"succeeded": 2, "failed": 1} == {
        state: count for state, count in world.ask("queue", Count()).items() if count
    }


def test_cancelling_elements_one_by_one(world: World) -> None:
    """An element is cancelled before its turn, or while it runs; the others go on."""
    world.add("a", count=4)
    assert ["a.0", "a.3"] == world.change("cancel", "a.0", "a.3")
    assert [] == world.change("cancel", "a.0", "a.4", "a.-1")
    assert ["a.1", "a.2"] == world.running()
    world.drain()
    states = world.states("a.0", "a.1", "a.2", "a.3", "a")
    assert ["cancelled", "succeeded", "succeeded", "cancelled", "cancelled"] == states


def test_no_element_beyond_the_last_is_made(world: World) -> None:
    """When the rest of an array is cancelled one by one, nothing but its elements ever runs."""
    world.add("a", count=200)
    rest = [f"a.{index}" for index in range(2, 200)]
    assert rest == world.change("cancel", *rest)
    assert ["a.0", "a.1"] == world.drain()
    assert "cancelled" == world.state("a")
    assert [] == [what for what in world.told() if "a.200" in what]


def test_cancelling_an_array(world: World) -> None:
    """What runs of it is killed, the rest never starts; each element counts as cancelled."""
    world.add("a", count=1000)
    world.finish("a.0")
    world.told()
    world.change("cancel", "a")
    assert ["kill a.1 1 cancelled", "kill a.2 1 cancelled"] == world.told()[:2]
    assert [] == world.running()
    assert "cancelled" == world.state("a")
    counts = world.ask("queue", Count())
    assert (1, 999) == (counts["succeeded"], counts["cancelled"])
    assert counts == {**counts, **world.reads.ended()}


def test_an_element_cancelled_while_it_runs_has_one_outcome(world: World) -> None:
    """Its process ends as killed; it stays cancelled, in memory, on disk and after a restart."""
    world.add("a", count=2)
    world.change("cancel", "a.0")
    world.finish("a.1")
    assert "cancelled" == world.state("a.0")
    before = world.ask("queue", Count())
    assert 1 == before["cancelled"]
    world.start_core()
    assert before == world.ask("queue", Count())


def test_a_cancel_that_crosses_an_end_wins(world: World) -> None:
    """Also if the element succeeded just before its cancellation was written: all nodes agree."""
    world.add("a", count=3)
    world.ask_later("queue", ChangeTasks("cancel", ["a.0"]))
    world.step()  # the queue has decided, nothing is on disk
    world._mail.rotate(1)
    append = world._mail.popleft()
    world.finish("a.0")
    world.tell(*append)
    assert "cancelled" == world.state("a.0")
    before = world.live("a").elements
    assert before is not None
    assert (1, None) == (before["cancelled"], before.get("succeeded"))
    world.start_core()
    assert before == world.live("a").elements


# ---- trying again ----


def test_retries_with_delay(world: World) -> None:
    """A failure is tried again after `retry_delay`, `retries` times."""
    world.add("a", retries=2, retry_delay=10.0)
    world.finish("a", 1)
    assert "waiting" == world.state("a")
    assert ["attempt 1 failed; it is tried again in 10 s"] == world.live("a").reasons
    assert ["run a 1", "forget a 1"] == world.told()
    world.advance(9.9)
    assert [] == world.told()
    world.advance(0.1)
    assert ["run a 2"] == world.told()
    world.finish("a", 1)
    world.advance(10.0)
    assert ["forget a 2", "run a 3"] == world.told()
    world.finish("a", 1)
    assert "failed" == world.state("a")
    assert {} == world.timers("queue")


def test_two_delays_at_once(world: World) -> None:
    """One timer serves all delays: each retry is due at its own time."""
    world.add("slow", retries=1, retry_delay=20.0)
    world.add("quick", retries=1, retry_delay=5.0)
    world.finish("slow", 1)
    world.finish("quick", 1)
    world.told()
    assert {"queue:delayed": 5.0} == world.timers("queue")
    world.advance(5.0)
    assert ["run quick 2"] == world.told()
    world.advance(15.0)
    assert ["run slow 2"] == world.told()


def test_a_retry_keeps_its_place_in_the_order(world: World) -> None:
    """What was submitted first goes first, also at its second attempt."""
    for task in ("a", "b", "c"):
        world.add(task, cpus=2.0, retries=1, retry_delay=0.0)
    world.finish("a", 1)
    assert ["b"] == world.running()  # it took a's place before a's end was on disk
    assert ["b", "a", "c"] == world.drain()


def test_losses_are_tried_again_until_they_are_too_many(world: World) -> None:
    """A loss doesn't count as a retry; the fifth holds the task: it may be what kills the node."""
    world.add("a")
    for attempt in range(1, 5):
        assert [f"run a {attempt}", f"forget a {attempt - 1}"][: 2 if attempt > 1 else 1] == (
            sorted(world.told(), reverse=True)
        )
        world.kill_runner()
    assert ["forget a 4", "run a 5"] == world.told()
    world.kill_runner()
    assert ["forget a 5"] == world.told()
    assert "held" == world.state("a")
    assert ["attempt 5 was lost; look what it did, then release the task"] == world.live(
        "a"
    ).reasons
    world.change("release", "a")
    assert ["run a 6"] == world.told()


def test_on_loss_hold(world: World) -> None:
    """What must never run twice waits for a person after a loss; also over a restart."""
    world.add("a", on_loss="hold")
    world.kill_runner()
    assert "held" == world.state("a")
    assert "attempt 1 was lost" in world.live("a").reasons[0]
    world.start_core()
    assert "held" == world.state("a")
    world.told()
    assert ["a"] == world.change("release", "a")
    assert ["run a 2"] == world.told()
    world.start_core()
    assert "running" == world.state("a")


def test_releasing_an_array_releases_what_a_loss_holds(world: World) -> None:
    """Elements that were lost and held go on when their array is released."""
    world.add("a", on_loss="hold", count=3)
    world.kill_runner()
    held = [task for task in ("a.0", "a.1", "a.2") if world.state(task) == "held"]
    assert held
    assert ["a"] == world.change("release", "a")
    assert [] == [task for task in held if world.state(task) == "held"]
    assert [] == world.change("release", "a")


# ---- conditions on the queue ----


def test_is_first(world: World) -> None:
    """It starts when nothing submitted earlier waits; what runs is not in its way."""
    world.add("run", cpus=1.0)
    world.add("big", cpus=2.0)
    world.add("me", cpus=1.0, conditions=("queue:is_first",))
    assert ["run"] == world.running()
    assert ["queue:is_first: tasks submitted earlier are still waiting"] == world.live("me").reasons
    world.finish("run")
    assert ["big"] == world.running()
    world.finish("big")
    assert ["me"] == world.running()


@pytest.mark.parametrize("status", ["held", "blocked", "cancelled"])
def test_is_first_past_what_can_not_start(world: World, status: str) -> None:
    """Earlier tasks that are held, blocked or cancelled do not wait for their turn."""
    world.add("root")
    world.add("earlier", after=("root",))
    world.add("me", conditions=("queue:is_first",))
    assert ["root"] == world.running()
    if status == "held":
        world.change("hold", "earlier")
    elif status == "blocked":
        world.finish("root", 1)
    else:
        world.change("cancel", "earlier")
    assert status == world.state("earlier")
    assert "me" in world.running()


def test_is_first_one_after_the_other(world: World) -> None:
    """Of several that want to be first, each waits for the one before to start."""
    for task in ("a", "b", "c"):
        world.add(task, cpus=2.0, conditions=("queue:is_first",))
    assert ["a", "b", "c"] == world.drain()


def test_elements_of_an_array_are_first_together(world: World) -> None:
    """An array that is first hands out its elements, and nothing of what comes after it."""
    world.add("a", count=3, cpus=2.0, conditions=("queue:is_first",))
    world.add("b", cpus=2.0, conditions=("queue:is_first",))
    world.add("c", cpus=2.0, conditions=("queue:is_first",))
    assert ["a.0", "a.1", "a.2", "b", "c"] == world.drain()


def test_all_with_cmd_done(world: World) -> None:
    """It waits for every live task whose command matches; the journal is asked once per regex."""
    world.add("m1", command="make one")
    world.add("m2", command="make two")
    world.add("x", command="other")
    world.add("sum", conditions=("queue:all_with_cmd_done ^make",))
    world.add("sum2", conditions=("queue:all_with_cmd_done ^make",), memory=5)
    assert ["^make"] == world.matches_asked
    assert ["queue:all_with_cmd_done ^make: 2 not done yet, such as m1"] == world.live(
        "sum"
    ).reasons
    world.finish("m1")
    world.finish("m2", 1)
    assert ["x", "sum"] == world.running()
    world.drain()
    assert ["succeeded"] * 2 == world.states("sum", "sum2")
    assert ["^make"] == world.matches_asked


def test_a_task_with_the_condition_does_not_wait_for_its_like(world: World) -> None:
    """Tasks that carry the condition themselves do not count, although their command matches."""
    for task in ("a", "b"):
        world.add(task, command="make", conditions=("queue:all_with_cmd_done make",))
    assert ["a", "b"] == world.running()


def test_a_gate_that_closes_again_takes_back_what_did_not_start(world: World) -> None:
    """A matching task that comes later is waited for by what the scheduler had in hand."""
    world.add("busy", cpus=2.0)
    world.add("sum", conditions=("queue:all_with_cmd_done ^make",))
    world.add("m", command="make", priority=-1)
    assert "1 not done yet, such as m" in world.live("sum").reasons[0]
    assert ["busy", "m", "sum"] == world.drain()


def test_what_no_node_could_run_is_blocked(world: World) -> None:
    """Too big for every node: it says so, and nobody who wants to be first waits for it."""
    world.add("big", cpus=64.0)
    world.add("me", conditions=("queue:is_first",))
    assert "blocked" == world.state("big")
    assert ["one: needs 64 cpus, the node has 2 in all"] == world.live("big").reasons
    assert ["me"] == world.running()


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


# ---- the disk ----


def test_a_full_disk_refuses_and_forgets(world: World) -> None:
    """What could not be written never happened: the error is told, the id is free again."""
    world.disk_is_full = True
    with pytest.raises(DiskFull):
        world.add("a")
    assert [] == world.told()
    world.disk_is_full = False
    world.add("a")
    assert ["run a 1"] == world.told()
    world.disk_is_full = True
    with pytest.raises(DiskFull):
        world.change("cancel", "a")
    assert "running" == world.state("a")
    assert [] == world.told()


def test_ids_of_refused_submissions_are_never_given_twice() -> None:
    """Refused submissions spend ids; a new life, which does not know, gives others."""
    world = World()
    kept = world.submit("x")
    world.disk_is_full = True
    with pytest.raises(DiskFull):
        world.submit(*["y"] * 50)
    world.disk_is_full = False
    kept += world.submit("z")
    world.now += 1.0
    world.start_core()
    kept += world.submit(*["w"] * 100)
    assert len(kept) == len(set(kept)) == len(world.reads.page(limit=1000))


# ---- one life after the other ----


def comparable(task: LiveTask) -> LiveTask:
    """Numbers of classes are of one life."""
    return replace(task, class_number=0)


def test_loaded_restores_everything(world: World) -> None:
    """After a restart every task stands where it stood, and goes on from there."""
    world.add("runs", cpus=1.5)
    world.add("waits")
    world.add("fails")
    world.change("hold", "fails")
    world.add("first", conditions=("queue:is_first",))
    world.add("child", after=("waits",))
    world.add("gate", conditions=("queue:all_with_cmd_done ^do runs",))
    world.add("retry", cpus=0.25, retries=1, retry_delay=100.0)
    world.add("array", count=300, cpus=0.25)
    world.finish("retry", 1)
    world.finish("array.0")
    world.change("cancel", "array.7", "array.299")
    tasks = ["runs", "waits", "fails", "first", "child", "gate", "retry", "array"]
    before = [world.live(task) for task in tasks]
    counts = world.ask("queue", Count())
    world.told()
    world.start_core()
    after = [world.live(task) for task in tasks]

    assert [comparable(one) for one in before] == [comparable(one) for one in after]
    assert counts == world.ask("queue", Count())
    assert [] == world.told()
    world.advance(100.0)
    world.change("release", "fails")
    world.drain()
    assert {"succeeded"} == set(world.states(*tasks[:-1]))
    assert "cancelled" == world.state("array")
    assert 300 - 2 + 7 == world.ask("queue", Count())["succeeded"]


def test_an_array_goes_on_in_its_gaps(world: World) -> None:
    """Elements that never started are run after a restart, those that did are not run again."""
    world.add("a", count=6)
    world.change("cancel", "a.4")
    world.finish("a.1")
    world.start_core()
    assert ["a.0", "a.2", "a.3", "a.5"] == world.drain()
    assert "cancelled" == world.state("a")


def test_a_scheduler_that_starts_anew_is_told_all_again(world: World) -> None:
    """What runs goes on, what waits is offered again, nothing starts twice."""
    for task in ("a", "b", "c"):
        world.add(task)
    world.add("array", count=3)
    world.told()
    world.restart_scheduler()
    assert [] == world.told()
    assert ["a", "b", "c", "array.0", "array.1", "array.2"] == world.drain()
    assert 6 == len([what for what in world.told() if what.startswith("run")]) + 2


def test_a_queue_that_starts_anew_beside_the_others(world: World) -> None:
    """The scheduler and the executor start after it; the runner never notices."""
    world.add("a")
    world.add("b", retries=1, retry_delay=5.0)
    world.finish("b", 1)
    world.told()
    world.start_queue()
    world.restart_scheduler()
    assert [] == world.told()
    world.advance(5.0)
    assert ["run b 2"] == world.told()


def test_a_node_that_grows_can_run_what_it_could_not(world: World) -> None:
    """Blocked for want of room for ever, it starts as soon as a node has that room."""
    world.add("big", cpus=4.0)
    assert "blocked" == world.state("big")
    world.tell("runner", replace(world.capacity, cpus_milli=4000))
    assert ["run big 1"] == world.told()


def test_an_offer_that_crosses_an_assignment_makes_no_endless_loop(world: World) -> None:
    """The scheduler, told of less than was assigned, asks for too much once, and learns."""
    world.add("a", cpus=1.5)
    world.add("b", cpus=1.0)
    world.told()
    world.machines["runner"].handle(replace(world.capacity, storage=1), world.now)
    stale = Offer(NODE, "one", world.capacity, frozenset(), False, [])
    world.tell("scheduler", stale)
    assert [] == world.told()
    world.finish("a")
    assert ["forget a 1", "run b 1"] == sorted(world.told())


def test_nothing_is_left_when_all_has_ended(world: World) -> None:
    """After the last task no table holds anything: classes, graph, gates, windows."""
    world.add("a", conditions=("queue:is_first",))
    world.add("b", after=("a",), retries=1, retry_delay=0.0)
    world.add("c", after=("a failed",))
    world.add("d", after=("c",), conditions=("queue:all_with_cmd_done do b",))
    world.add("array", count=5, cpus=0.5)
    world.add("big", cpus=100.0)
    world.change("cancel", "array.3", "c", "big")
    world.drain(1)
    world.drain()
    world.change("cancel", "d", "b", "c")
    tasks = world.queue.tasks
    assert {} == tasks.live
    assert 0 == len(tasks.classes)
    assert ({}, {}, {}) == (tasks.ready, tasks.feasibility.obstacles, tasks._dirty)
    graph = tasks.graph
    assert ({}, {}, {}, {}, set()) == (
        graph._waits,
        graph._broken,
        graph._met,
        graph._children,
        graph._blocked,
    )
    gates = tasks.gates
    assert ({}, set(), []) == (gates._regexes, gates._first_classes, gates._waiting)
    assert ([], set(), set()) == (tasks.open_runs.nodes(), tasks._mine, tasks.open_runs._given_up)
    queue = world.queue
    assert ({}, set(), {}, [], {}, {}) == (
        queue._plans,
        queue._claimed,
        queue._changing,
        queue._parked,
        queue._derived,
        queue._copying,
    )
