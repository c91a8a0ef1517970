"""Which live tasks have a run under way on which node, and what is given up when one is gone.

By level: for as long as a run of ours counts as under way on a node that is gone, there is a `Lost`
for it on its way to the disk.
"""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.entries import Entry, Lost
from leoronic.core.records import Record

_Run = tuple[str, int, str]
"""(task, attempt, node)."""


class OpenRuns:
    """See the module. Kept so that a node's end need not scan the queue."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[str, None]] = {}  # node -> tasks
        self._given_up: set[_Run] = set()  # those whose `Lost` is on its way to the disk

    def note(self, record: Record, attempt: int, node: str) -> None:
        """A run of `record` is another now."""
        under_way = record.runs.open_on(node)
        if under_way:
            self._tasks.setdefault(node, {})[record.id] = None
        else:
            self._drop(node, record.id)
        if attempt not in under_way:
            self._given_up.discard((record.id, attempt, node))

    def restore(self, record: Record) -> None:
        """Of `record` nothing was known here, or no longer."""
        for node in record.runs.open_nodes():
            self._tasks.setdefault(node, {})[record.id] = None

    def forget(self, record: Record) -> None:
        """`record` is final."""
        for node in record.runs.open_nodes():
            for attempt in record.runs.open_on(node):
                self._given_up.discard((record.id, attempt, node))
            self._drop(node, record.id)

    def _drop(self, node: str, task: str) -> None:
        tasks = self._tasks.get(node)
        if tasks is not None:
            tasks.pop(task, None)
            if not tasks:
                del self._tasks[node]

    def nodes(self) -> list[str]:
        """The nodes where something is under way, sorted."""
        return sorted(self._tasks)

    def tasks_on(self, node: str) -> list[str]:
        """The tasks that have a run under way on `node`."""
        return list(self._tasks.get(node, ()))

    def give_up(self, record: Record, node: str, at: float, why: str) -> list[Entry]:
        """The losses to write as `node` is gone; not those that are being written."""
        found: list[Entry] = []
        hold = record.hold_if_lost()
        for attempt in record.runs.open_on(node):
            if (record.id, attempt, node) not in self._given_up:
                self._given_up.add((record.id, attempt, node))
                found.append(Lost(record.id, attempt, node, at, why, hold))
        return found

    def not_written(self, entries: Iterable[Entry]) -> None:
        """The disk had no room for these: what of it still holds is to be given up again."""
        for entry in entries:
            if isinstance(entry, Lost):
                self._given_up.discard((entry.task, entry.attempt, entry.node))
