"""Tasks that could start now, by class, oldest first.

The scheduler never sees the whole queue: each class shows it a window of its oldest tasks, and
refills the window as it is used up. So placing costs the same with a thousand tasks as with a
million, and the scheduler's memory is bounded. The more nodes, the wider the window.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from leoronic.core.arrays import ArrayRecord
from leoronic.core.records import Record, Status, TaskClass

WINDOW_TASKS = 128  # for each node that is there
WINDOW_TASKS_MAX = 4096
_SLACK_TASKS = 256


class ReadyClass:
    """The ready tasks of one class."""

    __slots__ = ("_fifo", "_returned", "_returns", "offered", "task_class")

    def __init__(self, task_class: TaskClass) -> None:
        self.task_class = task_class
        self.offered: dict[str, Record] = {}
        self._fifo: deque[Record] = deque()
        # Tasks that come back (retries, releases) keep their place in the order of submission.
        self._returned: list[tuple[int, int, Record]] = []
        self._returns = 0  # breaks ties in the heap

    def add(self, record: Record) -> None:
        """`record` is ready."""
        record.status = Status.READY
        fifo = self._fifo
        if record.parent is not None or (fifo and fifo[-1].order > record.order):
            self._return(record)
        else:
            fifo.append(record)

    def _return(self, record: Record) -> None:
        self._returns += 1
        heapq.heappush(self._returned, (record.order, self._returns, record))

    def give_back(self) -> list[Record]:
        """Take back all that was offered; they are ready again."""
        records = list(self.offered.values())
        self.offered.clear()
        for record in records:
            record.status = Status.READY
            self._return(record)
        return records

    def head(self) -> Record | None:
        """The oldest ready task, which stays."""
        self._prune()
        first = self._fifo[0] if self._fifo else None
        back = self._returned[0][2] if self._returned else None
        if first is None or back is None:
            return first or back
        return back if back.order <= first.order else first

    def offer(self, tasks_max: int) -> Iterator[Record]:
        """Hand out up to `tasks_max` of the oldest tasks; array elements are made as they go."""
        while tasks_max > 0:
            record = self.head()
            if record is None:
                return
            tasks_max -= 1
            if isinstance(record, ArrayRecord):
                element = record.next_element()
                if not record.has_more():
                    self._pop(record)
                    record.status = Status.RUNNING
            else:
                self._pop(record)
                element = record
            element.status = Status.OFFERED
            self.offered[element.id] = element
            yield element

    def _pop(self, record: Record) -> None:
        if self._fifo and self._fifo[0] is record:
            self._fifo.popleft()
        else:
            heapq.heappop(self._returned)

    def tidy(self) -> None:
        """Forget what others started, of a class of theirs. Cheap, however often it is done."""
        if len(self._fifo) + len(self._returned) > (
            2 * self.task_class.tally[Status.READY] + _SLACK_TASKS
        ):
            self._fifo = deque(record for record in self._fifo if _is_ready(record))
            self._returned = [one for one in self._returned if _is_ready(one[2])]
            heapq.heapify(self._returned)

    def _prune(self) -> None:
        """Drop what is no longer ready (cancelled, held) from the front: removal is lazy."""
        while self._fifo and not _is_ready(self._fifo[0]):
            self._fifo.popleft()
        while self._returned and not _is_ready(self._returned[0][2]):
            heapq.heappop(self._returned)


def _is_ready(record: Record) -> bool:
    if isinstance(record, ArrayRecord) and record.status is Status.READY and not record.has_more():
        record.status = Status.RUNNING  # the rest of it was cancelled, element by element
    return record.status is Status.READY
