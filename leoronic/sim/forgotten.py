"""What the nodes of a cluster have forgotten, and whether they might: no node knows all of this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from leoronic.core.entries import Cancelled, Entry, Finished, Submitted
from leoronic.sim.story import Violation

if TYPE_CHECKING:
    from leoronic.sim.facts import TaskFacts
    from leoronic.sim.invariants import Invariants

Vector = dict[str, int]
Place = tuple[str, int]
"""(origin, number) of an entry."""


class Forgotten:
    """`by[task]` are the nodes that have forgotten it. `watches` are those of all nodes ever.

    `anew` are the nodes that began anew, `carried[task]` those that hold what they took along.
    """

    def __init__(self) -> None:
        self.by: dict[str, set[str]] = {}
        self.watches: dict[str, Invariants] = {}
        self.anew: set[str] = set()
        self.carried: dict[str, set[str]] = {}
        self._tops: dict[str, Vector] = {}  # by task: up to where its entries were
        self._all: Vector = {}
        self._unasked: dict[str, Vector] = {}  # by node: what was forgotten while it was away

    def joins(self, node: str) -> None:
        """There is a new node: whatever was forgotten so far, it was not asked."""
        self._unasked[node] = dict(self._all)

    def happens(
        self,
        watch: Invariants,
        before: float,
        members: list[str],
        tasks: set[str],
        places: set[Place],
    ) -> None:
        """A node has forgotten `tasks` and the entries at `places`: see `Observer.forgets`."""
        if not places:
            return
        self._what_is_forgotten_was_over(watch, before, tasks)
        self._what_is_kept_keeps_its_entries(watch, tasks, places)
        for node in members:
            self._all_who_count_hold_it(self.watches[node], tasks, places)
        _raise(self._all, places)
        for node in self.watches.keys() - set(members):
            _raise(self._unasked[node], places)
        for task in tasks:
            self.by.setdefault(task, set()).add(watch.node.id)
        for numbered in watch.facts.log:
            task = _base(numbered.entry)
            if task in tasks:
                _raise(self._tops.setdefault(task, {}), [(numbered.origin, numbered.number)])

    def _what_is_forgotten_was_over(
        self, watch: Invariants, before: float, tasks: set[str]
    ) -> None:
        """Each task was submitted, and ended, longer ago than history is kept."""
        ends: dict[str, float] = {}
        for numbered in watch.facts.log:
            entry = numbered.entry
            if isinstance(entry, Submitted) and entry.task in tasks and entry.at >= before:
                raise Violation("what is new is not forgotten", f"{entry}", entry.task)
            if _base(entry) in tasks:
                match entry:
                    case Finished(task, final=True):
                        ends[task] = min(entry.outcome.finished_at, ends.get(task, before))
                    case Cancelled(task, at):
                        ends[task] = min(at, ends.get(task, before))
                    case _:
                        pass
        for task in sorted(tasks):
            if not _is_over(watch.facts.tasks[task], ends, before):
                raise Violation("only what ended long ago is forgotten", task, task)

    def _what_is_kept_keeps_its_entries(
        self, watch: Invariants, tasks: set[str], places: set[Place]
    ) -> None:
        node = watch.node.id
        for numbered in watch.facts.log:
            if (numbered.origin, numbered.number) in places:
                task = _base(numbered.entry)
                gone = task in tasks or node in self.by.get(task, ())
                if task in watch.facts.tasks and not gone:
                    raise Violation("what is kept keeps its entries", f"{numbered}", task)

    def _all_who_count_hold_it(
        self, theirs: Invariants, tasks: set[str], places: set[Place]
    ) -> None:
        """Nobody who counts lacks any of it, nor does any of it live there."""
        for origin, number in sorted(places):
            if theirs.have.get(origin, 0) < number:
                raise Violation(
                    "only what all hold is forgotten",
                    f"{theirs.node.name} lacks entry {number} of {origin}",
                )
        for task in sorted(tasks):
            known = theirs.facts.tasks.get(task)
            if known is not None and not known.final:
                raise Violation(
                    "what is forgotten is over everywhere", f"not on {theirs.node.name}", task
                )

    def does_not_live_again(self, task: str, watch: Invariants) -> None:
        """What anybody has forgotten lives nowhere, but where its end has not been heard of."""
        if task not in self.by or watch.facts.tasks[task].final:
            return
        if not _lacks(watch.have, self._tops[task]):
            raise Violation("nothing that was forgotten lives again", f"on {watch.node.name}", task)

    def begins_anew(self, node: str, have: Vector, reason: str) -> None:
        """A node says that it must, as it believes that it holds `have`."""
        if not _lacks(have, self._unasked[node]):
            raise Violation("who was asked need not begin anew", f"{node}: {reason}")
        self.anew.add(node)


def _raise(vector: Vector, places: Iterable[Place]) -> None:
    for origin, number in places:
        vector[origin] = max(number, vector.get(origin, 0))


def _lacks(have: Vector, wanted: Vector) -> bool:
    return any(have.get(origin, 0) < number for origin, number in wanted.items())


def _base(entry: Entry) -> str:
    """The task that an entry is about, or ''."""
    return str(getattr(entry, "task", "")).partition(".")[0]


def _is_over(task: TaskFacts, ends: dict[str, float], before: float) -> bool:
    if not task.final:
        return False
    if task.elements is None or ends.get(task.id, before) < before:
        return ends.get(task.id, before) < before
    return all(ends.get(f"{task.id}.{i}", before) < before for i in range(task.elements))
