"""What the queue shows the scheduler: of each class that this node places, the oldest tasks.

A window is refilled once half of it is used up. It is taken back when the class has another owner,
or when one of its conditions does not hold any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.arrays import ArrayRecord
from leoronic.core.bounds import ATTEMPT_MAX
from leoronic.core.effects import Effect, Send
from leoronic.core.gates import Gates
from leoronic.core.live import LiveRecords
from leoronic.core.ownership import Ownership
from leoronic.core.queue_messages import Item, Offered, Withdrawn
from leoronic.core.ready import WINDOW_TASKS, WINDOW_TASKS_MAX, ReadyClass
from leoronic.core.records import Record, Status, TaskClass


class Windows:
    """See the module. `ready` by the number of the class; what to say is added to `effects`."""

    def __init__(
        self, records: LiveRecords, gates: Gates, ownership: Ownership, effects: list[Effect]
    ) -> None:
        self._records = records
        self._gates = gates
        self._ownership = ownership
        self._effects = effects
        self.ready: dict[int, ReadyClass] = {}
        self._dirty: dict[int, None] = {}
        self._mine: set[int] = set()  # the classes that this node places
        self._tasks_max = WINDOW_TASKS

    # ---- the classes ----

    def see(self, nodes: int) -> None:
        """Other nodes own tasks now, and so many are there."""
        self._tasks_max = min(WINDOW_TASKS * nodes, WINDOW_TASKS_MAX)
        for number, ready in self.ready.items():
            mine = self._ownership.is_mine(ready.task_class.origin)
            if mine and number not in self._mine:
                self._mine.add(number)
                self._dirty[number] = None
            elif not mine and number in self._mine:
                self._mine.discard(number)
                ready.give_back()
                self._withdraw(number)

    def add_class(self, task_class: TaskClass) -> None:
        """The first task of a class is there."""
        self.ready[task_class.number] = ReadyClass(task_class)
        if self._ownership.is_mine(task_class.origin):
            self._mine.add(task_class.number)

    def drop_class(self, task_class: TaskClass) -> None:
        """The last task of a class is gone."""
        number = task_class.number
        del self.ready[number]
        self._mine.discard(number)
        self._dirty.pop(number, None)
        self._withdraw(number)

    def changed(self, numbers: Iterable[int]) -> None:
        """More of these classes may be shown than before."""
        self._dirty.update(dict.fromkeys(numbers))

    def shut(self, number: int) -> None:
        """A gate closed: what the scheduler has in hand of that class comes back."""
        ready = self.ready.get(number)
        if ready is not None and ready.offered and self._gates.is_shut(ready.task_class):
            ready.give_back()
            self._withdraw(number)

    def offer_again(self) -> None:
        """The scheduler forgot everything."""
        for number, ready in self.ready.items():
            ready.give_back()
            self._dirty[number] = None

    def _withdraw(self, number: int, tasks: list[str] | None = None) -> None:
        self._effects.append(Send("scheduler", Withdrawn(number, tasks)))

    # ---- single tasks ----

    def add(self, record: Record) -> None:
        """A task may start."""
        number = record.task_class.number
        self.ready[number].add(record)
        self._dirty[number] = None

    def take_back(self, record: Record) -> None:
        """The scheduler has nothing more to do with this task, if it was shown."""
        if record.status is Status.OFFERED:
            self._leave(record)
            self._withdraw(record.task_class.number, [record.id])
            record.status = Status.READY

    def runs(self, record: Record, *, assigned: bool) -> None:
        """A task runs; `assigned`: as the attempt that was shown."""
        if record.status is Status.OFFERED:
            if assigned:
                # The scheduler assigned it, so it need not be told. Should it offer it again after
                # all, the journal refuses to start it.
                self._leave(record)
            else:
                self.take_back(record)
        record.status = Status.RUNNING
        self._dirty[record.task_class.number] = None

    def _leave(self, record: Record) -> None:
        number = record.task_class.number
        del self.ready[number].offered[record.id]
        self._dirty[number] = None

    # ---- refilling ----

    def feed(self) -> None:
        """Refill the scheduler's window for every class that changed."""
        # Whatever happened, somebody may be first now: earlier tasks are held or blocked, too.
        self.changed(sorted(self._gates.first_classes()))
        dirty, self._dirty = self._dirty, {}
        for number in dirty:
            ready = self.ready.get(number)
            if ready is None or len(ready.offered) > self._tasks_max // 2:
                continue
            if number not in self._mine:
                ready.tidy()
                continue
            limit = self._room(ready)
            items = [_item(record) for record in ready.offer(limit)]
            if items:
                self._effects.append(Send("scheduler", Offered(ready.task_class, items)))

    def _room(self, ready: ReadyClass) -> int:
        """How many more tasks of a class the scheduler may see."""
        task_class = ready.task_class
        if task_class.gates:
            if self._gates.is_shut(task_class):
                return 0
            if self._gates.wants_first(task_class):
                head = ready.head()
                if ready.offered or head is None:
                    return 0
                if not self._gates.is_first(head, self._records.live):
                    return 0
                # The elements of an array are first together; what comes after them is not.
                return min(self._tasks_max, head.unmade) if isinstance(head, ArrayRecord) else 1
        return self._tasks_max - len(ready.offered)


def _item(record: Record) -> Item:
    runs, task_class = record.runs, record.task_class
    return Item(
        record.id,
        min(runs.attempt + 1, ATTEMPT_MAX),
        max(task_class.retries - runs.failures, 0),
        record.order,
        record.hold_if_lost(),
    )
