"""Arrays: one task with many elements, as one record.

An element gets a record of its own only when it is about to start; those that ended are counted and
forgotten. So an array of a million costs what one task costs, plus what runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.records import FINAL_STATES, Record, Status, TaskClass

# No array is as long; and Python refuses to read numbers of thousands of digits.
INDEX_DIGITS_MAX = 18


def split_element(task: str) -> tuple[str, int] | None:
    """(array id, index) of an element id such as `k3f9.12`; None for any other id."""
    array, dot, index = task.rpartition(".")
    if not dot or len(index) > INDEX_DIGITS_MAX or not index.isascii() or not index.isdigit():
        return None
    return array, int(index)


class ArrayRecord(Record):
    """The record of an array: which elements were made, and how those that ended did."""

    __slots__ = ("_next", "_skipped", "count", "elements", "ended")

    def __init__(self, id: str, order: int, task_class: TaskClass, count: int) -> None:
        super().__init__(id, order, task_class)
        self.count = count
        self.elements: dict[int, Record] = {}
        self.ended = dict.fromkeys(FINAL_STATES, 0)
        self._next = 0
        self._skipped: set[int] = set()  # from `_next` on, made or ended before their turn came

    @property
    def state(self) -> str:
        """`running` from the first element's start to the last one's end."""
        if self.status in (Status.READY, Status.RUNNING):
            begun = any(e.status is Status.RUNNING for e in self.elements.values())
            return "running" if begun or any(self.ended.values()) else "waiting"
        return super().state

    def has_more(self) -> bool:
        """Whether an element has not been made yet."""
        self._skip()
        return self._next < self.count

    def next_element(self) -> Record:
        """Make the next element. Only if `has_more()`."""
        self._skip()
        assert self._next < self.count, f"{self.id} has no element {self._next}"
        index = self._next
        self._next += 1
        return self.element(index)

    def element(self, index: int) -> Record:
        """The live element `index`, made if need be."""
        found = self.elements.get(index)
        if found is None:
            found = Record(f"{self.id}.{index}", self.order, self.task_class)
            found.parent = self
            self.elements[index] = found
            if index >= self._next:
                self._skipped.add(index)
        return found

    def is_open(self, index: int) -> bool:
        """Whether element `index` exists and has not ended."""
        if not 0 <= index < self.count:
            return False
        if index in self.elements:
            return True
        return index >= self._next and index not in self._skipped

    def end(self, index: int, state: str) -> bool:
        """Element `index` is final; true if it was the last of all."""
        if self.is_open(index):
            self.element(index)
            del self.elements[index]
            self.ended[state] += 1
        return self.is_done()

    def flip(self, was: str, state: str) -> None:
        """An element that ended as `was` has ended as `state` instead."""
        self.ended[was] -= 1
        self.ended[state] += 1

    def take_over(self, other: Record) -> None:
        """As for any record. `other` is an array of as many elements; they are kept as well."""
        super().take_over(other)
        assert isinstance(other, ArrayRecord)
        self.ended, self._next, self._skipped = other.ended, other._next, other._skipped
        for index, known in other.elements.items():
            made = Record(known.id, self.order, self.task_class)
            made.parent = self
            made.take_over(known)
            self.elements[index] = made

    def is_done(self) -> bool:
        """Whether every element is final. Then the array is, of which no entry tells."""
        return sum(self.ended.values()) == self.count

    @property
    def unmade(self) -> int:
        """How many elements have not been made."""
        return self.count - sum(self.ended.values()) - len(self.elements)

    def final_state(self) -> str:
        """What the array ends as: failed if any element failed, else cancelled if any was."""
        for state in ("failed", "cancelled"):
            if self.ended[state]:
                return state
        return "succeeded"

    def restore(self, known: Iterable[int], ended: dict[str, int]) -> None:
        """After a restart: `known` are all elements with an entry, `ended` how many ended how."""
        self._skipped.update(known)
        self._skip()
        self.ended.update(ended)

    def _skip(self) -> None:
        while self._next in self._skipped:
            self._skipped.discard(self._next)
            self._next += 1
