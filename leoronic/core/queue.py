"""The queue: every live task of the cluster, as one machine.

In: requests (`queue_messages`), entries that the journal has made durable (this node's and those of
others), who is there (`View`), timers. Out: entries to append, tasks that may start (to the
scheduler, of those that this node owns), attempts to stop (to the executor), answers. The queue
believes only what is on disk: a request becomes an entry, and the entry, once committed, changes
the records (`tasks.py`); so what was never written never happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from leoronic.core.admission import Plan
from leoronic.core.arrays import ArrayRecord
from leoronic.core.bounds import ATTEMPT_MAX
from leoronic.core.effects import (
    Asked,
    CancelTimer,
    Effect,
    Fail,
    Fired,
    Reply,
    Send,
    SetTimer,
)
from leoronic.core.entries import Cancelled, Entry, Held, Released, Suspected
from leoronic.core.queue_messages import (
    Accepted,
    Append,
    Appended,
    AppendFailed,
    AskBegun,
    AskReached,
    Begun,
    ChangedTasks,
    ChangeTasks,
    CommandsMatched,
    Committed,
    Count,
    Declined,
    Describe,
    FindLive,
    LiveTask,
    Loaded,
    LoadLive,
    LookedUp,
    Lookup,
    NodeDown,
    QueueStarted,
    Reached,
    SchedulerStarted,
    SubmitSpecs,
    TasksChanged,
    Watching,
)
from leoronic.core.records import Record, Status
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.tasks import Tasks
from leoronic.core.view import AskView, View
from leoronic.errors import LeoronicError, Unavailable

LIVE_TASKS_MAX = 10_000_000
PARKED_REQUESTS_MAX = 1024
RETRY_APPEND_S = 1.0
# Replication answers within 2 s, unless it has just begun a new life.
COPIES_S = 3.0


class Start:
    """The machine's first message: load the live tasks, and ask who is there."""


