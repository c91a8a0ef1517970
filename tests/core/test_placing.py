"""Stories of a whole node: what is placed, and what becomes of it."""

from __future__ import annotations

from leoronic.core.placement import PATIENCE_S
from leoronic.core.scheduler import SchedulerMachine
from tests.core.world import World


def test_exclusive_tasks_are_alone_and_come_to_it() -> None:
    """One that wants the node to itself is not passed by for ever by small ones."""
    world = World(cpus=2.0)
    world.add("s0")
    world.add("s1")
    world.add("alone", concurrent=False)
    number = 2
    for _ in range(40):
        world.advance(1.0)
        if "alone" in world.running():
            break
        world.add(f"s{number}")
        number += 1
        world.finish(world.running()[0])
    assert ["alone"] == world.running()
    assert number < 12
    world.add("later")
    assert ["alone"] == world.running()
    world.finish("alone")
    assert 2 == len(world.running())


def test_big_tasks_are_not_starved() -> None:
    """After `PATIENCE_S` of being passed by, a node keeps free what the big one needs."""
    world = World(cpus=4.0)
    for number in range(4):
        world.add(f"s{number}", cpus=1.0)
    world.add("big", cpus=3.0)
    number, waited_s = 4, 0.0
    while "big" not in world.running():
        world.add(f"s{number}", cpus=1.0)
        number += 1
        world.advance(0.5)
        waited_s += 0.5
        world.finish(world.running()[0])
        assert waited_s < PATIENCE_S + 5.0, "starved"
    assert waited_s > PATIENCE_S
    assert 1 == len(set(world.running()) - {"big"})  # beside it there is room for one


def test_a_round_costs_the_same_whatever_is_queued() -> None:
    """With a hundred times the tasks, as many messages, and no more is in the windows."""

    def effort(count: int) -> tuple[int, int]:
        world = World(cpus=2.0)
        world.submit(*["x"] * count)
        before = world.handled
        for _ in range(50):
            world.finish(world.running()[0])
        machine = world.machines["scheduler"]
        assert isinstance(machine, SchedulerMachine)
        held = sum(len(window.items) for window in machine.placement.windows.values())
        return world.handled - before, held

    assert effort(300) == effort(5_000)


def test_a_cancelled_task_is_killed_by_the_next_life_of_the_core() -> None:
    """The core died between writing the cancellation and killing: the next one kills."""
    world = World()
    world.add("a")
    world.add("array", count=2)
    assert ["a", "array.0"] == world.running()
    world.runner_obeys = False
    world.change("cancel", "a", "array.0")
    world.told()
    world.runner_obeys = True
    world.start_core()
    told = world.told()
    assert ["kill a 1 cancelled", "kill array.0 1 cancelled"] == told[:2]
    assert ["cancelled", "cancelled"] == world.states("a", "array.0")
    world.drain()
    assert {"succeeded": 1, "cancelled": 2} == {k: v for k, v in world.reads.ended().items() if v}
