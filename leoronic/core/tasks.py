"""The live tasks of the cluster, changed by entries and by nothing else.

`apply` takes committed entries, whoever wrote them, in any order that keeps cause before effect,
any number of times. It keeps the records, the dependencies, the gates and the scheduler's window in
step. What is to be done is collected in `effects`, `appends` (entries that follow from what was
applied) and `strangers` (tasks that others depend on, about which only the journal can tell).

All nodes hold the same tasks. What only some of them do: the owner of a task shows it to its
scheduler, and gives up its runs on nodes that are gone (`ownership.py`); a node where it runs ends
that run if it goes on elsewhere, or is final.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from leoronic.core.arrays import ArrayRecord, split_element
from leoronic.core.bounds import ATTEMPT_MAX
from leoronic.core.effects import Effect, Log, Send, SetTimer
from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
)
from leoronic.core.feasibility import Feasibility
from leoronic.core.gates import Gates
from leoronic.core.graph import Graph
from leoronic.core.open_runs import OpenRuns
from leoronic.core.ownership import Ownership
from leoronic.core.queue_messages import (
    Change,
    Flip,
    Item,
    LoadedRun,
    LoadedTask,
    MatchCommands,
    Offered,
    StopAttempt,
    Withdrawn,
)
from leoronic.core.ready import WINDOW_TASKS, WINDOW_TASKS_MAX, ReadyClass
from leoronic.core.records import (
    FINAL_STATES,
    STATE_NAMES,
    ClassTable,
    Record,
    Status,
    TaskClass,
)
from leoronic.core.runs import LOST, NEVER_BEGAN, OPEN, STOPPED_AS, RunState, end_phase
from leoronic.core.spec import TaskSpec, element_count
from leoronic.core.view import View

# How long what runs on a node is not given up because nobody has told of that node. Counted in
# steps, as the time of day may be set.
UNHEARD_OF_S = 30.0
UNHEARD_OF_STEPS = 6


class Tasks:
    """See the module. Everything it knows can be had again from the journal and the view."""

    def __init__(self) -> None:
        self.live: dict[str, Record] = {}
        self.arrays: dict[str, ArrayRecord] = {}  # those of the live tasks that are
        self.ended = dict.fromkeys(FINAL_STATES, 0)
        self.graph = Graph()
        self.feasibility = Feasibility()
        self.gates = Gates(self.feasibility.obstacles)
        self.ownership = Ownership()
        self.open_runs = OpenRuns()
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
        self._window = WINDOW_TASKS
        self._mine: set[int] = set()  # the classes that this node places
        self._unheard_of: dict[str, int] = {}  # nodes that something runs on, for so many steps
        self._appliers: dict[type, Callable[..., None]] = {
            Started: self._started,
            Finished: self._finished,
            Lost: self._lost,
            Cancelled: self._cancelled,
            Held: self._held,
            Released: self._released,
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

    # ---- who is there ----

    def see(self, view: View) -> None:
        """Who is there is another now: who places what, what could run, and what is lost."""
        self.ownership.see(view)
        self._window = min(WINDOW_TASKS * len(view.alive()), WINDOW_TASKS_MAX)
        for number, ready in self.ready.items():
            mine = self.ownership.is_mine(ready.task_class.origin)
            if mine and number not in self._mine:
                self._mine.add(number)
                self._dirty[number] = None
            elif not mine and number in self._mine:
                self._mine.discard(number)
                ready.give_back()
                self.effects.append(Send("scheduler", Withdrawn(number)))
        changed = set(self.feasibility.see(view, self.classes))
        if changed:
            for record in self.live.values():
                if record.task_class.number in changed:
                    self._note(record)
                    self.gates.task_waits(record)
        # Who waits to be first need not wait for what can't start.
        self._dirty.update(dict.fromkeys(sorted(self.gates.first_classes())))
        self.give_up_lost()

    def give_up_lost(self) -> None:
        """What runs on nodes that are gone is lost; of one's own tasks, one says so."""
        for node in self.open_runs.nodes():
            if self._is_gone(node):
                for task in self.open_runs.tasks_on(node):
                    record = self.find(task)
                    assert record is not None, f"{task} is under way on {node}, and not known"
                    self._give_up(record, node)

    def _is_gone(self, node: str) -> bool:
        """Whether what runs on `node` is lost.

        To a newcomer, the entries of others may come before the word of who they are: so one that
        it was never told of is waited for.
        """
        if self.ownership.is_known(node):
            self._unheard_of.pop(node, None)
            return self.ownership.is_gone(node)
        if node not in self._unheard_of:
            self._unheard_of[node] = 0
            self._wait_for_unheard_of()
        return self._unheard_of[node] >= UNHEARD_OF_STEPS

    def _wait_for_unheard_of(self) -> None:
        at = self._now + UNHEARD_OF_S / UNHEARD_OF_STEPS
        self.effects.append(SetTimer("unheard of", at))

    def unheard_of_for_longer(self) -> None:
        """The timer "unheard of" fired."""
        for node, steps in self._unheard_of.items():
            self._unheard_of[node] = steps + 1
        if any(steps < UNHEARD_OF_STEPS for steps in self._unheard_of.values()):
            self._wait_for_unheard_of()
        self.give_up_lost()

    def _give_up(self, record: Record, node: str) -> None:
        ownership = self.ownership
        if self._is_gone(node) and ownership.is_mine(record.task_class.origin):
            why = ownership.why_gone(node)
            self.appends += self.open_runs.give_up(record, node, self._now, why)

    # ---- entries ----

    def apply(self, numbered: Numbered, orders: Mapping[str, int] = {}) -> None:
        """Join one committed entry into its record.

        `orders` gives a task's place in the order of arrival for its `Submitted`; else it is the
        entry's number.
        """
        entry = numbered.entry
        if isinstance(entry, Submitted):
            order = orders.get(entry.task, numbered.number)
            self._submitted(entry, numbered.origin, order)
            return
        applier = self._appliers.get(type(entry))
        if applier is not None:
            applier(entry, numbered.origin)

    def _submitted(self, entry: Submitted, origin: str, order: int) -> None:
        known = self.live.get(entry.task)
        spec = entry.spec
        if known is not None:
            if _count_of(known) != element_count(spec):
                # What ended of one means nothing to the other: on every disk it is cancelled.
                self._finalise(known, "cancelled", "two unlike tasks were given the same id")
                return
            if known.task_class.origin == origin:
                return
            self._forget_twin(known)
        record = self._make(entry.task, order, spec, origin)
        if known is not None:
            record.take_over(known)
            for one in _family(record):
                self.open_runs.restore(one)
            self._drop_class(known.task_class)
        if spec.after:
            self._depend(record, spec)
        for closed in sorted(self.gates.task_added(record.id, spec, record.task_class)):
            self._shut(closed)
        if known is None:
            self.place(record)
        else:
            self._place_restored(record)
        if spec.redo_of:
            self._place_all(self.graph.redo(spec.redo_of, record.id))

    def _forget_twin(self, record: Record) -> None:
        """Two nodes took the same id, and the other one's task holds: its record replaces this."""
        for one in _family(record):
            self._unoffer(one)
            one.status = Status.FINAL
            self.open_runs.forget(one)
        self._place_all(self.graph.forget(record.id))
        for opened in sorted(self.gates.task_ended(record.id)):
            self._dirty[opened] = None

    def _make(self, task: str, order: int, spec: TaskSpec, origin: str) -> Record:
        task_class = self.classes.intern(spec, origin)
        count = element_count(spec)
        record = (
            Record(task, order, task_class)
            if count is None
            else ArrayRecord(task, order, task_class, count)
        )
        if task_class.number not in self.ready:
            self._add_class(task_class)
        self.live[task] = record
        if isinstance(record, ArrayRecord):
            self.arrays[task] = record
        else:
            self.arrays.pop(task, None)
        return record

    def _add_class(self, task_class: TaskClass) -> None:
        self.ready[task_class.number] = ReadyClass(task_class)
        if self.ownership.is_mine(task_class.origin):
            self._mine.add(task_class.number)
        self.feasibility.judge(task_class)
        if task_class.gates:
            for regex in self.gates.add_class(task_class, self.live.values):
                self.effects.append(Send("journal", MatchCommands("queue", regex)))

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

    def _started(self, entry: Started, _origin: str) -> None:
        record = self._record_to_run(entry.task)
        if record is None:
            if entry.node == self.ownership.me:
                self._stop(entry.task, entry.attempt, "the task had ended already")
            return
        self._join(record, entry.attempt, entry.node, RunState(OPEN))
        self._give_up(record, entry.node)

    def _record_for(self, task: str) -> Record | None:
        """The record of a task, or of an element that must exist now."""
        record = self.live.get(task)
        if record is None:
            found = self.array_of(task)
            if found is not None and found[0].is_open(found[1]):
                array, index = found
                record = array.element(index)
                if array.status is Status.READY and not array.has_more():
                    array.status = Status.RUNNING  # others made the last of them
        return record

    def _record_to_run(self, task: str) -> Record | None:
        """The same, but no array: these don't run."""
        record = self._record_for(task)
        return None if isinstance(record, ArrayRecord) else record

    def _finished(self, entry: Finished, _origin: str) -> None:
        record = self._record_to_run(entry.task)
        if record is None:
            return
        # By another's clock, a failure may lie in the future: that must not delay the retry.
        ended = RunState(
            end_phase(entry.final, entry.outcome.reason), min(entry.outcome.finished_at, self._now)
        )
        if not entry.final:
            self._join(record, entry.attempt, entry.node, ended)
            return
        record.runs_to_change().join((entry.attempt, entry.node), ended)
        self.open_runs.note(record, entry.attempt, entry.node)
        state = "succeeded" if entry.outcome.succeeded else "failed"
        self._finalise(record, state, entry.outcome.reason)

    def _lost(self, entry: Lost, origin: str) -> None:
        record = self._record_to_run(entry.task)
        if record is None:
            return
        lost = RunState(LOST, 0.0, entry.hold, gone=origin == entry.node)
        if not entry.begun:
            lost = RunState(NEVER_BEGAN, min(entry.at, self._now))
        if self._join(record, entry.attempt, entry.node, lost):
            known = {"task": entry.task, "attempt": entry.attempt, "node": entry.node}
            self.effects.append(Log("attempt lost", "warning", {**known, "why": entry.suspicion}))

    def _join(self, record: Record, attempt: int, node: str, state: RunState) -> bool:
        """Take in what became of a run; whether that is news."""
        expected = record.runs.attempt + 1
        if not record.runs_to_change().join((attempt, node), state):
            return False
        self.open_runs.note(record, attempt, node)
        if not record.runs.is_open():
            self.place(record)
        else:
            self._runs_now(record, assigned=attempt == expected)
        self._stop_superseded(record)
        return True

    def _runs_now(self, record: Record, *, assigned: bool) -> None:
        if record.status is Status.OFFERED:
            if assigned:
                # The scheduler assigned it, so it need not be told. Should it offer it again after
                # all, the journal refuses to start it.
                del self.ready[record.task_class.number].offered[record.id]
                self._dirty[record.task_class.number] = None
            else:
                self._unoffer(record)
        record.status = Status.RUNNING
        self._dirty[record.task_class.number] = None
        self._note(record)

    def _stop_superseded(self, record: Record) -> None:
        """Of several runs of a task the highest goes on; a lower one here is ended."""
        for attempt in record.runs.superseded_on(self.ownership.me):
            self._stop(record.id, attempt, STOPPED_AS)

    def _cancelled(self, entry: Cancelled, _origin: str) -> None:
        record = self._record_for(entry.task)
        if record is not None:
            self._finalise(record, "cancelled", "cancelled")

    def _held(self, entry: Held, _origin: str) -> None:
        record = self.live.get(entry.task)  # an element is held with its array
        if record is not None and record.join_hold(entry.revision, entry.reason or "held"):
            self._place_family(record)

    def _released(self, entry: Released, _origin: str) -> None:
        # Of an element, only losses are released: those of one that was not made are none.
        record = self._record_for(entry.task) if entry.attempt else self.live.get(entry.task)
        if record is None:
            return
        news = record.parent is None and record.join_hold(entry.revision, None)
        if entry.attempt > record.released:
            record.released = entry.attempt
            news = True
        if news:
            self._place_family(record)

    def flip(self, flip: Flip) -> None:
        """What was final has another outcome now."""
        found = self.array_of(flip.task)
        if found is not None:
            found[0].flip(flip.was, flip.state)
        if not flip.array:
            self.ended[flip.was] -= 1
            self.ended[flip.state] += 1
        if self.watched:
            self.changes.append(Change(flip.task, flip.state, 0, "", self._now))
        self._place_all(self.graph.flip(flip.task, flip.state))

    # ---- where a task stands ----

    def load(self, loaded: LoadedTask) -> None:
        """A live task from the journal, at the start. `place` follows once all are loaded."""
        record = self._make(loaded.task, loaded.order, loaded.spec, loaded.origin)
        if loaded.spec.after:
            self._depend(record, loaded.spec)
        if not isinstance(record, ArrayRecord):
            self._restore(record, loaded.runs)
        record.revision, record.held = loaded.revision, loaded.held
        record.released = loaded.released
        if isinstance(record, ArrayRecord):
            record.restore(loaded.known_elements, loaded.ended_elements)
            for state, count in loaded.ended_elements.items():
                self.ended[state] += count
            for index, runs in loaded.live_elements.items():
                self._restore(record.element(index), runs)
            for index, released in loaded.released_elements.items():
                if record.is_open(index):
                    record.element(index).released = released

    def _restore(self, record: Record, loaded: list[LoadedRun]) -> None:
        for run in loaded:
            state = RunState(run.phase, min(run.ended_at, self._now), run.hold)
            record.runs_to_change().join((run.attempt, run.node), state)
        self.open_runs.restore(record)

    def place_all_loaded(self) -> None:
        """Every live task is known: find out where each stands."""
        for record in list(self.live.values()):
            self.strangers.pop(record.id, None)
            self._place_restored(record)
        self.give_up_lost()

    def _place_restored(self, record: Record) -> None:
        for one in _family(record):
            if one.runs.is_open():
                self._runs_now(one, assigned=False)
            elif one is not record:
                self.place(one)
            self._stop_superseded(one)
        if isinstance(record, ArrayRecord) and record.is_done():
            self._finalise(record, record.final_state(), "")
        elif record.status is not Status.RUNNING:
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
        for one in _family(record):
            self._unoffer(one)
            for attempt in one.runs.may_exist_on(self.ownership.me):
                self._stop(one.id, attempt, "cancelled" if state == "cancelled" else STOPPED_AS)
            self.open_runs.forget(one)
            one.status = Status.FINAL
        self._note(record, state, reason)
        array = record.parent
        if isinstance(array, ArrayRecord):
            found = split_element(record.id)
            assert found is not None
            self.ended[state] += 1
            if array.end(found[1], state):
                self._finalise(array, array.final_state(), "")
            return
        del self.live[record.id]
        if isinstance(record, ArrayRecord):
            del self.arrays[record.id]
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
            self.feasibility.forget(task_class.number)
            self._mine.discard(task_class.number)
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

    def is_awaited(self, task: str, attempt: int) -> bool:
        """Whether the scheduler has this in hand, and no entry has told of it."""
        record = self.find(task)
        offered = record is not None and record.status is Status.OFFERED
        return record is not None and offered and record.runs.attempt < attempt

    def feed(self) -> None:
        """Refill the scheduler's window for every class that changed."""
        # Whatever happened, somebody may be first now: earlier tasks are held or blocked, too.
        self._dirty.update(dict.fromkeys(sorted(self.gates.first_classes())))
        dirty, self._dirty = self._dirty, {}
        for number in dirty:
            ready = self.ready.get(number)
            if ready is None or len(ready.offered) > self._window // 2:
                continue
            if number not in self._mine:
                ready.tidy()
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
                return min(self._window, head.unmade) if isinstance(head, ArrayRecord) else 1
        return self._window - len(ready.offered)

    # ---- for people ----

    def _note(self, record: Record, state: str = "", reason: str = "") -> None:
        if self.watched:
            attempt, node = record.runs.shown()
            self.changes.append(
                Change(
                    record.id,
                    state or self.state_of(record),
                    attempt,
                    node,
                    self._now,
                    reason or record.why_held() or "",
                )
            )


def _family(record: Record) -> list[Record]:
    """The record, and before it the elements that were made if it is an array."""
    return [*record.elements.values(), record] if isinstance(record, ArrayRecord) else [record]


def _count_of(record: Record) -> int | None:
    """How many elements an array has; None for what is no array."""
    return record.count if isinstance(record, ArrayRecord) else None


def _item(record: Record) -> Item:
    runs, task_class = record.runs, record.task_class
    return Item(
        record.id,
        min(runs.attempt + 1, ATTEMPT_MAX),
        max(task_class.retries - runs.failures, 0),
        record.order,
        record.hold_if_lost(),
    )
