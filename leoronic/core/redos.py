"""Which redo of a task others wait for instead: the newest, as the journal has it.

Two nodes may redo one task at the same time, or before it is known everywhere how it ended. So
what a redo tells by its coming is only a beginning: wherever there may be another, the journal is
asked, and all nodes come to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.graph import Graph
from leoronic.core.live import LiveRecords


class Redos:
    """See the module. Each method names the tasks whose standing changed.

    `ask` has the journal tell of tasks, in a later call of `known`.
    """

    def __init__(
        self, records: LiveRecords, graph: Graph, ask: Callable[[Iterable[str]], None]
    ) -> None:
        self._records = records
        self._graph = graph
        self._ask = ask

    def submitted(self, old: str, new: str) -> list[str]:
        """`new` is there, a redo of `old`."""
        changed = self.known(old, new)
        if self._graph.is_waited_for(old):
            self._ask_unless_live([old])  # an answer that is under way does not know of `new`
        return changed

    def known(self, old: str, new: str) -> list[str]:
        """`new` is the newest redo of `old`, or was a moment ago."""
        changed = self._graph.redo(old, new)
        if changed:
            self._ask_unless_live([new])
        return changed + self._start_over(old, new)

    def ended(self, task: str) -> None:
        """`task` is final. Elsewhere that may have been known, and answered by a redo, before."""
        if self._graph.breaks(task):
            self._ask([task])

    def flipped(self, task: str) -> list[str]:
        """`task` ended otherwise than it was known before."""
        self.ended(task)
        return self._start_over(task, "")

    def _start_over(self, old: str, new: str) -> list[str]:
        others, changed = self._graph.start_over(old, new)
        self._ask_unless_live(others)
        return changed

    def _ask_unless_live(self, tasks: Iterable[str]) -> None:
        self._ask(task for task in tasks if task not in self._records.live)
