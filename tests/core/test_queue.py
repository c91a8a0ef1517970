"""Stories of the queue: what follows from what is asked of it."""

from __future__ import annotations

import pytest

from leoronic.core.queue_messages import (
    ChangeTasks,
    Count,
)
from tests.core.world import World


@pytest.fixture
def world() -> World:
    return World()


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
