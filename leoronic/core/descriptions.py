"""What the queue tells of live tasks: where each stands, why it waits, how many there are."""

from __future__ import annotations

from itertools import islice

from leoronic.core.arrays import ArrayRecord
from leoronic.core.queue_messages import FindLive, LiveTask
from leoronic.core.records import Record, Status
from leoronic.core.tasks import Tasks


class Descriptions:
    """See the module. It changes nothing of `tasks`."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def describe(self, ids: list[str], now: float) -> dict[str, LiveTask]:
        """By id, those of `ids` that live; `now` in seconds since the epoch."""
        found = (self._live_task(task, now) for task in ids)
        return {f.id: f for f in found if f is not None}

    def _live_task(self, task: str, now: float) -> LiveTask | None:
        record = self._tasks.find(task)
        if record is None:
            return self._unmade_element(task, now)
        attempt, node = record.runs.shown()
        return LiveTask(
            record.id,
            record.order,
            self._tasks.state_of(record),
            attempt,
            node,
            self._reasons(record, now),
            record.task_class.number,
            record.not_before,
            self._elements(record) if isinstance(record, ArrayRecord) else None,
            self._owner(record),
        )

    def _owner(self, record: Record) -> str:
        return self._tasks.ownership.owner(record.task_class.origin)

    def _unmade_element(self, task: str, now: float) -> LiveTask | None:
        found = self._tasks.array_of(task)
        if found is None or not found[0].is_open(found[1]):
            return None
        array = found[0]
        reasons = [f"its turn has not come: array {array.id}", *self._reasons(array, now)]
        return LiveTask(
            task,
            array.order,
            "waiting",
            0,
            "",
            reasons,
            array.task_class.number,
            owner=self._owner(array),
        )

    def _reasons(self, record: Record, now: float) -> list[str]:
        """Why a task does not run, as far as the queue knows."""
        tasks = self._tasks
        status = record.status
        if status is Status.HELD:
            return [record.why_held() or "held"]
        if status is Status.BLOCKED:
            return tasks.graph.reasons(record.id)
        if status is Status.DEPENDING:
            waits = tasks.graph.waiting_for(record.id)
            return [f"it runs after {other} has {when}" for other, when in waits.items()]
        if status is Status.DELAYED:
            left = max(record.not_before - now, 0)
            return [f"attempt {record.runs.attempt} failed; it is tried again in {left:.0f} s"]
        if self._tasks.state_of(record) == "blocked":
            return list(tasks.feasibility.obstacles[record.task_class.number])
        if status in (Status.READY, Status.OFFERED):
            reasons = tasks.gates.reasons(record.task_class)
            if tasks.gates.wants_first(record.task_class) and not tasks.gates.is_first(
                record, tasks.live
            ):
                reasons.append("queue:is_first: tasks submitted earlier are still waiting")
            return reasons + self._who_places(record)
        return []

    def _who_places(self, record: Record) -> list[str]:
        """In words, if it is not this node that decides when a task starts."""
        ownership = self._tasks.ownership
        owner = self._owner(record)
        if not owner:
            return ["no node has caught up with the others yet"]
        if owner == ownership.me:
            return []
        return [f"node {ownership.name(owner)} decides when it starts"]

    def find_live(self, query: FindLive) -> list[str]:
        """The ids that `query` asks for, newest first."""
        found = (
            record.id
            for record in reversed(self._tasks.live.values())
            if self._tasks.state_of(record) == query.state
            and (query.before is None or record.order < query.before)
        )
        return list(islice(found, query.limit))

    def count(self) -> dict[str, int]:
        """State -> how many tasks; an array counts as its elements."""
        counts = self._tasks.count_singles()
        for array in self._tasks.arrays.values():
            for state, count in self._elements(array).items():
                if state in counts:
                    counts[state] += count
        return {**counts, **self._tasks.ended}

    def _elements(self, array: ArrayRecord) -> dict[str, int]:
        """An array's elements by state."""
        counts = dict(array.ended)
        for element in array.elements.values():
            state = self._tasks.state_of(element)
            counts[state] = counts.get(state, 0) + 1
        if array.unmade:
            state = self._tasks.state_of(array)
            if state not in ("held", "blocked"):
                state = "waiting"
            counts[state] = counts.get(state, 0) + array.unmade
        return {state: count for state, count in counts.items() if count}
