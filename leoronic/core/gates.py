"""Conditions on the queue: `queue:is_first` and `queue:all_with_cmd_done REGEX`.

Nothing is rescanned when a task ends: each regex in use keeps the set of live tasks whose command
matches. A task is tested against the regexes in use once, when it is submitted; when a regex is
new, the journal is asked once for the live tasks that match.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable
from collections.abc import Set as AbstractSet

from leoronic.core.conditions import AllWithCmdDone, QueueIsFirst, compile_regex
from leoronic.core.records import Record, Status, TaskClass
from leoronic.core.spec import TaskSpec, command_text

_NONE: frozenset[int] = frozenset()
_WAITING = (Status.DEPENDING, Status.DELAYED, Status.READY, Status.OFFERED)


class _RegexGate:
    """Live tasks that match one regex, but for those that carry the condition themselves."""

    def __init__(self, regex: str) -> None:
        self.matches: Callable[[str], bool] | None = None
        self.unusable = ""  # why it can't be searched for: accepted by another version or machine
        try:
            self.matches = compile_regex(regex)
        except ValueError as error:
            self.unusable = str(error)
        self.matching: dict[str, None] = {}
        self.known = False  # has the journal answered?
        self.classes: set[int] = set()


class Gates:
    """Tells which classes of tasks may start as far as the queue itself is concerned."""

    def __init__(self, infeasible: Container[int] = ()) -> None:
        self._infeasible = infeasible  # classes that no node could ever run
        self._regexes: dict[str, _RegexGate] = {}
        self._first_classes: set[int] = set()
        self._waiting: list[tuple[int, str]] = []  # heap, kept only while somebody must be first

    def add_class(self, task_class: TaskClass, live: Callable[[], Iterable[Record]]) -> list[str]:
        """A class appeared. Returns regexes that are new: the journal must be asked for them."""
        new: list[str] = []
        for gate in task_class.gates:
            if isinstance(gate, QueueIsFirst):
                if not self._first_classes:
                    self._waiting = [(r.order, r.id) for r in live()]
                    heapq.heapify(self._waiting)
                self._first_classes.add(task_class.number)
            else:
                regex = self._regexes.get(gate.regex)
                if regex is None:
                    regex = self._regexes[gate.regex] = _RegexGate(gate.regex)
                    if regex.matches is not None:
                        new.append(gate.regex)
                regex.classes.add(task_class.number)
        return new

    def drop_class(self, task_class: TaskClass) -> None:
        """No live task is of this class any more."""
        self._first_classes.discard(task_class.number)
        if not self._first_classes:
            self._waiting = []
        for gate in task_class.gates:
            if isinstance(gate, AllWithCmdDone):
                regex = self._regexes[gate.regex]
                regex.classes.discard(task_class.number)
                if not regex.classes:
                    del self._regexes[gate.regex]

    def task_added(self, task: str, spec: TaskSpec, task_class: TaskClass) -> AbstractSet[int]:
        """A task was submitted. Returns the classes whose gate may have closed."""
        if not self._regexes:
            return _NONE
        touched: set[int] = set()
        command = command_text(spec)
        for regex in self._regexes.values():
            if regex.matches is None or task_class.number in regex.classes:
                continue
            if regex.matches(command):
                regex.matching[task] = None
                touched |= regex.classes
        return touched

    def task_waits(self, record: Record) -> None:
        """A task waits for its turn (again)."""
        if self._first_classes and record.parent is None:
            heapq.heappush(self._waiting, (record.order, record.id))

    def task_ended(self, task: str) -> set[int]:
        """A task is final. Returns the classes whose gate may have opened."""
        touched: set[int] = set()
        for regex in self._regexes.values():
            if task in regex.matching:
                del regex.matching[task]
                touched |= regex.classes
        return touched

    def matched(
        self, regex: str, ids: Iterable[str], class_of: Callable[[str], int | None]
    ) -> set[int]:
        """The journal's answer for a new regex. Returns the classes to look at again."""
        gate = self._regexes.get(regex)
        if gate is None:
            return set()
        gate.known = True
        for task in ids:
            number = class_of(task)
            if number is not None and number not in gate.classes:
                gate.matching[task] = None
        return set(gate.classes)

    def is_shut(self, task_class: TaskClass) -> bool:
        """Whether `all_with_cmd_done` keeps the class back; `is_first` depends on the task."""
        for gate in task_class.gates:
            if isinstance(gate, AllWithCmdDone):
                regex = self._regexes[gate.regex]
                if regex.unusable or not regex.known or regex.matching:
                    return True
        return False

    def reasons(self, task_class: TaskClass) -> list[str]:
        """What keeps the class back, in words."""
        reasons: list[str] = []
        for gate in task_class.gates:
            if isinstance(gate, AllWithCmdDone):
                regex = self._regexes[gate.regex]
                if regex.unusable:
                    reasons.append(f"queue:all_with_cmd_done: {regex.unusable}")
                elif not regex.known:
                    reasons.append(f"looking for tasks that match {gate.regex!r}")
                elif regex.matching:
                    one = next(iter(regex.matching))
                    reasons.append(
                        f"queue:all_with_cmd_done {gate.regex}: {len(regex.matching)} not done "
                        f"yet, such as {one}"
                    )
        return reasons

    def wants_first(self, task_class: TaskClass) -> bool:
        """Whether tasks of this class wait to be first in the queue."""
        return task_class.number in self._first_classes

    def first_classes(self) -> set[int]:
        """Classes that wait to be first."""
        return self._first_classes

    def is_first(self, record: Record, live: dict[str, Record]) -> bool:
        """Whether no task submitted before `record` still waits for its turn."""
        heap = self._waiting
        while heap and heap[0][0] < record.order:
            other = live.get(heap[0][1])
            if other is not None and self._waits(other):
                return False
            heapq.heappop(heap)
        return True

    def _waits(self, record: Record) -> bool:
        return record.status in _WAITING and record.task_class.number not in self._infeasible


def search(regex: str, spec: TaskSpec) -> bool:
    """Whether the command of a task matches, as `queue:all_with_cmd_done` means it.

    A regex that can't be used matches everything: who waits for it must not start.
    """
    try:
        matches = compile_regex(regex)
    except ValueError:
        return True
    return matches(command_text(spec))
