"""Dependencies between live tasks: who waits for whom, and what can never start.

Pure bookkeeping. A task depends on others by (id, when), `when` being `succeeded`, `failed` or
`ended`. A dependency that can no longer come true breaks; a task with a broken one is blocked, and
so is everything that waits for a blocked task. Redoing the culprit mends all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def satisfied(state: str, when: str) -> bool:
    """Whether a task that ended as `state` is what `when` waits for."""
    return when in ("ended", state)


def both(when: str, other: str) -> str:
    """What is to be waited for if both are asked of one task; '' if that can never be."""
    if other in (when, "ended"):
        return when
    return other if when == "ended" else ""


def find_cycle(edges: Mapping[str, Sequence[str]]) -> list[str] | None:
    """A cycle in `edges` (task -> those it waits for), first and last alike; None if none."""
    done: set[str] = set()
    for root in edges:
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, int]] = [(root, 0)]
        while stack:
            node, child = stack.pop()
            if child == 0:
                if node in done:
                    continue
                path.append(node)
                on_path.add(node)
            targets = edges.get(node, ())
            if child < len(targets):
                stack.append((node, child + 1))
                target = targets[child]
                if target in on_path:
                    return [*path[path.index(target) :], target]
                if target not in done:
                    stack.append((target, 0))
            else:
                path.pop()
                on_path.discard(node)
                done.add(node)
    return None


class Graph:
    """What live tasks depend on, met or not: how a task ended may turn out otherwise."""

    def __init__(self) -> None:
        self._waits: dict[str, dict[str, str]] = {}  # task -> {other: when}
        self._broken: dict[str, dict[str, tuple[str, str]]] = {}  # task -> {other: (when, state)}
        self._met: dict[str, dict[str, str]] = {}  # task -> {other: when}
        self._children: dict[str, dict[str, None]] = {}
        self._blocked: set[str] = set()
        # Of tasks that wait for a redo of another: what they were given, and {redone: its redo}.
        self._given: dict[str, dict[str, str]] = {}
        self._moved: dict[str, dict[str, str]] = {}
        self._movers: dict[str, dict[str, None]] = {}  # redone -> tasks that wait for its redo

    def add(self, task: str, dependencies: Iterable[tuple[str, str, str | None]]) -> None:
        """Register `task` with (other, when, final state of the other or None while it lives)."""
        for other, when, state in dependencies:
            self._children.setdefault(other, {})[task] = None
            if state is None:
                self._waits.setdefault(task, {})[other] = when
            else:
                self._judge(task, other, when, state)
        if task in self._broken or any(o in self._blocked for o in self._waits.get(task, ())):
            self._blocked.add(task)

    def is_free(self, task: str) -> bool:
        """Whether nothing holds `task` back."""
        return task not in self._waits and task not in self._broken

    def is_blocked(self, task: str) -> bool:
        """Whether `task` can never start as things stand."""
        return task in self._blocked

    def is_waited_for(self, task: str) -> bool:
        """Whether others depend on `task`, whatever became of it."""
        return task in self._children

    def breaks(self, task: str) -> bool:
        """Whether others can never start because of how `task` ended."""
        return any(task in self._broken.get(child, ()) for child in self._children.get(task, ()))

    def waiting_for(self, task: str) -> dict[str, str]:
        """The others that `task` still waits for, with what it waits for them to be."""
        return dict(self._waits.get(task, {}))

    def reasons(self, task: str) -> list[str]:
        """Why `task` is blocked, in words."""
        reasons = [
            f"it runs after {other} has {_past(when)}, but that {_was(state)}"
            for other, (when, state) in self._broken.get(task, {}).items()
        ]
        reasons += [
            f"it runs after {other}, which is blocked itself"
            for other in self._waits.get(task, {})
            if other in self._blocked
        ]
        return reasons

    def settle(self, task: str, state: str) -> list[str]:
        """`task` is final as `state`: forget it, and name the tasks whose standing changed."""
        self._drop(task)
        changed: list[str] = []
        for child in list(self._children.get(task, ())):
            when = self._waits.get(child, {}).pop(task, None)
            if when is None:
                continue
            if not self._waits[child]:
                del self._waits[child]
            self._judge(child, task, when, state)
            changed.append(child)
        return self._recolour(changed)

    def flip(self, task: str, state: str) -> list[str]:
        """`task`, final before, ended as `state` instead. Names those whose standing changed."""
        changed: list[str] = []
        for child in list(self._children.get(task, ())):
            when = _take(self._met, child, task)
            if when is None:
                broken = _take(self._broken, child, task)
                if broken is None:
                    continue  # it is being asked how that task ended
                when = broken[0]
            self._judge(child, task, when, state)
            changed.append(child)
        return self._recolour(changed)

    def forget(self, task: str) -> list[str]:
        """`task` depends on nothing any more. Names the others whose standing changed."""
        blocked = task in self._blocked
        self._drop(task)
        if not blocked:
            return []
        self._blocked.add(task)
        return [other for other in self._recolour([task]) if other != task]

    def _judge(self, task: str, other: str, when: str, state: str) -> None:
        if satisfied(state, when):
            self._met.setdefault(task, {})[other] = when
        else:
            self._broken.setdefault(task, {})[other] = (when, state)

    def redo(self, old: str, new: str) -> list[str]:
        """What `old` broke waits for `new` instead. Names the tasks whose standing changed."""
        changed: list[str] = []
        for child in list(self._children.get(old, ())):
            broken = self._broken.get(child, {}).get(old)
            if broken is None:
                continue
            own = self._given_for(child, new)
            when = both(own, broken[0]) if own else broken[0]
            if not when:
                continue  # it waits for `new` itself, to end otherwise: redoing mends nothing
            self._note_move(child, old, new)
            _take(self._broken, child, old)
            self._forget_edge(old, child)
            # How `new` ended, if it did, is judged again.
            _take(self._broken, child, new)
            _take(self._met, child, new)
            self._waits.setdefault(child, {})[new] = when
            self._children.setdefault(new, {})[child] = None
            changed.append(child)
        return self._recolour(changed)

    def _given_for(self, task: str, other: str) -> str:
        """What `task` waits, or waited, for `other` to be; '' if it does not depend on it."""
        broken = self._broken.get(task, {}).get(other)
        if broken is not None:
            return broken[0]
        return self._waits.get(task, {}).get(other) or self._met.get(task, {}).get(other, "")

    def _note_move(self, task: str, old: str, new: str) -> None:
        if task not in self._given:
            broken = {other: when for other, (when, _) in self._broken[task].items()}
            waits, met = self._waits.get(task, {}), self._met.get(task, {})
            self._given[task] = {**waits, **broken, **met}
        self._moved.setdefault(task, {})[old] = new
        self._movers.setdefault(old, {})[task] = None

    def start_over(self, old: str, new: str) -> tuple[list[str], list[str]]:
        """Of the redos of `old`, `new` may be the one that counts: undo the moves to another.

        Returns what is waited for instead, and the tasks whose standing changed.
        """
        tasks = [task for task in self._movers.get(old, ()) if self._moved[task][old] != new]
        others: dict[str, None] = {}
        for task in tasks:
            given, blocked = self._given[task], task in self._blocked
            self._drop(task)
            if blocked:
                self._blocked.add(task)  # what it blocks is seen to below
            self._waits[task] = given
            for other in given:
                self._children.setdefault(other, {})[task] = None
                others[other] = None
        return list(others), self._recolour(tasks)

    def _drop(self, task: str) -> None:
        others = [*self._waits.pop(task, {}), *self._broken.pop(task, {})]
        for other in [*others, *self._met.pop(task, {})]:
            self._forget_edge(other, task)
        self._given.pop(task, None)
        for old in self._moved.pop(task, ()):
            del self._movers[old][task]
            if not self._movers[old]:
                del self._movers[old]
        self._blocked.discard(task)

    def _forget_edge(self, other: str, task: str) -> None:
        children = self._children.get(other)
        if children is not None:
            children.pop(task, None)
            if not children:
                del self._children[other]

    def _recolour(self, changed: list[str]) -> list[str]:
        """Bring `blocked` up to date from `changed` down; all tasks touched, in order."""
        touched = dict.fromkeys(changed)
        queue = list(changed)
        while queue:
            task = queue.pop()
            blocked = task in self._broken or any(
                other in self._blocked for other in self._waits.get(task, ())
            )
            if blocked == (task in self._blocked):
                continue
            (self._blocked.add if blocked else self._blocked.discard)(task)
            touched[task] = None
            for child in self._children.get(task, ()):
                touched[child] = None
                queue.append(child)
        return list(touched)


def _take(edges: dict[str, dict[str, T]], task: str, other: str) -> T | None:
    """Remove an edge and return what it holds; None if there is none."""
    found = edges.get(task, {}).pop(other, None)
    if found is not None and not edges[task]:
        del edges[task]
    return found


def _past(when: str) -> str:
    return {"succeeded": "succeeded", "failed": "failed", "ended": "ended"}[when]


def _was(state: str) -> str:
    return f"was {state}" if state in ("cancelled", "forgotten") else state
