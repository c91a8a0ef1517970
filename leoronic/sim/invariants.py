"""What must hold at every step. Each is a method named after what it demands."""

from __future__ import annotations

import re
from collections import Counter

from leoronic.core.conditions import AllWithCmdDone, HasFile, HasTag, NotTag
from leoronic.core.effects import Effect, Send
from leoronic.core.entries import Held, Lost, Numbered, Released, decode, encode
from leoronic.core.queue_messages import Committed, Item, Loaded, Offered, Withdrawn
from leoronic.core.records import TaskClass
from leoronic.core.resources import Capacity, milli
from leoronic.core.run import AttemptKey, Run
from leoronic.core.scheduler_messages import Assign, FilesPresent, Offer
from leoronic.core.spec import TaskSpec, bash_text, command_text
from leoronic.journal.schema import STATE_CODES
from leoronic.sim.clock import Clock
from leoronic.sim.disk import JournalHost
from leoronic.sim.facts import Facts, TaskFacts
from leoronic.sim.node import Observer, SimNode
from leoronic.sim.story import Story, Violation


class Invariants(Observer):
    """Sees every message, commit and process of a node. Raises `Violation`."""

    def __init__(self, clock: Clock, story: Story, capacity: Capacity) -> None:
        self.facts = Facts()
        self.node: SimNode
        self._clock = clock
        self._story = story
        self._capacity = capacity
        self._running: dict[AttemptKey, Run] = {}
        self._ran: dict[AttemptKey, int] = {}  # in which life of the runner
        self._runner_life = 0
        self._queue = QueueView()
        self._scheduler = SchedulerView()
        self._outcomes: dict[str, int] = {}
        self._touched: set[str] = set()

    # ---- what is seen ----

    def committed(self, entries: list[Numbered]) -> None:
        """Entries reached the disk."""
        touched: dict[str, None] = {}
        for numbered in entries:
            text = encode(numbered.entry)
            entry = decode(text)
            if entry != numbered.entry:
                raise Violation("entries survive the disk", f"{entry} was {numbered.entry}")
            self._story.mark(text)
            self._story.tell(self._clock.now, "disk", entry)
            if isinstance(entry, Lost):
                self.only_what_cannot_be_accounted_for_is_lost(entry)
            self.facts.happens(numbered.number, entry)
            task = getattr(entry, "task", "")
            if task:
                touched[self.facts.base(task).id] = None
        for task in touched:
            self.final_never_changes(task)

    def handled(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message."""
        if who == "queue":
            self._queue.sees(message)
            for effect in effects:
                if isinstance(effect, Send) and isinstance(effect.message, Offered):
                    for item in effect.message.items:
                        self.only_what_may_start_is_offered(item, effect.message.task_class)
        elif who == "scheduler":
            self._scheduler.sees(message)
            for effect in effects:
                if isinstance(effect, Send) and isinstance(effect.message, Assign):
                    for item, task_class in [*effect.message.items, *effect.message.ahead]:
                        self.only_what_was_offered_is_assigned(item)
                        self.the_node_suits_what_is_assigned(item, task_class)

    def process_starts(self, run: Run) -> None:
        """A process exists from now on."""
        self._story.tell(self._clock.now, "process", f"{run.task} attempt {run.attempt} starts")
        self.started_is_on_disk_before_the_process_exists(run)
        self.an_attempt_runs_once(run)
        self.a_task_runs_once_at_a_time(run)
        self._ran[run.key] = self._runner_life
        self._running[run.key] = run
        self.nothing_is_over_committed(run)

    def process_ends(self, key: AttemptKey) -> None:
        """Nothing of an attempt runs any more."""
        self._story.tell(self._clock.now, "process", f"{key[0]} attempt {key[1]} is gone")
        self._running.pop(key, None)

    def actor_starts(self, who: str) -> None:
        """A new life knows nothing."""
        self._story.tell(self._clock.now, who, "starts")
        if who == "queue":
            self._queue = QueueView()
        elif who == "scheduler":
            self._scheduler = SchedulerView()

    def runner_starts(self) -> None:
        """What ran before is gone."""
        self._runner_life += 1
        self._story.tell(self._clock.now, "runner_host", "starts")

    @property
    def running(self) -> int:
        """How many processes exist."""
        return len(self._running)

    # ---- at commits ----

    def only_what_cannot_be_accounted_for_is_lost(self, entry: Lost) -> None:
        """While the runner lives on, it knows what became of all that it started."""
        key = (entry.task, entry.attempt)
        known = self.facts.part(entry.task).ends.get(entry.attempt)
        if not known and self._ran.get(key) == self._runner_life and self.node.runner is not None:
            raise Violation(
                "only what can't be accounted for is lost",
                f"{key} is recorded as lost ({entry.suspicion}), and the runner that ran it lives",
                entry.task,
            )

    def final_never_changes(self, task: str) -> None:
        """The state on disk is what the entries say, and stays once it is final."""
        journal = self.node.actors["journal"]
        assert isinstance(journal, JournalHost)
        row = journal.journal.connection.execute(
            "SELECT state FROM tasks WHERE id = ?", (task,)
        ).fetchone()
        if row is None:
            raise Violation("nothing is lost", f"{task} is not in the tables", task)
        expected = STATE_CODES.get(self.facts.tasks[task].final, 0)
        if row[0] != expected:
            raise Violation(
                "tables are the join of the entries", f"{task} is {row[0]}, not {expected}", task
            )
        if self._outcomes.setdefault(task, expected) not in (0, expected):
            raise Violation("final never changes", f"{task} became {expected}", task)
        self._outcomes[task] = expected

    # ---- at processes ----

    def started_is_on_disk_before_the_process_exists(self, run: Run) -> None:
        """And what runs is what was submitted."""
        part = self.facts.part(run.task)
        if run.attempt not in part.ends:
            raise Violation(
                "Started is on disk before the process exists", f"{run.key} runs", run.task
            )
        if run.command != bash_text(part.base.spec):
            raise Violation("what was never submitted never runs", run.command, run.task)

    def an_attempt_runs_once(self, run: Run) -> None:
        """No attempt number has two processes, ever."""
        if run.key in self._ran:
            raise Violation("an attempt runs once", f"{run.key} runs again", run.task)

    def a_task_runs_once_at_a_time(self, run: Run) -> None:
        """An attempt starts only when the one before it is gone."""
        other = (run.task, run.attempt - 1)
        if other in self._running:
            raise Violation("a task runs once at a time", f"{other} still runs", run.task)

    def nothing_is_over_committed(self, run: Run) -> None:
        """What really runs fits into the node; who wants it alone has it alone."""
        specs = [self.facts.part(one.task).base.spec for one in self._running.values()]
        capacity = self._capacity
        resources = dict(capacity.resources)
        over = [
            name
            for name, amount in resources.items()
            if sum(spec.resources.get(name, 0) for spec in specs) > amount
        ]
        if sum(milli(spec.cpus) for spec in specs) > capacity.cpus_milli:
            over.append("cpus")
        if sum(spec.memory for spec in specs) > capacity.memory:
            over.append("memory")
        if len(specs) > 1 and not all(spec.concurrent for spec in specs):
            over.append("exclusive")
        if over:
            raise Violation(
                "nothing is over-committed", f"{over} with {sorted(self._running)}", run.task
            )

    # ---- at decisions ----

    def only_what_may_start_is_offered(self, item: Item, task_class: TaskClass) -> None:
        """As far as the queue has been told: not held, not waiting, its conditions hold."""
        task = self.facts.base(item.task)
        if self._queue.is_held(task.id) or self._queue.is_held(item.task):
            raise Violation("nothing starts while it is held", f"{item} is offered", item.task)
        self.facts.check_dependencies(task)
        for gate in task_class.gates:
            for other in self.facts.lives():
                if other.number > self._queue.number or other is task:
                    continue
                if isinstance(gate, AllWithCmdDone):
                    shut = _shuts(other.spec, gate)
                else:
                    shut = other.number < task.number and self._surely_waits(other)
                if shut:
                    raise Violation(
                        "no task starts before its conditions hold",
                        f"{item.task}: {gate.text}, but there is {other.id}",
                        item.task,
                    )

    def _surely_waits(self, task: TaskFacts) -> bool:
        return (
            task.elements is None
            and not task.parts
            and not task.spec.after
            and task.spec.memory <= self._capacity.memory
            and not self._queue.is_held(task.id)
        )

    def only_what_was_offered_is_assigned(self, item: Item) -> None:
        """What was withdrawn in time does not start."""
        if not self._scheduler.offered[item.task]:
            raise Violation("only what was offered is assigned", f"{item}", item.task)
        self._scheduler.offered[item.task] -= 1

    def the_node_suits_what_is_assigned(self, item: Item, task_class: TaskClass) -> None:
        """Tags and files are as the node last said; a draining node gets only what is its own."""
        view = self._scheduler
        assert view.node is not None
        suits = task_class.node or not view.node.draining
        for condition in task_class.worker:
            match condition:
                case HasTag(tag):
                    suits = suits and tag in view.node.tags
                case NotTag(tag):
                    suits = suits and tag not in view.node.tags
                case HasFile(path):
                    suits = suits and path in view.files
        if not suits:
            raise Violation("no task starts before its conditions hold", f"{item}", item.task)


class QueueView:
    """What this life of the queue has been told about holds."""

    def __init__(self) -> None:
        self.number = 0
        self._held: dict[str, tuple[int, bool]] = {}
        self._lost: dict[str, int] = {}
        self._unheard: set[str] = set()

    def sees(self, message: object) -> None:
        """The queue took a message."""
        match message:
            case Committed(entries):
                for numbered in entries:
                    self._hears(numbered)
            case Loaded():
                self._loads(message)

    def _loads(self, message: Loaded) -> None:
        self.number = max(self.number, message.number)
        for task in message.tasks:
            self._held[task.task] = (task.revision, task.held is not None)
            if task.lost_hold:
                self._lost[task.task] = task.lost_hold
            for index, element in task.live_elements.items():
                if element.lost_hold:
                    self._lost[f"{task.task}.{index}"] = element.lost_hold

    def _hears(self, numbered: Numbered) -> None:
        self.number = max(self.number, numbered.number)
        match numbered.entry:
            case Held(task, revision):
                self._turn(task, revision, True)
            case Released(task, revision, _, attempt):
                self._turn(task, revision, False)
                if self._lost.get(task, attempt + 1) <= attempt:
                    del self._lost[task]
            case Lost(task, attempt, hold=True):
                self._lost[task] = attempt
            case _:
                pass

    def _turn(self, task: str, revision: int, on: bool) -> None:
        if revision > self._held.get(task, (0, False))[0]:
            self._held[task] = (revision, on)

    def is_held(self, task: str) -> bool:
        """Whether the queue knows that `task` must not start."""
        return self._held.get(task, (0, False))[1] or task in self._lost


class SchedulerView:
    """What this life of the scheduler has been told."""

    def __init__(self) -> None:
        self.offered: Counter[str] = Counter()
        self.node: Offer | None = None
        self.files: frozenset[str] = frozenset()
        self._classes: dict[str, int] = {}

    def sees(self, message: object) -> None:
        """The scheduler took a message."""
        match message:
            case Offered(task_class, items):
                for item in items:
                    # Twice, if it asked for all again while some were on their way.
                    self.offered[item.task] += 1
                    self._classes[item.task] = task_class.number
            case Withdrawn(number, tasks):
                if tasks is None:
                    tasks = [task for task in self.offered if self._classes[task] == number]
                for task in tasks:
                    self.offered.pop(task, None)
            case Offer():
                if message.fresh and self.node is not None:
                    self.offered.clear()
                self.node = message
            case FilesPresent(_, present):
                self.files = present


def _shuts(spec: TaskSpec, gate: AllWithCmdDone) -> bool:
    """Whether `gate` waits for such a task; those that carry the condition too do not count."""
    return gate.text not in spec.conditions and bool(re.search(gate.regex, command_text(spec)))
