"""Stories of several schedulers and executors: fair, never doubled, nothing forgotten."""

from __future__ import annotations

import pytest

from leoronic.core.placement import PATIENCE_S
from tests.core.placing_net import Net


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def drain(net: Net, seconds_max: float, *, took_s: float = 1.0) -> None:
    """End what runs, again and again, until nothing runs or waits."""
    end = net.now + seconds_max
    while net.now < end:
        net.run()
        busy = False
        for name, node in net.nodes.items():
            busy = busy or bool(node.running or node.offered or node.waiting)
            for task in net.running(name):
                net.finish(name, task, took_s)
        if not busy:
            return
        net.run(0.05)
    raise AssertionError("it does not drain")


def assert_once(net: Net, count: int) -> None:
    """Each of so many tasks began exactly once."""
    assert count == len(net.starts)
    assert count == len({key for _, key in net.starts})


def test_what_is_too_much_for_one_goes_to_the_others() -> None:
    """Each takes what it can at once."""
    net = Net(1, 2, 1)
    net.submit("a", *names("t", 6))
    net.run(1.0)
    assert [1, 2, 1] == [len(net.running(name)) for name in "abc"]
    drain(net, 30.0)
    assert_once(net, 6)


@pytest.mark.parametrize(("nodes", "lag_s"), [(1, 0.0), (2, 0.0), (4, 0.0), (3, 0.3)])
def test_many_short_tasks(nodes: int, lag_s: float) -> None:
    """Each begins once; all nodes take their part, and messages are few, as they carry many."""
    net = Net(*[2.0] * nodes, lag_s=lag_s)
    net.submit("a", *names("t", 2000))
    drain(net, 300.0, took_s=0.002)
    assert_once(net, 2000)
    parts = [sum(1 for where, _ in net.starts if where == name) for name in net.nodes]
    assert min(parts) > 0.7 * 2000 / nodes
    assert net.messages < 2000 * 4


def test_two_owners_share_one_executor_fairly() -> None:
    """Its own owner does not have it for itself, nor does the other."""
    net = Net(2, 0.5)
    net.submit("a", *names("a", 200))
    net.submit("b", *names("b", 200))
    for _ in range(100):
        net.run(0.1)
        for task in net.running("a"):
            net.finish("a", task)
    theirs = sum(1 for _, (task, _) in net.starts if task.startswith("b"))
    assert 0.35 < theirs / len(net.starts) < 0.65
    assert len(net.starts) > 160  # of 200: little idles


def test_two_owners_take_turns_on_one_cpu() -> None:
    """Though neither can hold less than all of it; also of tasks that are short."""
    net = Net(1, 0.5)
    net.submit("a", *names("a", 2000))
    net.submit("b", *names("b", 2000))
    for _ in range(200):
        net.run(0.06)
        for task in net.running("a"):
            net.finish("a", task, 0.002)
    theirs = sum(1 for _, (task, _) in net.starts if task.startswith("b"))
    assert 0.3 < theirs / len(net.starts) < 0.7


def test_an_owner_that_needs_no_room_keeps_nobody_waiting() -> None:
    """What it has can't run here: the others have the node to themselves."""
    net = Net(2, 1)
    net.submit("b", "never", conditions=("worker:tag none",))
    net.submit("a", *names("a", 100))
    net.run(1.0)
    before = len(net.starts)
    for _ in range(20):
        net.run(0.1)
        for task in net.running("a"):
            net.finish("a", task)
    assert len(net.starts) - before >= 38


def test_a_big_task_is_not_starved_by_another_owners_small_ones() -> None:
    """It gets the node to itself some time after its patience has ended."""
    net = Net(2, 0.5)
    net.submit("a", *names("a", 500), cpus=0.5)
    net.run(0.5)
    net.submit("b", "big", cpus=2.0)
    for _ in range(300):
        net.run(0.1)
        if "big" in net.running("a"):
            break
        for task in net.running("a")[:1]:
            net.finish("a", task)
    assert ["big"] == net.running("a")
    assert net.now < 1000.0 + PATIENCE_S + 10.0


def test_an_exclusive_task_of_another_owner() -> None:
    """It is alone, and not starved."""
    net = Net(2, 0)
    net.submit("a", *names("a", 300))
    net.submit("b", "alone", concurrent=False)
    for _ in range(200):
        net.run(0.1)
        if "alone" in net.running("a"):
            break
        for task in net.running("a")[:1]:
            net.finish("a", task)
    assert ["alone"] == net.running("a")


def test_a_file_on_another_node() -> None:
    """The task goes where it is, once it is there."""
    net = Net(2, 1)
    net.submit("a", "t", conditions=("worker:has_file data",))
    net.run(3.0)
    assert [] == net.starts
    net.nodes["b"].files = frozenset({"data"})
    net.run(3.0)
    assert ["t"] == net.running("b")


@pytest.mark.parametrize("lag_s", [0.0, 0.2])
def test_an_owner_that_starts_again_doubles_nothing(lag_s: float) -> None:
    """Not even what is on its way to another node, or its entries on their way back."""
    net = Net(0, 4, 4, lag_s=lag_s)
    net.submit("a", *names("t", 50))
    for steps in range(1, 120):
        net.start_scheduler("a")
        for _ in range(min(steps, len(net._mail))):
            net._step()
        net.run(0.0 if steps % 3 else 1.0)
        for name in "bc":
            for task in net.running(name)[:1]:
                net.finish(name, task)
    drain(net, 60.0)
    assert_once(net, 50)


@pytest.mark.parametrize("lag_s", [0.0, 2.0])
def test_a_connection_that_breaks_and_comes_back(lag_s: float) -> None:
    """What was assigned over it runs in the end, once; what ended meanwhile does so too."""
    net = Net(1, 2, lag_s=lag_s)
    net.submit("a", *names("t", 12))
    net.run(1.0)
    assert 2 == len(net.running("b"))
    net.cut.add(frozenset("ab"))
    for task in net.running("b"):
        net.finish("b", task)
    net.run(8.0)
    net.cut.clear()
    drain(net, 60.0)
    assert_once(net, 12)


def test_assignments_that_are_lost_are_made_again() -> None:
    """The executor tells that they never arrived."""
    net = Net(0, 2)
    net.submit("a", "first")
    net.run(1.0)
    net.cut.add(frozenset("ab"))
    net.submit("a", "second")
    net.run(1.0)
    net.cut.clear()
    net.run(10.0)
    assert ["first", "second"] == net.running("b")
    assert_once(net, 2)


def test_idle_schedulers_say_nothing() -> None:
    """Some time after the last task nobody asks anybody any more."""
    net = Net(1, 1, 1)
    net.submit("a", *names("t", 9))
    drain(net, 30.0)
    net.run(20.0)
    before = net.messages
    net.run(600.0)
    assert before == net.messages
