"""The live tasks of the cluster, changed by entries and by nothing else.

`apply` takes committed entries, in their order and any number of times, and keeps the records, the
dependencies, the gates and the scheduler's window in step. What is to be done is collected in
`effects`, `appends` (entries that follow from what was applied) and `strangers` (tasks that others
depend on, about which only the journal can tell).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from leoronic.core.arrays import ArrayRecord, split_element
from leoronic.core.effects import Effect, Log, Send, SetTimer
from leoronic.core.entries import (
    Cancelled,
    Ended,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
)
from leoronic.core.gates import Gates
from leoronic.core.graph import Graph
from leoronic.core.queue_messages import (
    Change,
    Item,
    LoadedTask,
    MatchCommands,
    Offered,
    StopAttempt,
    Withdrawn,
)
from leoronic.core.ready import WINDOW_TASKS, ReadyClass
from leoronic.core.records import (
    FINAL_STATES,
    LOSSES_MAX,
    STATE_NAMES,
    ClassTable,
    Record,
    Status,
    TaskClass,
)
from leoronic.core.spec import TaskSpec, element_count

# A machine that lacked something to start a task (processes, files) gets this long to recover.
NOT_STARTED_DELAY_S = 2.0


class Tasks:
    """See the module. Everything it knows can be had again from the journal."""

    def __init__(self) -> None:
        self.live: dict[str, Record] = {}
        self.arrays: dict[str, ArrayRecord] = {}  # those of the live tasks that are
        self.ended = dict.fromkeys(FINAL_STATES, 0)
        self.graph = Graph()
        self.infeasible: dict[int, list[str]] = {}  # class -> why no node could ever run it
        self.gates = Gates(self.infeasible)
        self.classes = ClassTable()
        self.ready: dict[int, ReadyClass] = {}
        self.watched = False
        self.effects: list[Effect] = []
        self.appends: list[Entry] = []
        self.strangers: dict[str, None] = {}
        self.changes: list[Change] = []
        self._now = 0.0
        self._delayed: list[tuple[float, str]] = []
        self._dirty: dict[int, None] = {}
        self._appliers: dict[type, Callable[..., None]] = {
            Submitted: self._submitted,
            Started: self._started,
            Finished: self._finished,
            Lost: self._lost,
            Cancelled: self._cancelled,
            Held: self._held,
            Released: self._released,
            Ended: self._array_ended,
        }

    def at(self, now: float) -> None:
        """What follows happens at `now`."""
        self._now = now

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
        if record.task_class.number in self.infeasible and record.state == "waiting":
            return "blocked"
        return record.state

    def count_singles(self) -> dict[str, int]:
        """State -> how many live tasks that are no arrays; does not look at each of them."""
        counts = dict.fromkeys(("waiting", "blocked", "held", "running"), 0)
        for task_class in self.classes:
            waiting = "blocked" if task_class.number in self.infeasible else "waiting"
            for status, state in STATE_NAMES.items():
                counts[waiting if state == "waiting" else state] += task_class.tally[status]
        # The tallies include arrays, and elements as if they were tasks.
        for array in self.arrays.values():
            for record in (array, *array.elements.values()):
                blocked = record.task_class.number in self.infeasible
                state = STATE_NAMES[record.status]
                counts["blocked" if blocked and state == "waiting" else state] -= 1
        return counts

    def feasible(self, class_number: int, obstacles: list[str]) -> None:
        """The scheduler's word on a class: `obstacles` keep it from every node, or none do."""
        if class_number not in self.ready:
            return
        if obstacles:
            self.infeasible[class_number] = obstacles
        else:
            self.infeasible.pop(class_number, None)
        for record in self.live.values():
            if record.task_class.number == class_number:
                self._note(record)
                self.gates.task_waits(record)
        # Who waits to be first need not wait for what can't start.
        self._dirty.update(dict.fromkeys(sorted(self.gates.first_classes())))

    # ---- entries ----

    def apply(self, numbered: Numbered) -> None:
        """Join one committed entry into its record."""
        applier = self._appliers.get(type(numbered.entry))
        if applier is not None:
            applier(numbered.entry, numbered.number)

    def _submitted(self, entry: Submitted, number: int) -> None:
        if entry.task in self.live:
            return
        spec = entry.spec
        record = self._make(entry.task, number, spec)
        if spec.after:
            self._depend(record, spec)
        for closed in sorted(self.gates.task_added(record.id, spec, record.task_class)):
            self._shut(closed)
        self.place(record)
        if spec.redo_of:
            self._place_all(self.graph.redo(spec.redo_of, record.id))

    def _make(self, task: str, order: int, spec: TaskSpec) -> Record:
        task_class = self.classes.intern(spec)
        count = element_count(spec)
        record = (
            Record(task, order, task_class)
            if count is None
            else ArrayRecord(task, order, task_class, count)
        )
        if task_class.number not in self.ready:
            self.ready[task_class.number] = ReadyClass(task_class)
            if task_class.gates:
                for regex in self.gates.add_class(task_class, self.live.values):
                    self.effects.append(Send("journal", MatchCommands("queue", regex)))
        self.live[task] = record
        if isinstance(record, ArrayRecord):
            self.arrays[task] = record
        return record

    def _depend(self, record: Record, spec: TaskSpec) -> None:
        self.graph.add(record.id, [(after.id, after.when, None) for after in spec.after])
        for after in spec.after:
            if after.id not in self.live:
                self.strangers[after.id] = None

    def parent_known(self, task: str, state: str, redone_as: str) -> None:
        """The journal told how a task that others depend on ended, and what redid it."""
        changed = self.graph.settle(task, state)
        if redone_as:
            changed += self.graph.redo(task, redone_as)
            if redone_as not in self.live:
                self.strangers[redone_as] = None
        self._place_all(changed)

    def _started(self, entry: Started, _number: int) -> None:
        record = self._record_for(entry.task)
        if record is None:
            self._stop(entry.task, entry.attempt, "the task had ended already")
            return
        if entry.attempt <= record.attempt:
            return
        if record.status is Status.OFFERED:
            # The scheduler assigned it, so it need not be told. Should it offer it again after all,
            # the journal refuses to start it.
            del self.ready[record.task_class.number].offered[record.id]
        record.attempt, record.node = entry.attempt, entry.node
        record.status = Status.RUNNING
        self._dirty[record.task_class.number] = None
        self._note(record)

    def _record_for(self, task: str) -> Record | None:
        """The record of a task, or of an element that must exist now."""
        record = self.live.get(task)
        if record is None:
            found = self.array_of(task)
            if found is not None and found[0].is_open(found[1]):
                return found[0].element(found[1])
        return record

    def _finished(self, entry: Finished, _number: int) -> None:
        record = self._record_for(entry.task)
        if record is None or entry.attempt < record.attempt or entry.attempt <= record.closed:
            return
        record.attempt = record.closed = entry.attempt
        if entry.final:
            state = "succeeded" if entry.outcome.succeeded else "failed"
            self._finalise(record, state, entry.outcome.reason)
            return
        record.failures += 1
        record.not_before = entry.outcome.finished_at + record.task_class.retry_delay_s
        self.place(record)

    def _lost(self, entry: Lost, _number: int) -> None:
        record = self._record_for(entry.task)
        if record is None or entry.attempt < record.attempt or entry.attempt <= record.closed:
            return
        record.attempt = record.closed = entry.attempt
        if entry.begun:
            record.losses += 1
        else:
            record.not_before = entry.at + NOT_STARTED_DELAY_S
        if entry.hold:
            record.lost_hold = max(record.lost_hold, entry.attempt)
        self.effects.append(
            Log(
                "attempt lost",
                "warning",
                {"task": entry.task, "attempt": entry.attempt, "why": entry.suspicion},
            )
        )
        self.place(record)

    def _cancelled(self, entry: Cancelled, _number: int) -> None:
        record = self._record_for(entry.task)
        if record is None:
            return
        members = list(record.elements.values()) if isinstance(record, ArrayRecord) else [record]
        for member in members:
            if member.status is Status.RUNNING:
                self._stop(member.id, member.attempt, "cancelled")
        self._finalise(record, "cancelled", "cancelled")

    def _held(self, entry: Held, _number: int) -> None:
        record = self._record_for(entry.task)
        if record is None or entry.revision <= record.revision:
            return
        record.revision, record.held = entry.revision, entry.reason or "held"
        self._place_family(record)

    def _released(self, entry: Released, _number: int) -> None:
        record = self._record_for(entry.task)
        if record is None or entry.revision <= record.revision:
            return
        record.revision, record.held = entry.revision, None
        record.released = max(record.released, entry.attempt)
        self._place_family(record)

    def _array_ended(self, entry: Ended, _number: int) -> None:
        record = self.live.get(entry.task)
        if isinstance(record, ArrayRecord):
            self._finalise(record, entry.state, "")

    # ---- where a task stands ----

    def load(self, loaded: LoadedTask) -> None:
        """A live task from the journal, at the start. `place` follows once all are loaded."""
        record = self._make(loaded.task, loaded.order, loaded.spec)
        if loaded.spec.after:
            self._depend(record, loaded.spec)
        _restore(record, loaded.attempt, loaded.failures, loaded.losses, loaded.running_on)
        record.revision, record.held = loaded.revision, loaded.held
        record.lost_hold, record.released = loaded.lost_hold, loaded.released
        if record.failures and loaded.ended_at:
            record.not_before = loaded.ended_at + record.task_class.retry_delay_s
        if isinstance(record, ArrayRecord):
            record.restore(loaded.known_elements, loaded.ended_elements)
            for state, count in loaded.ended_elements.items():
                self.ended[state] += count
            for index, known in loaded.live_elements.items():
                element = record.element(index)
                _restore(element, known.attempt, known.failures, known.losses, known.running_on)
                element.lost_hold = known.lost_hold
                if known.failures and known.ended_at:
                    element.not_before = known.ended_at + record.task_class.retry_delay_s

    def place_all_loaded(self) -> None:
        """Every live task is known: find out where each stands."""
        for record in list(self.live.values()):
            self.strangers.pop(record.id, None)
            if isinstance(record, ArrayRecord):
                for element in list(record.elements.values()):
                    if element.status is not Status.RUNNING:
                        self.place(element)
                if record.is_done():
                    self.appends.append(Ended(record.id, record.final_state(), self._now))
            if record.status is not Status.RUNNING:
                self.place(record)

    def place(self, record: Record) -> None:
        """Decide where a task that does not run stands now."""
        self._unoffer(record)
        array = record.parent
        if record.why_held() is not None:
            record.status = Status.HELD
        elif array is None and self.graph.is_blocked(record.id):
            record.status = Status.BLOCKED
        elif array is None and not self.graph.is_free(record.id):
            record.status = Status.DEPENDING
            self.gates.task_waits(record)
        elif record.not_before > self._now:
            record.status = Status.DELAYED
            self.gates.task_waits(record)
            heapq.heappush(self._delayed, (record.not_before, record.id))
            self._set_timer()
        else:
            self._make_ready(record)
        self._note(record)

    def _make_ready(self, record: Record) -> None:
        if isinstance(record, ArrayRecord) and not record.has_more():
            record.status = Status.RUNNING
            return
        number = record.task_class.number
        self.ready[number].add(record)
        self.gates.task_waits(record)
        self._dirty[number] = None

    def _place_family(self, record: Record) -> None:
        """A hold or a release: it reaches an array's elements, but nothing that runs."""
        if isinstance(record, ArrayRecord):
            for element in list(record.elements.values()):
                if element.status is not Status.RUNNING:
                    self.place(element)
            self.place(record)
        elif record.status is not Status.RUNNING:
            self.place(record)

    def _place_all(self, tasks: list[str]) -> None:
        for task in tasks:
            record = self.live.get(task)
            if record is not None and record.status is not Status.RUNNING:
                self.place(record)

    def _unoffer(self, record: Record) -> None:
        """The scheduler has nothing more to do with this task."""
        if record.status is Status.OFFERED:
            number = record.task_class.number
            del self.ready[number].offered[record.id]
            self._dirty[number] = None
            self.effects.append(Send("scheduler", Withdrawn(number, [record.id])))
            record.status = Status.READY

    def _set_timer(self) -> None:
        self.effects.append(SetTimer("delayed", self._delayed[0][0]))

    def wake_delayed(self) -> None:
        """Retries that are due become ready."""
        while self._delayed and self._delayed[0][0] <= self._now:
            _, task = heapq.heappop(self._delayed)
            record = self.find(task)
            if record is not None and record.status is Status.DELAYED:
                self.place(record)
        if self._delayed:
            self._set_timer()

    # ---- the end of a task ----

    def _finalise(self, record: Record, state: str, reason: str) -> None:
        self._unoffer(record)
        record.status = Status.FINAL
        self._note(record, state, reason)
        array = record.parent
        if isinstance(array, ArrayRecord):
            found = split_element(record.id)
            assert found is not None
            self.ended[state] += 1
            if array.end(found[1], state):
                self.appends.append(Ended(array.id, array.final_state(), self._now))
            return
        del self.live[record.id]
        if isinstance(record, ArrayRecord):
            del self.arrays[record.id]
            for element in list(record.elements.values()):
                self._unoffer(element)
                element.status = Status.FINAL
            self.ended[state] += record.unmade + len(record.elements)
        else:
            self.ended[state] += 1
        for opened in sorted(self.gates.task_ended(record.id)):
            self._dirty[opened] = None
        self._drop_class(record.task_class)
        self._place_all(self.graph.settle(record.id, state))

    def _drop_class(self, task_class: TaskClass) -> None:
        self._dirty[task_class.number] = None
        if self.classes.release(task_class):
            if task_class.gates:
                self.gates.drop_class(task_class)
            del self.ready[task_class.number]
            self.infeasible.pop(task_class.number, None)
            del self._dirty[task_class.number]
            self.effects.append(Send("scheduler", Withdrawn(task_class.number)))

    def _stop(self, task: str, attempt: int, reason: str) -> None:
        self.effects.append(Send("runner", StopAttempt(task, attempt, reason)))

    # ---- the scheduler's window ----

    def commands_matched(self, regex: str, ids: list[str]) -> None:
        """The journal's answer to `MatchCommands`."""

        def class_of(task: str) -> int | None:
            record = self.live.get(task)
            return None if record is None else record.task_class.number

        for number in sorted(self.gates.matched(regex, ids, class_of)):
            self._dirty[number] = None

    def _shut(self, number: int) -> None:
        """A gate closed: what the scheduler has in hand of that class comes back."""
        ready = self.ready.get(number)
        if ready is not None and ready.offered and self.gates.is_shut(ready.task_class):
            ready.give_back()
            self.effects.append(Send("scheduler", Withdrawn(number)))

    def offer_again(self) -> None:
        """The scheduler forgot everything."""
        for number, ready in self.ready.items():
            ready.give_back()
            self._dirty[number] = None

    def declined(self, tasks: list[str]) -> None:
        """The executor had no room after all: these are ready again."""
        for task in tasks:
            record = self.find(task)
            if record is not None and record.status is Status.OFFERED:
                self.place(record)

    def feed(self) -> None:
        """Refill the scheduler's window for every class that changed."""
        # Whatever happened, somebody may be first now: earlier tasks are held or blocked, too.
        self._dirty.update(dict.fromkeys(sorted(self.gates.first_classes())))
        dirty, self._dirty = self._dirty, {}
        for number in dirty:
            ready = self.ready.get(number)
            if ready is None or len(ready.offered) > WINDOW_TASKS // 2:
                continue
            limit = self._room(ready)
            items = [_item(record) for record in ready.offer(limit)]
            if items:
                self.effects.append(Send("scheduler", Offered(ready.task_class, items)))

    def _room(self, ready: ReadyClass) -> int:
        """How many more tasks of a class the scheduler may see."""
        task_class = ready.task_class
        if task_class.gates:
            if self.gates.is_shut(task_class):
                return 0
            if self.gates.wants_first(task_class):
                head = ready.head()
                if ready.offered or head is None or not self.gates.is_first(head, self.live):
                    return 0
                # The elements of an array are first together; what comes after them is not.
                return min(WINDOW_TASKS, head.unmade) if isinstance(head, ArrayRecord) else 1
        return WINDOW_TASKS - len(ready.offered)

    # ---- for people ----

    def _note(self, record: Record, state: str = "", reason: str = "") -> None:
        if self.watched:
            self.changes.append(
                Change(
                    record.id,
                    state or self.state_of(record),
                    record.attempt,
                    record.node,
                    self._now,
                    reason or record.why_held() or "",
                )
            )


def _item(record: Record) -> Item:
    task_class = record.task_class
    return Item(
        record.id,
        record.attempt + 1,
        task_class.retries - record.failures,
        record.order,
        task_class.on_loss == "hold" or record.losses + 1 >= LOSSES_MAX,
    )


def _restore(record: Record, attempt: int, failures: int, losses: int, node: str) -> None:
    record.attempt, record.failures, record.losses = attempt, failures, losses
    record.closed = attempt
    if node:
        record.status, record.node = Status.RUNNING, node
        record.closed = attempt - 1
