"""What tasks are, asked by a ghost of its clairvoyant: one question at a time, as often as needed.

Specs of many tasks may be larger than a frame may be; so an answer may leave some for the next one.
"""

from __future__ import annotations

from collections import deque

from leoronic.core.ghost_messages import ENTRIES_MAX, GhostFetchSpecs, GhostSpecs
from leoronic.core.ghost_pending import Wanted
from leoronic.core.queue_messages import FetchSpecs
from leoronic.core.spec import TaskSpec


class _Fetch:
    def __init__(self, tasks: list[str], asker: FetchSpecs | Wanted) -> None:
        self.tasks = tasks
        self.asker = asker
        self.found: dict[str, TaskSpec] = {}


class SpecFetches:
    """Those of the executor, and of starts whose specs did not fit into their answer."""

    def __init__(self) -> None:
        self._waiting: deque[_Fetch] = deque()

    def __len__(self) -> int:
        """How many wait for an answer."""
        return len(self._waiting)

    def add(self, tasks: list[str], asker: FetchSpecs | Wanted) -> GhostFetchSpecs | None:
        """They are wanted. What is to be asked now, unless another question is under way."""
        self._waiting.append(_Fetch(tasks, asker))
        return self.question() if len(self._waiting) == 1 else None

    def question(self) -> GhostFetchSpecs | None:
        """The one that is under way: each clairvoyant is asked it anew."""
        if not self._waiting:
            return None
        return GhostFetchSpecs(self._waiting[0].tasks[:ENTRIES_MAX])

    def hear(self, answer: GhostSpecs) -> tuple[FetchSpecs | Wanted, dict[str, TaskSpec]] | None:
        """Who asked, and all that was found; None if more of it is to be asked for."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        first.found.update(answer.specs)
        first.tasks = [*answer.left, *first.tasks[ENTRIES_MAX:]]
        if first.tasks:
            return None
        self._waiting.popleft()
        return first.asker, first.found

    def drop_starts(self) -> list[Wanted]:
        """What was to start is not asked for any more; who wanted it."""
        dropped = [one.asker for one in self._waiting if isinstance(one.asker, Wanted)]
        self._waiting = deque(one for one in self._waiting if isinstance(one.asker, FetchSpecs))
        return dropped

    def clear(self) -> None:
        """Nobody waits for answers any more."""
        self._waiting.clear()
