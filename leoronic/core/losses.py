"""Which runs this node gives up because the node that they run on is gone."""

from __future__ import annotations

from leoronic.core.entries import Entry
from leoronic.core.live import LiveRecords
from leoronic.core.open_runs import OpenRuns
from leoronic.core.ownership import Ownership
from leoronic.core.records import Record


class Losses:
    """See the module."""

    def __init__(
        self,
        records: LiveRecords,
        ownership: Ownership,
        open_runs: OpenRuns,
    ) -> None:
        self._records = records
        self._ownership = ownership
        self._open_runs = open_runs

    def all(self) -> list[Entry]:
        """What runs on nodes that are gone is lost; of one's own tasks, one says so."""
        found: list[Entry] = []
        for node in self._open_runs.nodes():
            if self._ownership.is_gone(node):
                for task in self._open_runs.tasks_on(node):
                    record = self._records.find(task)
                    assert record is not None, f"{task} is under way on {node}, and not known"
                    found += self.of(record, node)
        return found

    def of(self, record: Record, node: str) -> list[Entry]:
        """The same of one task and node."""
        if not (
            self._ownership.is_gone(node) and self._ownership.is_mine(record.task_class.origin)
        ):
            return []
        why = self._ownership.why_gone(node)
        return self._open_runs.give_up(record, node, self._records.now, why)
