"""What no node could ever run, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leoronic.core.feasibility import Feasibility
from leoronic.core.records import ClassTable, TaskClass
from leoronic.core.resources import Capacity
from leoronic.core.spec import TaskSpec
from tests.core.views import make_view

SMALL = Capacity(1000, 100, 100)


def class_of(**fields: Any) -> TaskClass:
    return ClassTable().intern(TaskSpec("x", **fields))


class Untouchable(list[TaskClass]):
    """Classes that must not be looked at."""

    def __iter__(self) -> Iterator[TaskClass]:
        raise AssertionError("a class was looked at")


def obstacles(task_class: TaskClass, *members: str, **fields: Any) -> list[str]:
    found = Feasibility()
    found.see(make_view("a", *members, **fields), [task_class])
    return found.obstacles.get(task_class.number, [])


def test_one_node_is_enough() -> None:
    """What fits one node is feasible; else each node's reasons are told."""
    task = class_of(memory=500)
    sizes = {"a": SMALL, "b": Capacity(1000, 500, 100)}
    assert [] == obstacles(task, "b", capacities=sizes)
    assert ["name-a: needs 500 B of memory, the node has 100 B in all"] == obstacles(
        task, "b down", capacities=sizes
    )
    assert [] == obstacles(task, "b suspect", capacities=sizes)


def test_a_node_that_a_task_is_meant_for() -> None:
    """By id or name; why it is not there is told, and what others could do is not asked."""
    for name in ("b", "name-b"):
        task = class_of(node=name)
        assert [] == obstacles(task, "b")
        meant = f"the task is meant for node {name}, "
        assert [meant + f"but node {name} is down"] == obstacles(task, "b down")
        assert [meant + f"but node {name} has left"] == obstacles(task, "b left")
        assert [meant + "and there is no such node"] == obstacles(task)
    big = class_of(node="b", memory=500)
    assert ["name-b: needs 500 B of memory, the node has 100 B in all"] == obstacles(
        big, "b", capacities={"b": SMALL}
    )


def test_nothing_is_told_before_something_is_known() -> None:
    """Without a view, and while a node has not said how big it is."""
    task = class_of(memory=500)
    assert not Feasibility().judge(task)
    assert [] == obstacles(task, "b", capacities={"a": SMALL, "b": Capacity(0, 0, 0)})


def test_only_news_are_told() -> None:
    """A view that is no other for this purpose asks for no look at any class."""
    found = Feasibility()
    task = class_of(memory=500)
    small = make_view("a", capacity=SMALL)
    assert [task.number] == found.see(small, [task])
    assert not found.judge(task)

    assert [] == found.see(make_view("a", capacity=SMALL), Untouchable())
    assert [] == found.see(make_view("a", "b down", capacity=SMALL), [task])
    assert [task.number] == found.see(make_view("a", "b"), [task])
    assert {} == found.obstacles


def test_a_class_that_is_gone_is_forgotten() -> None:
    """Its obstacles with it."""
    found = Feasibility()
    task = class_of(memory=500)
    found.see(make_view("a", capacity=SMALL), [task])
    found.forget(task.number)
    assert {} == found.obstacles
