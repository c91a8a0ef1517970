"""Which classes of tasks no node could ever run, as the nodes are, and why.

Judged for tasks of all owners, so that all nodes tell the same. Only what seldom changes counts:
the size of the nodes, and whether the one that a task is meant for is there.
"""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.records import TaskClass
from leoronic.core.resources import Capacity, shortfalls
from leoronic.core.view import DOWN, LEFT, View

_Fact = tuple[str, str, str, Capacity]
"""(id, name, state, capacity) of a member; all that counts as there is alike."""

_UNKNOWN = Capacity(0, 0, 0)  # of a node whose executor has not said yet


class Feasibility:
    """`obstacles` {class number: why no node could run it}; those that one could are left out."""

    def __init__(self) -> None:
        self.obstacles: dict[int, list[str]] = {}
        self._facts: list[_Fact] = []
        self._alive: list[_Fact] = []

    def see(self, view: View, classes: Iterable[TaskClass]) -> list[int]:
        """The view is another now. Returns the classes about which there is news, sorted."""
        facts = sorted(
            (m.id, m.about.name, "" if m.alive else m.state, m.about.capacity)
            for m in view.everyone()
        )
        if facts == self._facts:
            return []
        self._facts = facts
        self._alive = [fact for fact in facts if not fact[2]]
        return sorted(c.number for c in classes if self.judge(c))

    def judge(self, task_class: TaskClass) -> bool:
        """Look at one class, a new one for instance; whether there is news."""
        number = task_class.number
        before = self.obstacles.get(number, [])
        now = self._find(task_class)
        if now:
            self.obstacles[number] = now
        else:
            self.obstacles.pop(number, None)
        return now != before

    def forget(self, number: int) -> None:
        """No live task is of this class any more."""
        self.obstacles.pop(number, None)

    def _find(self, task_class: TaskClass) -> list[str]:
        if not self._alive:
            return []  # nothing is known yet
        nodes = self._alive
        if task_class.node:
            meant = [fact for fact in self._facts if task_class.node in fact[:2]]
            nodes = [fact for fact in meant if not fact[2]]
            if not nodes:
                return [_absent(task_class.node, meant)]
        obstacles: list[str] = []
        for _, name, _, capacity in nodes:
            short = shortfalls(task_class.need, capacity)
            if not short or capacity == _UNKNOWN:
                return []
            obstacles += [f"{name}: {one}" for one in short]
        return obstacles


def _absent(node: str, meant: list[_Fact]) -> str:
    """Why the node that a task is meant for cannot run it."""
    states = {fact[2] for fact in meant}
    if DOWN in states:
        return f"the task is meant for node {node}, but node {node} is down"
    if LEFT in states:
        return f"the task is meant for node {node}, but node {node} has left"
    return f"the task is meant for node {node}, and there is no such node"