class QueueMachine:
    """See the module. One instance is one life of the queue actor; its state is on disk."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self._ids_seed = ""
        self._next_id = 1
        self._loaded = False
        self._token = 0
        self._life = 0
        self._parked: list[Asked] = []
        self._plans: dict[int, Plan] = {}
        self._claimed: set[str] = set()  # ids of submissions on their way to the disk
        self._changing: dict[int, tuple[object, ChangedTasks]] = {}
        self._derived: dict[int, list[Entry]] = {}  # appends that follow from what was applied
        self._have: dict[str, int] = {}  # the last entry of each origin that was applied
        self._needed: dict[str, int] = {}  # which the scheduler waits for
        self._suspected: dict[str, Entry] = {}  # by node: those for which there was no room
        self._copying: dict[
            int, tuple[Plan, float]
        ] = {}  # on disk here; answered at the latest then
        self._effects: list[Effect] = []
        self._now = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Loaded: self._on_loaded,
            Committed: self._on_committed,
            Appended: self._on_appended,
            AppendFailed: self._on_append_failed,
            LookedUp: self._on_looked_up,
            CommandsMatched: self._on_commands_matched,
            SchedulerStarted: self._on_scheduler_started,
            Watching: self._on_watching,
            Declined: self._on_declined,
            AskBegun: self._on_ask_begun,
            AskReached: lambda message: self._needed.update(message.needs),
            View: self._on_view,
            NodeDown: self._on_node_down,
            Copied: self._on_copied,
            Asked: self._on_asked,
            Fired: self._on_fired,
        }
        self._questions: dict[type, Callable[..., None]] = {
            SubmitSpecs: self._submit,
            ChangeTasks: self._change,
            Describe: self._describe,
            FindLive: self._find_live,
            Count: self._count,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message; `now` in seconds since the epoch."""
        self._now = now
        self.tasks.at(now)
        self._handlers[type(message)](message)
        self._collect()
        effects, self._effects = self._effects, []
        return effects

    def _collect(self) -> None:
        """Turn what the tasks want into effects, in the order that matters."""
        tasks = self.tasks
        if self._loaded:
            tasks.feed()
            if tasks.strangers:
                refs, tasks.strangers = list(tasks.strangers), {}
                self._send("journal", Lookup("queue", 0, refs))
            if tasks.appends:
                entries, tasks.appends = tasks.appends, []
                self._derived[self._append(entries)] = entries
        self._effects += tasks.effects
        tasks.effects = []
        if tasks.changes:
            self._send("control", TasksChanged(tasks.changes))
            tasks.changes = []
        if self._needed:
            self._tell_reached()

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _append(self, entries: list[Entry]) -> int:
        self._token += 1
        self._send("journal", Append("queue", self._token, entries))
        return self._token

    # ---- starting ----

    def _on_start(self, _message: Start) -> None:
        # Answers to an earlier life of this actor must not be taken for ours.
        self._token = int(self._now * 1_000_000)
        self._life = self._token
        self._send("journal", LoadLive("queue", self._life))
        self._send("membership", AskView("queue"))

    def _on_loaded(self, message: Loaded) -> None:
        if message.life not in (0, self._life):
            return
        for loaded in message.tasks:
            self.tasks.load(loaded)
        if not message.last:
            return
        # Numbers of refused submissions are spent as well, and an earlier life may have spent more
        # than it wrote: so each life gives ids of its own.
        self._ids_seed = f"{message.node}/{int(self._now * 1_000_000)}"
        self._next_id = message.number + 1
        self.tasks.ownership.me = message.node
        for state, count in message.finals.items():
            self.tasks.ended[state] += count
        self.tasks.place_all_loaded()
        self._have = dict(message.have)
        self._loaded = True
        self._send("control", QueueStarted())
        self._unpark()

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        for asked in parked:
            self._on_asked(asked)

    def _park(self, asked: Asked) -> None:
        if len(self._parked) >= PARKED_REQUESTS_MAX:
            self._effects.append(
                Fail(asked.request, Unavailable("the queue is busy; try again in a moment"))
            )
        else:
            self._parked.append(asked)

    # ---- the journal ----

    def _on_committed(self, message: Committed) -> None:
        if not self._loaded:
            return  # a commit was under way when this life began: what it wrote is loaded
        for numbered in message.entries:
            self.tasks.apply(numbered, message.orders)
        for flip in message.flips:
            self.tasks.flip(flip)
        self._have.update(message.have)

    def _on_appended(self, message: Appended) -> None:
        self._derived.pop(message.token, None)
        plan = self._plans.pop(message.token, None)
        if plan is not None:
            self._claimed.difference_update(plan.claims())
            self._await_copies(message.token, message.number, plan)
        changing = self._changing.pop(message.token, None)
        if changing is not None:
            self._effects.append(Reply(*changing))
        self._unpark()

    def _await_copies(self, token: int, number: int, plan: Plan) -> None:
        """A submission is on this disk: who else holds it is told as well, if it comes soon."""
        if not self._copying:
            self._effects.append(SetTimer("copies", self._now + COPIES_S))
        self._copying[token] = (plan, self._now + COPIES_S)
        self._send("replication", AwaitCopies(token, number))

    def _on_copied(self, message: Copied) -> None:
        waiting = self._copying.pop(message.token, None)
        if waiting is None:
            return
        plan, _ = waiting
        self._effects.append(Reply(plan.request, Accepted(plan.ids, sorted(message.nodes))))
        if not self._copying:
            self._effects.append(CancelTimer("copies"))

    def _stop_waiting(self) -> None:
        """Replication has said nothing for too long: the tasks are safe here, and that is told."""
        for token, (plan, until) in list(self._copying.items()):
            if until > self._now:
                self._effects.append(SetTimer("copies", until))
                return
            del self._copying[token]
            self._effects.append(Reply(plan.request, Accepted(plan.ids)))

    def _on_append_failed(self, message: AppendFailed) -> None:
        derived = self._derived.pop(message.token, None)
        if derived is not None:
            # Nobody asks for these again: they wait for room on the disk. Of what is lost by then,
            # some may have come back.
            self.tasks.open_runs.not_written(derived)
            self._suspected.update((e.node, e) for e in derived if isinstance(e, Suspected))
            self._effects.append(SetTimer("append", self._now + RETRY_APPEND_S))
        plan = self._plans.pop(message.token, None)
        if plan is not None:
            self._refuse(plan, message.error)
        changing = self._changing.pop(message.token, None)
        if changing is not None:
            self._effects.append(Fail(changing[0], message.error))
        self._unpark()

    def _on_looked_up(self, message: LookedUp) -> None:
        if message.token:
            plan = self._plans.pop(message.token, None)
            if plan is not None:
                self._admit(plan, message)
                self._unpark()  # refused, or known already: whoever waited for its ids may go on
            return
        for ref, found in message.found.items():
            known = next((k for k in found if k.id == ref), None)
            if known is None:
                self.tasks.parent_known(ref, "forgotten", "")
            elif known.state is not None:
                self.tasks.parent_known(ref, known.state, known.redone_as)

    def _on_commands_matched(self, message: CommandsMatched) -> None:
        self.tasks.commands_matched(message.regex, message.ids)

    def _on_scheduler_started(self, _message: SchedulerStarted) -> None:
        self.tasks.offer_again()

    def _on_ask_begun(self, message: AskBegun) -> None:
        if not any(self.tasks.is_awaited(*key) for key in message.attempts):
            self._send("scheduler", Begun(message.attempts))

    def _tell_reached(self) -> None:
        """Once the scheduler has been told all that follows from these entries."""
        have = self._have
        reached = {o: have[o] for o, number in self._needed.items() if have.get(o, 0) >= number}
        if reached:
            self._needed = {o: n for o, n in self._needed.items() if o not in reached}
            self._send("scheduler", Reached(reached))

    def _on_declined(self, message: Declined) -> None:
        self.tasks.declined(message.tasks)

    def _on_view(self, message: View) -> None:
        self.tasks.see(message)

    def _on_node_down(self, message: NodeDown) -> None:
        self.tasks.appends.append(Suspected(message.node, self._now, message.reason))

    def _on_watching(self, message: Watching) -> None:
        self.tasks.watched = message.on

    def _on_fired(self, message: Fired) -> None:
        if message.name == "append":
            suspected, self._suspected = self._suspected, {}
            self.tasks.appends += suspected.values()
            self.tasks.give_up_lost()
        elif message.name == "copies":
            self._stop_waiting()
        elif message.name == "unheard of":
            self.tasks.unheard_of_for_longer()
        else:
            self.tasks.wake_delayed()

    # ---- requests ----

    def _on_asked(self, asked: Asked) -> None:
        if self._loaded:
            self._questions[type(asked.message)](asked)
        else:
            self._park(asked)

    def _submit(self, asked: Asked) -> None:
        assert isinstance(asked.message, SubmitSpecs)
        plan = Plan(asked.request, asked.message)
        claims = plan.claims()
        if not self._claimed.isdisjoint(claims):
            self._park(asked)  # the same id is on its way to the disk: wait how that ends
            return
        if len(self.tasks.live) + len(asked.message.specs) > LIVE_TASKS_MAX:
            self._refuse(plan, Unavailable(f"the queue holds {LIVE_TASKS_MAX} tasks, its most"))
            return
        self._claimed.update(claims)
        refs = plan.references()
        if refs:
            self._token += 1
            self._plans[self._token] = plan
            self._send("journal", Lookup("queue", self._token, refs))
        else:
            self._admit(plan, LookedUp(0, {}))

    def _admit(self, plan: Plan, answer: LookedUp) -> None:
        try:
            self._next_id += plan.resolve(answer, self._ids_seed, self._next_id, self._now)
        except LeoronicError as error:
            self._refuse(plan, error)
            return
        if plan.entries:
            self._plans[self._append(plan.entries)] = plan
        else:
            self._claimed.difference_update(plan.claims())
            self._effects.append(Reply(plan.request, Accepted(plan.ids)))

    def _refuse(self, plan: Plan, error: LeoronicError) -> None:
        self._claimed.difference_update(plan.claims())
        self._effects.append(Fail(plan.request, error))

    def _change(self, asked: Asked) -> None:
        assert isinstance(asked.message, ChangeTasks)
        make = {"cancel": self._cancel, "hold": self._hold, "release": self._release}
        changed: list[str] = []
        unchanged: list[str] = []
        entries: list[Entry] = []
        for task in dict.fromkeys(asked.message.ids):
            entry = make[asked.message.what](task, asked.message.reason)
            found = [] if entry is None else [entry]
            if asked.message.what == "release":
                found += self._release_elements(task)
            (changed if found else unchanged).append(task)
            entries += found
        running = [task for task in changed if self._goes_on(asked.message.what, task)]
        changed = [task for task in changed if task not in running]
        answer = ChangedTasks(changed, unchanged, running)
        if entries:
            self._changing[self._append(entries)] = (asked.request, answer)
        else:
            self._effects.append(Reply(asked.request, answer))

    def _cancel(self, task: str, _reason: str) -> Entry | None:
        found = self.tasks.array_of(task)
        if task in self.tasks.live or (found is not None and found[0].is_open(found[1])):
            return Cancelled(task, self._now)
        return None

    def _goes_on(self, what: str, task: str) -> bool:
        """Whether a task that is held runs on, as holding ends nothing."""
        record = self.tasks.live.get(task)
        return what == "hold" and record is not None and record.status is Status.RUNNING

    def _hold(self, task: str, reason: str) -> Entry | None:
        record = self.tasks.live.get(task)  # an element is held with its array
        if record is None or record.why_held() is not None:
            return None
        return Held(task, _next_revision(record), self._now, reason)

    def _release(self, task: str, _reason: str) -> Entry | None:
        record = self.tasks.find(task)
        if record is None or record.why_held() is None:
            return None
        # What runs now may still be lost: that loss is not forgiven in advance.
        return Released(task, _next_revision(record), self._now, record.runs.forgivable())

    def _release_elements(self, task: str) -> list[Entry]:
        """Of an array that is released, the elements that a loss holds."""
        array = self.tasks.arrays.get(task)
        elements = () if array is None else array.elements.values()
        lost = [element for element in elements if element.is_lost_held()]
        released = (self._release(element.id, "") for element in lost)
        return [entry for entry in released if entry is not None]

    # ---- questions ----

    def _describe(self, asked: Asked) -> None:
        assert isinstance(asked.message, Describe)
        found = (self._live_task(task) for task in asked.message.ids)
        self._effects.append(Reply(asked.request, {f.id: f for f in found if f is not None}))

    def _live_task(self, task: str) -> LiveTask | None:
        record = self.tasks.find(task)
        if record is None:
            return self._unmade_element(task)
        attempt, node = record.runs.shown()
        return LiveTask(
            record.id,
            record.order,
            self.tasks.state_of(record),
            attempt,
            node,
            self._reasons(record),
            record.task_class.number,
            record.not_before,
            self._elements(record) if isinstance(record, ArrayRecord) else None,
            self._owner(record),
        )

    def _owner(self, record: Record) -> str:
        return self.tasks.ownership.owner(record.task_class.origin)

    def _unmade_element(self, task: str) -> LiveTask | None:
        found = self.tasks.array_of(task)
        if found is None or not found[0].is_open(found[1]):
            return None
        array = found[0]
        reasons = [f"its turn has not come: array {array.id}", *self._reasons(array)]
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

    def _reasons(self, record: Record) -> list[str]:
        """Why a task does not run, as far as the queue knows."""
        tasks = self.tasks
        status = record.status
        if status is Status.HELD:
            return [record.why_held() or "held"]
        if status is Status.BLOCKED:
            return tasks.graph.reasons(record.id)
        if status is Status.DEPENDING:
            waits = tasks.graph.waiting_for(record.id)
            return [f"it runs after {other} has {when}" for other, when in waits.items()]
        if status is Status.DELAYED:
            left = max(record.not_before - self._now, 0)
            return [f"attempt {record.runs.attempt} failed; it is tried again in {left:.0f} s"]
        if self.tasks.state_of(record) == "blocked":
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
        ownership = self.tasks.ownership
        owner = self._owner(record)
        if not owner:
            return ["no node has caught up with the others yet"]
        if owner == ownership.me:
            return []
        return [f"node {ownership.name(owner)} decides when it starts"]

    def _find_live(self, asked: Asked) -> None:
        assert isinstance(asked.message, FindLive)
        query = asked.message
        found = (
            record.id
            for record in _newest_first(self.tasks.live)
            if self.tasks.state_of(record) == query.state
            and (query.before is None or record.order < query.before)
        )
        self._effects.append(Reply(asked.request, list(islice(found, query.limit))))

    def _count(self, asked: Asked) -> None:
        counts = self.tasks.count_singles()
        for array in self.tasks.arrays.values():
            for state, count in self._elements(array).items():
                if state in counts:
                    counts[state] += count
        self._effects.append(Reply(asked.request, {**counts, **self.tasks.ended}))

    def _elements(self, array: ArrayRecord) -> dict[str, int]:
        """An array's elements by state."""
        counts = dict(array.ended)
        for element in array.elements.values():
            state = self.tasks.state_of(element)
            counts[state] = counts.get(state, 0) + 1
        if array.unmade:
            state = self.tasks.state_of(array)
            if state not in ("held", "blocked"):
                state = "waiting"
            counts[state] = counts.get(state, 0) + array.unmade
        return {state: count for state, count in counts.items() if count}


def _next_revision(record: Record) -> int:
    return min(record.revision + 1, ATTEMPT_MAX)


def _newest_first(live: dict[str, Record]) -> Iterable[Record]:
    return reversed(live.values())
