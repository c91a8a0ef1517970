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

from collections.abc import Callable, Iterable, Mapping

from leoronic.core.arrays import ArrayRecord, split_element
from leoronic.core.effects import Effect, Log, Send
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
from leoronic.core.gates import Gates
from leoronic.core.graph import Graph
from leoronic.core.live import LiveRecords, family
from leoronic.core.losses import Losses
from leoronic.core.open_runs import OpenRuns
from leoronic.core.ownership import Ownership
from leoronic.core.queue_messages import (
    Flip,
    LoadedRun,
    LoadedTask,
    MatchCommands,
    StopAttempt,
    StopOnGhost,
)
from leoronic.core.records import Record, Status, TaskClass
from leoronic.core.redos import Redos
from leoronic.core.runs import LOST, NEVER_BEGAN, OPEN, STOPPED_AS, RunState, end_phase
from leoronic.core.spec import TaskSpec, element_count
from leoronic.core.standing import Standing
from leoronic.core.unheard import Unheard
from leoronic.core.view import View
from leoronic.core.windows import Windows


class Tasks(LiveRecords):
    """See the module. Everything it knows can be had again from the journal and the view."""

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[Effect] = []
        self.appends: list[Entry] = []
        self.strangers: dict[str, None] = {}
        self.graph = Graph()
        self.gates = Gates(self.feasibility.obstacles)
        self._unheard = Unheard(self.effects, lambda: self.now)
        self.ownership = Ownership(self._unheard)
        self.open_runs = OpenRuns()
        self.windows = Windows(self, self.gates, self.ownership, self.effects)
        self.standing = Standing(self, self.graph, self.gates, self.windows, self.effects)
        self._redos = Redos(self, self.graph, self._ask)
        self._losses = Losses(self, self.ownership, self.open_runs)
        self._appliers: dict[type, Callable[..., None]] = {
            Started: self._started,
            Finished: self._finished,
            Lost: self._lost,
            Cancelled: self._cancelled,
            Held: self._held,
            Released: self._released,
        }

    # ---- who is there ----

    def see(self, view: View) -> None:
        """Who is there is another now: who places what, what could run, and what is lost."""
        self.ownership.see(view)
        self.windows.see(len(view.executors()))
        changed = set(self.feasibility.see(view, self.classes))
        if changed:
            for record in self.live.values():
                if record.task_class.number in changed:
                    self.note(record)
                    self.gates.task_waits(record)
        # Who waits to be first need not wait for what can't start.
        self.windows.changed(sorted(self.gates.first_classes()))
        self.give_up_lost()

    def give_up_lost(self) -> None:
        """What runs on nodes that are gone is lost."""
        self.appends += self._losses.all()

    def unheard_of_for_longer(self) -> None:
        """The timer "unheard of" fired."""
        self._unheard.step()
        if self.ownership.view is not None:
            self.windows.see(len(self.ownership.view.executors()))
        self.give_up_lost()

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
            for one in family(record):
                self.open_runs.restore(one)
            self._drop_class(known.task_class)
        if spec.after:
            self._depend(record, spec)
        for closed in sorted(self.gates.task_added(record.id, spec, record.task_class)):
            self.windows.shut(closed)
        if known is None:
            self.standing.place(record)
        else:
            self._place_restored(record)
        if spec.redo_of:
            self.standing.place_all(self._redos.submitted(spec.redo_of, record.id))

    def _forget_twin(self, record: Record) -> None:
        """Two nodes took the same id, and the other one's task holds: its record replaces this."""
        for one in family(record):
            self.windows.take_back(one)
            one.status = Status.FINAL
            self.open_runs.forget(one)
        self.standing.place_all(self.graph.forget(record.id))
        self.windows.changed(sorted(self.gates.task_ended(record.id)))

    def _make(self, task: str, order: int, spec: TaskSpec, origin: str) -> Record:
        task_class = self.classes.intern(spec, origin)
        count = element_count(spec)
        record = (
            Record(task, order, task_class)
            if count is None
            else ArrayRecord(task, order, task_class, count)
        )
        if task_class.number not in self.windows.ready:
            self._add_class(task_class)
        self.put(record)
        return record

    def _add_class(self, task_class: TaskClass) -> None:
        self.windows.add_class(task_class)
        self.feasibility.judge(task_class)
        if task_class.gates:
            for regex in self.gates.add_class(task_class, self.live.values):
                self.effects.append(Send("journal", MatchCommands("queue", regex)))

    def _depend(self, record: Record, spec: TaskSpec) -> None:
        self.graph.add(record.id, [(after.id, after.when, None) for after in spec.after])
        self._ask(after.id for after in spec.after if after.id not in self.live)

    def parent_known(self, task: str, state: str, redone_as: str) -> None:
        """The journal told how a task that others depend on ended, and what redid it."""
        self.standing.place_all(self.graph.settle(task, state))
        if redone_as:
            self.standing.place_all(self._redos.known(task, redone_as))

    def _ask(self, tasks: Iterable[str]) -> None:
        self.strangers.update(dict.fromkeys(tasks))

    def _started(self, entry: Started, _origin: str) -> None:
        record = self._record_to_run(entry.task)
        if record is None:
            if self.ownership.is_here(entry.node):
                self._stop(entry.task, entry.attempt, entry.node, "the task had ended already")
            return
        self._join(record, entry.attempt, entry.node, RunState(OPEN))
        self.appends += self._losses.of(record, entry.node)

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
            end_phase(entry.final, entry.outcome.reason), min(entry.outcome.finished_at, self.now)
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
        lost = RunState(LOST, 0.0, entry.hold, gone=entry.told or origin == entry.node)
        if not entry.begun:
            lost = RunState(NEVER_BEGAN, min(entry.at, self.now))
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
            self.standing.place(record)
        else:
            self._runs_now(record, assigned=attempt == expected)
        self._stop_superseded(record)
        return True

    def _runs_now(self, record: Record, *, assigned: bool) -> None:
        self.windows.runs(record, assigned=assigned)
        self.note(record)

    def _stop_superseded(self, record: Record) -> None:
        """Of several runs of a task the highest goes on; a lower one here is ended."""
        for node in self._nodes_here(record):
            for attempt in record.runs.superseded_on(node):
                self._stop(record.id, attempt, node, STOPPED_AS)

    def _nodes_here(self, record: Record) -> list[str]:
        """Where it ran, of this node and the ghosts that are attached to it."""
        return [node for node in record.runs.nodes() if self.ownership.is_here(node)]

    def _cancelled(self, entry: Cancelled, _origin: str) -> None:
        record = self._record_for(entry.task)
        if record is not None:
            self._finalise(record, "cancelled", "cancelled")

    def _held(self, entry: Held, _origin: str) -> None:
        record = self.live.get(entry.task)  # an element is held with its array
        if record is not None and record.join_hold(entry.revision, entry.reason or "held"):
            self.standing.place_family(record)

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
            self.standing.place_family(record)

    def flip(self, flip: Flip) -> None:
        """What was final has another outcome now."""
        found = self.array_of(flip.task)
        if found is not None:
            found[0].flip(flip.was, flip.state)
        self.turned_out(flip)
        self.standing.place_all(self.graph.flip(flip.task, flip.state))
        self.standing.place_all(self._redos.flipped(flip.task))

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
            state = RunState(run.phase, min(run.ended_at, self.now), run.hold)
            record.runs_to_change().join((run.attempt, run.node), state)
        self.open_runs.restore(record)

    def place_all_loaded(self) -> None:
        """Every live task is known: find out where each stands."""
        for record in list(self.live.values()):
            self.strangers.pop(record.id, None)
            self._place_restored(record)
        self.give_up_lost()

    def _place_restored(self, record: Record) -> None:
        for one in family(record):
            if one.runs.is_open():
                self._runs_now(one, assigned=False)
            elif one is not record:
                self.standing.place(one)
            self._stop_superseded(one)
        if isinstance(record, ArrayRecord) and record.is_done():
            self._finalise(record, record.final_state(), "")
        elif record.status is not Status.RUNNING:
            self.standing.place(record)

    # ---- the end of a task ----

    def _finalise(self, record: Record, state: str, reason: str) -> None:
        for one in family(record):
            self.windows.take_back(one)
            why = "cancelled" if state == "cancelled" else STOPPED_AS
            for node in self._nodes_here(one):
                for attempt in one.runs.may_exist_on(node):
                    self._stop(one.id, attempt, node, why)
            self.open_runs.forget(one)
            one.status = Status.FINAL
        self.note(record, state, reason)
        array = record.parent
        if isinstance(array, ArrayRecord):
            found = split_element(record.id)
            assert found is not None
            self.ended[state] += 1
            if array.end(found[1], state):
                self._finalise(array, array.final_state(), "")
            return
        self.end(record, state)
        self.windows.changed(sorted(self.gates.task_ended(record.id)))
        self._drop_class(record.task_class)
        self.standing.place_all(self.graph.settle(record.id, state))
        self._redos.ended(record.id)

    def _drop_class(self, task_class: TaskClass) -> None:
        self.windows.changed([task_class.number])
        if self.classes.release(task_class):
            if task_class.gates:
                self.gates.drop_class(task_class)
            self.feasibility.forget(task_class.number)
            self.windows.drop_class(task_class)

    def _stop(self, task: str, attempt: int, node: str, reason: str) -> None:
        stop = StopAttempt(task, attempt, reason)
        if node == self.ownership.me:
            self.effects.append(Send("runner", stop))
        else:
            self.effects.append(Send("relay", StopOnGhost(node, stop)))

    # ---- what others tell ----

    def commands_matched(self, regex: str, ids: list[str]) -> None:
        """The journal's answer to `MatchCommands`."""

        def class_of(task: str) -> int | None:
            record = self.live.get(task)
            return None if record is None else record.task_class.number

        self.windows.changed(sorted(self.gates.matched(regex, ids, class_of)))

    def declined(self, tasks: list[str]) -> None:
        """The executor had no room after all: these are ready again."""
        for task in tasks:
            record = self.find(task)
            if record is not None and record.status is Status.OFFERED:
                self.standing.place(record)

    def is_awaited(self, task: str, attempt: int) -> bool:
        """Whether the scheduler has this in hand, and no entry has told of it."""
        record = self.find(task)
        offered = record is not None and record.status is Status.OFFERED
        return record is not None and offered and record.runs.attempt < attempt


def _count_of(record: Record) -> int | None:
    """How many elements an array has; None for what is no array."""
    return record.count if isinstance(record, ArrayRecord) else None
