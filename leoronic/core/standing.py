"""Where a live task stands that does not run: held, blocked, waiting for others or its time, ready.

It follows from the record, what it depends on, and the time; so it is looked at again whenever one
of these has changed.
"""

from __future__ import annotations

import heapq

from leoronic.core.arrays import ArrayRecord
from leoronic.core.effects import Effect, SetTimer
from leoronic.core.gates import Gates
from leoronic.core.graph import Graph
from leoronic.core.live import LiveRecords
from leoronic.core.records import Record, Status
from leoronic.core.windows import Windows


class Standing:
    """See the module. Its timer, added to `effects`, is "delayed"; it calls `wake_delayed`."""

    def __init__(
        self,
        records: LiveRecords,
        graph: Graph,
        gates: Gates,
        windows: Windows,
        effects: list[Effect],
    ) -> None:
        self._records = records
        self._graph = graph
        self._gates = gates
        self._windows = windows
        self._effects = effects
        self._delayed: list[tuple[float, str]] = []

    def place(self, record: Record) -> None:
        """Decide where a task that does not run stands now."""
        self._windows.take_back(record)
        # What an array runs after may turn out otherwise when some of its elements have begun.
        base = record.parent or record
        if record.why_held() is not None:
            record.status = Status.HELD
        elif self._graph.is_blocked(base.id):
            record.status = Status.BLOCKED
        elif not self._graph.is_free(base.id):
            record.status = Status.DEPENDING
            self._gates.task_waits(record)
        elif record.not_before > self._records.now:
            record.status = Status.DELAYED
            self._gates.task_waits(record)
            heapq.heappush(self._delayed, (record.not_before, record.id))
            self._set_timer()
        else:
            self._make_ready(record)
        self._records.note(record)

    def _make_ready(self, record: Record) -> None:
        if isinstance(record, ArrayRecord) and not record.has_more():
            record.status = Status.RUNNING
            return
        self._windows.add(record)
        self._gates.task_waits(record)

    def place_family(self, record: Record) -> None:
        """It reaches an array's elements, but nothing that runs."""
        if isinstance(record, ArrayRecord):
            for element in list(record.elements.values()):
                if element.status is not Status.RUNNING:
                    self.place(element)
            self.place(record)
        elif record.status is not Status.RUNNING:
            self.place(record)

    def place_all(self, tasks: list[str]) -> None:
        """What these depend on has changed."""
        for task in tasks:
            record = self._records.live.get(task)
            if record is not None:
                self.place_family(record)

    def _set_timer(self) -> None:
        self._effects.append(SetTimer("delayed", self._delayed[0][0]))

    def wake_delayed(self) -> None:
        """Retries that are due become ready."""
        while self._delayed and self._delayed[0][0] <= self._records.now:
            _, task = heapq.heappop(self._delayed)
            record = self._records.find(task)
            if record is not None and record.status is Status.DELAYED:
                self.place(record)
        if self._delayed:
            self._set_timer()
