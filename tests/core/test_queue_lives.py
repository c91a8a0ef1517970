"""Stories of the queue: what survives a full disk, and the end of a life."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leoronic.core.peer import Offer
from leoronic.core.queue_messages import (
    Count,
    LiveTask,
)
from leoronic.errors import DiskFull
from tests.core.world import NODE, World


@pytest.fixture
def world() -> World:
    return World()


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
    assert ({}, {}, {}) == (tasks.windows.ready, tasks.feasibility.obstacles, tasks.windows._dirty)
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
    assert ([], set(), set()) == (
        tasks.open_runs.nodes(),
        tasks.windows._mine,
        tasks.open_runs._given_up,
    )
    requests = world.queue.requests
    assert ({}, set(), {}, [], {}, {}) == (
        requests._plans,
        requests._claimed,
        requests._changing,
        requests._parked,
        requests._copying,
        world.queue._derived,
    )
