"""The live tasks by id: where each is found, how many there are in which state."""

from __future__ import annotations

from leoronic.core.arrays import ArrayRecord, split_element
from leoronic.core.feasibility import Feasibility
from leoronic.core.queue_messages import Change, Flip
from leoronic.core.records import FINAL_STATES, STATE_NAMES, ClassTable, Record


class LiveRecords:
    """See the module. `ended`: final state -> how many tasks; `arrays`: those of `live` that are.

    `now`: the time of this turn, in seconds since the epoch. While it is `watched`, what becomes of
    each task is collected in `changes`.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.live: dict[str, Record] = {}
        self.arrays: dict[str, ArrayRecord] = {}
        self.ended = dict.fromkeys(FINAL_STATES, 0)
        self.classes = ClassTable()
        self.feasibility = Feasibility()
        self.watched = False
        self.changes: list[Change] = []

    def put(self, record: Record) -> None:
        """This is the record of its task from now on."""
        self.live[record.id] = record
        if isinstance(record, ArrayRecord):
            self.arrays[record.id] = record
        else:
            self.arrays.pop(record.id, None)

    def end(self, record: Record, state: str) -> None:
        """A task that is no element is final; of an array, what was left of it."""
        del self.live[record.id]
        if isinstance(record, ArrayRecord):
            del self.arrays[record.id]
            self.ended[state] += record.unmade + len(record.elements)
        else:
            self.ended[state] += 1

    def turned_out(self, flip: Flip) -> None:
        """What was counted as final has another outcome."""
        if not flip.array:
            self.ended[flip.was] -= 1
            self.ended[flip.state] += 1
        if self.watched:
            self.changes.append(Change(flip.task, flip.state, 0, "", self.now))

    def find(self, task: str) -> Record | None:
        """The live record of a task or of an element that was made."""
        record = self.live.get(task)
        if record is None:
            parts = split_element(task)
            if parts is not None:
                array = self.live.get(parts[0])
                if isinstance(array, ArrayRecord):
                    return array.elements.get(parts[1])
        return record

    def array_of(self, task: str) -> tuple[ArrayRecord, int] | None:
        """The live array and index that an element's id names."""
        parts = split_element(task)
        if parts is None:
            return None
        array = self.live.get(parts[0])
        return (array, parts[1]) if isinstance(array, ArrayRecord) else None

    def state_of(self, record: Record) -> str:
        """The state as users see it: what no node could ever run is blocked as well."""
        if record.task_class.number in self.feasibility.obstacles and record.state == "waiting":
            return "blocked"
        return record.state

    def count_singles(self) -> dict[str, int]:
        """State -> how many live tasks that are no arrays; does not look at each of them."""
        counts = dict.fromkeys(("waiting", "blocked", "held", "running"), 0)
        for task_class in self.classes:
            waiting = "blocked" if task_class.number in self.feasibility.obstacles else "waiting"
            for status, state in STATE_NAMES.items():
                counts[waiting if state == "waiting" else state] += task_class.tally[status]
        # The tallies include arrays, and elements as if they were tasks.
        for array in self.arrays.values():
            for record in (array, *array.elements.values()):
                blocked = record.task_class.number in self.feasibility.obstacles
                state = STATE_NAMES[record.status]
                counts["blocked" if blocked and state == "waiting" else state] -= 1
        return counts

    def note(self, record: Record, state: str = "", reason: str = "") -> None:
        """Tell whoever watches what became of a task; `state` if it is not the record's own."""
        if self.watched:
            attempt, node = record.runs.shown()
            self.changes.append(
                Change(
                    record.id,
                    state or self.state_of(record),
                    attempt,
                    node,
                    self.now,
                    reason or record.why_held() or "",
                )
            )


def family(record: Record) -> list[Record]:
    """The record, and before it the elements that were made if it is an array."""
    return [*record.elements.values(), record] if isinstance(record, ArrayRecord) else [record]
