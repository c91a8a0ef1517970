"""What must hold at every step on each node. Each is a method named after what it demands."""

from __future__ import annotations

from collections.abc import Callable

from leoronic.core.effects import Effect, Send
from leoronic.core.entries import Finished, Lost, Numbered, Started, decode, encode
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import NodeDown
from leoronic.core.resources import Capacity, milli
from leoronic.core.run import AttemptKey, Run
from leoronic.core.runs import STOPPED_AS, STOPPED_WITH_NODE
from leoronic.core.spec import bash_text
from leoronic.journal.schema import STATE_CODES
from leoronic.sim.clock import Clock
from leoronic.sim.decisions import QueueView, SchedulerView
from leoronic.sim.facts import LOSSES_MAX, Facts, Part
from leoronic.sim.file_actor import files_are_placed
from leoronic.sim.history import History, Vector
from leoronic.sim.journal import JournalHost
from leoronic.sim.node import SimNode
from leoronic.sim.observer import Observer
from leoronic.sim.story import Story, Violation


class Invariants(Observer):
    """Sees every message, commit and process of one node. Raises `Violation`.

    `facts` are what its own disk says, `have` how much of each journal that is.
    """

    def __init__(
        self,
        clock: Clock,
        story: Story,
        capacity: Capacity,
        history: History,
        name: str,
        *,
        heard: Callable[[str, str], str],
    ) -> None:
        self.facts = Facts(history.forgotten.by, history.ghosts)
        self.have: Vector = {}
        self.node: SimNode
        self._clock = clock
        self._story = story
        self.capacity = capacity
        self._history = history
        self._name = name
        self._heard = heard
        self._running: dict[AttemptKey, Run] = {}
        self._ran: dict[AttemptKey, int] = {}  # in which life of the runner
        self._runner_life = 0
        self._loads: dict[int, int] = {}
        self._queue = QueueView(self.facts)
        self._scheduler = SchedulerView("")
        self._ranks: dict[str, object] = {}
        self.on_given_up: Callable[[str, str], None] = lambda _judge, _ghost: None

    # ---- what is seen ----

    def _tell(self, who: str, what: object) -> None:
        self._story.tell(self._clock.now, f"{self._name}.{who}", what)

    def committed(self, entries: list[Numbered], skipped: Vector) -> None:
        """Entries reached the disk."""
        touched: dict[str, None] = {}
        for numbered in entries:
            if numbered.origin == self.node.id:
                self._writes(numbered)
            else:
                self._history.takes(self.node.id, numbered, self.have, skipped)
                self._tell("takes", numbered)
            if self.have.get(numbered.origin, 0) >= numbered.number:
                raise Violation("an entry is taken once", f"{numbered} again", "")
            self.have[numbered.origin] = numbered.number
            task = self.facts.happens(numbered)
            if task:
                touched[task] = None
        for origin, number in skipped.items():
            self.have[origin] = max(number, self.have.get(origin, 0))
        for task in touched:
            self.final_stays_final(task)
            self.the_tables_are_the_join(task)
            self._history.forgotten.does_not_live_again(task, self)

    def forgets(
        self, before: float, members: list[str], tasks: set[str], places: set[tuple[str, int]]
    ) -> None:
        """Something was forgotten, maybe."""
        for task in sorted(tasks):
            self._tell("disk", f"forgets {task}")
        self._history.forgotten.happens(self, before, members, tasks, places)

    def _writes(self, numbered: Numbered) -> None:
        entry = numbered.entry
        text = encode(entry)
        if decode(text) != entry:
            raise Violation("entries survive the disk", f"{decode(text)} was {entry}")
        self._story.mark(text)
        self._tell("disk", entry)
        self.numbers_have_no_gap(numbered)
        match entry:
            case Started():
                self.what_is_final_or_outdone_never_starts(entry)
            case Finished():
                self.a_task_is_tried_as_often_as_it_says(entry)
            case Lost():
                self._note_ghost_given_up(entry)
                self.only_what_cannot_be_accounted_for_is_lost(entry)
                self.a_loss_is_held_as_the_task_says(entry)
            case _:
                pass
        self._history.writes(numbered, self.have)

    def _note_ghost_given_up(self, entry: Lost) -> None:
        """A ghost of which this node has not heard for long need not have been called down."""
        pair = (self.node.id, entry.node)
        history = self._history
        if entry.node in history.ghosts and not entry.told and pair not in history.given_up:
            history.given_up.add(pair)
            self.on_given_up(*pair)

    def loads_live(self, life: int) -> None:
        """The queue of this life is told what is on disk now."""
        self._loads[life] = len(self.facts.log)

    def handled(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message."""
        if who == "queue":
            self._queue.sees(message, self._loads)
            self._queue.offers(effects)
        elif who == "scheduler":
            self._scheduler.sees(message)
            self._scheduler.assigns(effects)
        elif who == "membership":
            for effect in effects:
                if type(effect) is Send and type(effect.message) is NodeDown:
                    self._history.given_up.add((self.node.id, effect.message.node))
                    if effect.message.node in self._history.ghosts:
                        self.on_given_up(self.node.id, effect.message.node)
                    else:
                        self.nobody_is_given_up_whom_another_hears(effect.message)

    def nobody_is_given_up_whom_another_hears(self, message: NodeDown) -> None:
        """A broken connection, or one way that is clogged, is not death."""
        through = self._heard(self.node.id, message.node)
        if through:
            raise Violation(
                "nobody is given up whom another hears",
                f"{self._name} gives up {message.node} ({message.reason}), heard by {through}",
            )

    def process_starts(self, run: Run) -> None:
        """A process exists from now on."""
        self._tell("process", f"{run.task} attempt {run.attempt} starts")
        self.started_is_on_disk_before_the_process_exists(run)
        self.an_attempt_runs_once(run)
        self.a_task_runs_once_at_a_time(run)
        self._ran[run.key] = self._runner_life
        self._running[run.key] = run
        self.nothing_is_over_committed(run)
        files_are_placed(self.node.blobs, run, self.facts.part(run.task).base.spec)

    def process_ends(self, key: AttemptKey) -> None:
        """Nothing of an attempt runs any more."""
        self._tell("process", f"{key[0]} attempt {key[1]} is gone")
        self._running.pop(key, None)

    def actor_starts(self, who: str) -> None:
        """A new life knows nothing."""
        self._tell(who, "starts")
        if who == "queue":
            self._queue = QueueView(self.facts)
        elif who == "scheduler":
            self._scheduler = SchedulerView(self.node.id)

    def runner_starts(self) -> None:
        """What ran before is gone."""
        self._runner_life += 1
        self._tell("runner_host", "starts")

    def leaves(self) -> None:
        """Others may give up at once what runs here."""
        self._history.left.add(self.node.id)

    @property
    def running(self) -> int:
        """How many processes exist."""
        return len(self._running)

    # ---- at commits ----

    def numbers_have_no_gap(self, numbered: Numbered) -> None:
        """Each node numbers its own entries 1, 2, 3..."""
        if numbered.number != self.have.get(numbered.origin, 0) + 1:
            raise Violation("a journal has no gap", f"{numbered} after {self.have}")

    def what_is_final_or_outdone_never_starts(self, entry: Started) -> None:
        """The fence: as far as this disk knows, the task is open and no such attempt exists."""
        part = self.facts.part(entry.task)
        if entry.node in self._history.ghosts and entry.handed:
            return  # it runs already
        if entry.node not in (self.node.id, *self._history.ghosts):
            raise Violation("only a node itself starts there", f"{entry}", entry.task)
        final = part.final or part.base.final
        if final:
            raise Violation("what is final never starts", f"{part.id} is {final}", part.id)
        if entry.attempt <= part.attempt:
            raise Violation(
                "a run that was outdone never starts",
                f"{part.id} attempt {entry.attempt}, and {part.attempt} is known",
                part.id,
            )

    def a_task_is_tried_as_often_as_it_says(self, entry: Finished) -> None:
        """Where nobody else ran it meanwhile, a task is retried just as often as it says."""
        part = self.facts.part(entry.task)
        run = part.runs.get((entry.attempt, entry.node))
        if run is None and entry.node in self._history.ghosts:
            return  # word of its start is kept back until all that came with it can be written
        if run is None or entry.node not in (self.node.id, *self._history.ghosts):
            raise Violation("only what started here ends here", f"{entry}", part.id)
        history = self._history
        if run.end or history.disagreed or history.is_twin(entry.task):
            return
        # Wherever they were.
        failures = history.failures(entry.task, (entry.attempt, entry.node))
        cancelled = bool(part.final or part.base.final)
        wanted = entry.outcome.succeeded or failures >= part.base.spec.retries
        if entry.final and not wanted and not cancelled and not _killed(entry.outcome):
            raise Violation(
                "a task is tried as often as it says",
                f"{part.id} gave up after attempt {entry.attempt}, {failures} failures before",
                part.id,
            )
        if not entry.final and wanted and entry.outcome.reason != STOPPED_AS:
            raise Violation(
                "retries are bounded", f"{part.id} attempt {entry.attempt} is not final", part.id
            )

    def only_what_cannot_be_accounted_for_is_lost(self, entry: Lost) -> None:
        """While the runner lives on, it knows what became of all that it started."""
        if entry.node != self.node.id:
            return  # whether the writer may say so of another is for `History`
        key = (entry.task, entry.attempt)
        run = self.facts.part(entry.task).runs.get((entry.attempt, entry.node))
        ended = run is not None and run.end
        lives = self._ran.get(key) == self._runner_life and self.node.runner is not None
        # What a node ends because it stops is told once it has ended.
        stopped = entry.suspicion == STOPPED_WITH_NODE and key not in self._running
        if not ended and lives and not stopped and self.node.id not in self._history.left:
            raise Violation(
                "only what can't be accounted for is lost",
                f"{key} is recorded as lost ({entry.suspicion}), and the runner that ran it lives",
                entry.task,
            )

    def a_loss_is_held_as_the_task_says(self, entry: Lost) -> None:
        """`on_loss: hold`, or one loss too many, and it waits for a person."""
        part = self.facts.part(entry.task)
        run = part.runs.get((entry.attempt, entry.node))
        if run is None or run.end or not entry.begun:
            return
        losses = sum(r.end == "lost" for r in part.runs.values()) + 1
        if losses >= LOSSES_MAX or self._history.is_twin(entry.task):
            return
        must = part.base.spec.on_loss == "hold"
        # Who said so may have known of losses that are not here, or that ended after all.
        may = must or self._history.losses(entry.task) + 1 >= LOSSES_MAX
        if (entry.hold and not may) or (must and not entry.hold):
            raise Violation("a loss is held as the task says", f"{part.id} {entry}", part.id)

    def final_stays_final(self, task: str) -> None:
        """Nothing that ended lives again, and an outcome gives way only to a higher one."""
        facts = self.facts.tasks[task]
        for part in facts.parts.values():
            state, rank = part.result
            before = self._ranks.get(part.id)
            if before is not None and not _may_follow(before, (state, rank)):
                raise Violation(
                    "final never changes", f"{part.id} was {before}, is {(state, rank)}", part.id
                )
            if state:
                if before is not None and before != (state, rank):
                    self.an_outcome_changes_only_for_a_reason(part, before)
                self._ranks[part.id] = (state, rank)

    def an_outcome_changes_only_for_a_reason(self, part: Part, before: object) -> None:
        """A split, a twin, or a cancel that came at the same time."""
        history = self._history
        if part.cancelled or history.disagreed or history.is_twin(part.id):
            return
        raise Violation(
            "an outcome changes only after a split",
            f"{part.id} was {before}, is {part.result}",
            part.id,
        )

    def the_tables_are_the_join(self, task: str) -> None:
        """The state on disk is what the entries say."""
        journal = self.node.actors["journal"]
        assert isinstance(journal, JournalHost)
        row = journal.journal.connection.execute(
            "SELECT state FROM tasks WHERE id = ?", (task,)
        ).fetchone()
        if self.node.id in self._history.forgotten.by.get(task, ()):
            if row is not None:
                raise Violation("nothing that was forgotten lives again", task, task)
            return
        if row is None:
            raise Violation("nothing is lost", f"{task} is not in the tables", task)
        expected = STATE_CODES.get(self.facts.tasks[task].final, 0)
        if row[0] != expected:
            raise Violation(
                "tables are the join of the entries",
                f"{task} is {row[0]}, not {expected} on {self._name}",
                task,
            )

    # ---- at processes ----

    def started_is_on_disk_before_the_process_exists(self, run: Run) -> None:
        """And what runs is what was submitted."""
        part = self.facts.part(run.task)
        if (run.attempt, self.node.id) not in part.runs:
            raise Violation(
                "Started is on disk before the process exists", f"{run.key} runs", run.task
            )
        if run.command not in {bash_text(s.spec) for s in part.base.submits.values()}:
            raise Violation("what was never submitted never runs", run.command, run.task)

    def an_attempt_runs_once(self, run: Run) -> None:
        """No attempt number has two processes on one node, ever."""
        if run.key in self._ran:
            raise Violation("an attempt runs once", f"{run.key} runs again", run.task)

    def a_task_runs_once_at_a_time(self, run: Run) -> None:
        """An attempt starts only when the one before it is gone, or was given up by others."""
        for task, attempt in self._running:
            if task != run.task:
                continue
            known = self.facts.part(task).runs[attempt, self.node.id]
            explained = known.end or self._history.is_twin(task)
            if not explained and self.node.id not in self._history.suspected:
                raise Violation(
                    "a task runs once at a time", f"attempt {attempt} still runs", run.task
                )

    def nothing_is_over_committed(self, run: Run) -> None:
        """What really runs fits into the node; who wants it alone has it alone."""
        specs = [self.facts.part(one.task).base.spec for one in self._running.values()]
        capacity = self.capacity
        resources = dict(capacity.resources)
        names = {name for spec in specs for name in spec.resources}
        over = [
            name
            for name in sorted(names)
            if sum(spec.resources.get(name, 0) for spec in specs) > resources.get(name, 0)
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


def _killed(outcome: Outcome) -> bool:
    """Whether it was ended by the node: superseded, or cancelled."""
    return bool(outcome.reason)


def _may_follow(before: object, after: tuple[str, object]) -> bool:
    """Whether an outcome may give way: to itself, to a cancel, to a higher rank."""
    assert isinstance(before, tuple)
    if after == before or after[0] == "cancelled":
        return True
    if not after[0] or before[0] == "cancelled":
        return False
    assert isinstance(before[1], tuple)
    assert isinstance(after[1], tuple)
    return bool(after[1] > before[1])
