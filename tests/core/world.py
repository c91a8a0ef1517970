"""A node's machines in a world of one thread, virtual time and a database in memory.

Queue, scheduler and executor are the real ones; what they say to each other is delivered in the
order it was said. The node is alone: the world itself is its membership and its replication.
Entries go through the real journal code and are read back as text before anybody hears of them;
what the executor and its runner say to each other goes through the wire's codec.
Nothing happens by itself: a story submits, ends attempts, moves the clock, and looks at `told()`,
which names everything the runner was sent since it was last asked.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import deque
from typing import Any

from leoronic.core import executor, queue, scheduler
from leoronic.core.blob import FileRef
from leoronic.core.effects import (
    Asked,
    CancelTimer,
    Effect,
    Fail,
    Fired,
    Log,
    Machine,
    Reply,
    Send,
    SetTimer,
)
from leoronic.core.entries import Numbered, decode, encode
from leoronic.core.executor import ExecutorMachine
from leoronic.core.executor_messages import LoadOpen, Open, RunnerDown
from leoronic.core.file_messages import (
    BlobsFound,
    FilesPlaced,
    FindBlobs,
    KeepOutputs,
    OutputsKept,
    PlaceFiles,
)
from leoronic.core.gates import search
from leoronic.core.outcome import Outcome
from leoronic.core.peer import CheckFiles, FilesPresent
from leoronic.core.queue import QueueMachine
from leoronic.core.queue_messages import (
    Accepted,
    Append,
    Appended,
    AppendFailed,
    ChangedTasks,
    ChangeTasks,
    CommandsMatched,
    Committed,
    Describe,
    FetchSpecs,
    LiveTask,
    Loaded,
    LoadLive,
    Lookup,
    MatchCommands,
    SpecsFetched,
    SubmitSpecs,
)
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.resources import Capacity
from leoronic.core.run import (
    AttemptKey,
    Exited,
    ExitedMany,
    Forget,
    FromRunner,
    Inventory,
    Kill,
    Run,
    Runs,
    Spawned,
    StartNow,
    ToRunner,
)
from leoronic.core.scheduler import SchedulerMachine
from leoronic.core.spec import After, TaskSpec
from leoronic.core.view import About, AskView, Member, Standing, View
from leoronic.errors import DiskFull, LeoronicError
from leoronic.journal.database import create
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads
from leoronic.wire.codec import Codec

NODE = "node000001"
GIB = 1 << 30
STEPS_MAX = 200_000

_to_runner: Codec[ToRunner] = Codec(ToRunner)
_from_runner: Codec[FromRunner] = Codec(FromRunner)


class World:
    """See the module. `now` is in seconds since the epoch."""

    def __init__(
        self,
        cpus: float = 2.0,
        *,
        memory: int = GIB,
        storage: int = GIB,
        resources: dict[str, float] | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.now = 1_000_000.0
        self.capacity = Capacity(
            int(cpus * 1000), memory, storage, tuple(sorted((resources or {}).items()))
        )
        self.files: set[str] = set()
        self.outputs: dict[str, tuple[FileRef, ...]] = {}  # task -> what it leaves
        # Blobs that no node has; None: the file store says nothing.
        self.lost: frozenset[str] | None = frozenset()
        self.disk_is_full = False
        self.refused_senders: set[str] = set()  # for whom the disk is full
        self.runner_obeys = True  # ends what it is told to kill
        self.logs: list[Log] = []
        self.to_control: list[object] = []
        self.matches_asked: list[str] = []
        self.commits = 0
        self.handled = 0
        self.copies: list[str] = []  # who holds what is submitted, this node apart
        self._standing = Capacity(0, 0, 0)  # until the executor tells
        self._fixed_tags = tags
        connection = sqlite3.connect(":memory:", isolation_level=None)
        create(connection, NODE)
        self.journal = Journal(connection, NODE)
        self.reads = Reads(connection)
        self._requests = itertools.count(1)
        self._answers: dict[object, object] = {}
        self._told: list[str] = []
        self.runner_life = 1
        self.runner: dict[AttemptKey, Run] = {}  # what it holds and has not ended
        self.ended: dict[AttemptKey, Exited] = {}  # ... and nobody made durable yet
        self.start_core()

    # ---- lives ----

    def start_core(self) -> None:
        """A new life of all that decides; the journal and the runner live on."""
        self.now += 0.001
        self.machines: dict[str, Machine] = {}
        self._timers: dict[tuple[str, str], float] = {}
        self._mail: deque[tuple[str, object]] = deque()
        self._answers.clear()
        self.start_queue()
        self.machines["scheduler"] = SchedulerMachine(NODE, int(self.now * 1_000_000))
        self.machines["runner"] = ExecutorMachine(NODE, "one", self.capacity, self._fixed_tags)
        self._mail.append(("scheduler", scheduler.Start()))
        self._mail.append(("runner", executor.Start()))
        self.run_until_idle()
        self.attach_runner()

    def start_queue(self) -> None:
        """A new life of the queue alone."""
        self.machines["queue"] = QueueMachine()
        self._mail.append(("queue", queue.Start()))

    @property
    def queue(self) -> QueueMachine:
        machine = self.machines["queue"]
        assert isinstance(machine, QueueMachine)
        return machine

    def restart_scheduler(self) -> None:
        """It forgets everything; the executor starts after it, so it offers itself again."""
        self.machines["scheduler"] = SchedulerMachine(NODE, int(self.now * 1_000_000))
        self._mail.append(("scheduler", scheduler.Start()))
        self.restart_executor()

    def restart_executor(self) -> None:
        self.machines["runner"] = ExecutorMachine(NODE, "one", self.capacity, self._fixed_tags)
        self._mail.append(("runner", executor.Start()))
        self.run_until_idle()
        self.attach_runner()

    def detach_runner(self) -> None:
        """The connection to the runner process breaks."""
        self.tell("runner", RunnerDown())

    def attach_runner(self) -> None:
        """It is there (again), and the executor hears what the runner holds."""
        running = [Spawned(*key, 0, 0.0) for key in self.runner]
        life = f"life {self.runner_life}"
        self.from_runner(Inventory(running, list(self.ended.values()), life))

    def kill_runner(self) -> None:
        """The runner process dies with all that ran."""
        self.detach_runner()
        self.runner.clear()
        self.ended.clear()
        self.runner_life += 1
        self.attach_runner()

    # ---- doors ----

    def ask(self, to: str, message: object) -> Any:
        """A call, answered by the time nothing more happens. Raises what it is refused with."""
        request = self.ask_later(to, message)
        self.run_until_idle()
        return self.answer(request)

    def ask_later(self, to: str, message: object) -> object:
        """Put a call into the mail; see `answer`."""
        request = next(self._requests)
        self._mail.append((to, Asked(request, message)))
        return request

    def is_answered(self, request: object) -> bool:
        return request in self._answers

    def answer(self, request: object) -> Any:
        assert request in self._answers, "nobody answered"
        found = self._answers.pop(request)
        if isinstance(found, LeoronicError):
            raise found
        return found

    def submit(self, *what: str | TaskSpec, **fields: Any) -> list[str]:
        """Submit commands or specs in one request; the ids."""
        specs = [TaskSpec(one, **fields) if isinstance(one, str) else one for one in what]
        accepted: Accepted = self.ask("queue", SubmitSpecs(specs))
        return accepted.ids

    def add(self, task: str, *, after: tuple[str, ...] = (), **fields: Any) -> None:
        """Submit one task whose id is `task`; its command is `do TASK` unless given."""
        fields.setdefault("command", f"do {task}")
        dependencies = tuple(After(*other.partition(" ")[::2]) for other in after)
        dependencies = tuple(a if a.when else After(a.id) for a in dependencies)
        self.submit(TaskSpec(id=task, after=dependencies, **fields))

    def change(self, what: str, *tasks: str) -> list[str]:
        """Cancel, hold or release; those that were changed."""
        changed: ChangedTasks = self.ask("queue", ChangeTasks(what, list(tasks)))
        return changed.changed

    def tell(self, to: str, message: object) -> None:
        """Cast, and let happen what follows."""
        self._mail.append((to, message))
        self.run_until_idle()

    # ---- the runner ----

    def told(self) -> list[str]:
        """What the runner was told since this was last asked, in words."""
        told, self._told = self._told, []
        return told

    def from_runner(self, message: FromRunner) -> None:
        self.tell("runner", _from_runner.decode(_from_runner.encode(message)))

    def running(self) -> list[str]:
        """Tasks whose process exists now, in the order they came."""
        return [task for (task, _), run in self.runner.items() if run.behind not in self.runner]

    def finish(
        self, task: str, exit_code: int = 0, *, took_s: float = 1.0, reason: str = ""
    ) -> None:
        """The running attempt of `task` ends."""
        key = next(key for key in self.runner if key[0] == task)
        self.end(key, Outcome(self.now - took_s, self.now, exit_code=exit_code, reason=reason))

    def end(self, key: AttemptKey, outcome: Outcome) -> None:
        assert self.runner[key].behind not in self.runner, f"{key} has not started"
        self.ended[key] = exited = Exited(*key, outcome)
        del self.runner[key]
        self.from_runner(ExitedMany([exited]))

    def drain(self, exit_code: int = 0) -> list[str]:
        """End whatever runs until nothing does; the order in which things ran."""
        order: list[str] = []
        while running := self.running():
            order.append(running[0])
            self.finish(running[0], exit_code)
        return order

    def _run(self, message: ToRunner) -> None:
        message = _to_runner.decode(_to_runner.encode(message))
        match message:
            case Runs(runs):
                for run in runs:
                    self._told.append(f"run {run.task} {run.attempt}")
                    if run.key not in self.ended:
                        self.runner.setdefault(run.key, run)
            case Kill(task, attempt, reason):
                self._told.append(f"kill {task} {attempt} {reason}")
                key = (task, attempt)
                if self.runner_obeys and key in self.runner:
                    outcome = Outcome(self.now, self.now, signal=15, reason=reason)
                    self.ended[key] = exited = Exited(task, attempt, outcome)
                    del self.runner[key]
                    self._mail.append(("runner", exited))
            case Forget(attempts):
                for task, attempt in attempts:
                    self._told.append(f"forget {task} {attempt}")
                    self.ended.pop((task, attempt), None)
            case StartNow(task, attempt):
                self._told.append(f"start now {task} {attempt}")
                run = self.runner[task, attempt]
                self.runner[task, attempt] = Run(run.task, run.attempt, run.command)
            case _:
                raise AssertionError(f"unexpected {message!r}")

    # ---- time ----

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; timers fire when they are due."""
        end = self.now + seconds
        while self._timers:
            (to, name), at = min(self._timers.items(), key=lambda item: item[1])
            if at > end:
                break
            del self._timers[to, name]
            self.now = max(self.now, at)
            self.tell(to, Fired(name))
        self.now = end

    def timers(self, of: str = "") -> dict[str, float]:
        """Seconds until each timer fires (of that actor), as `actor:name`."""
        return {
            f"{to}:{name}": at - self.now
            for (to, name), at in self._timers.items()
            if of in ("", to)
        }

    def run_until_idle(self) -> None:
        """Deliver until nothing is under way."""
        steps = 0
        while self._mail:
            steps += 1
            assert steps < STEPS_MAX, f"it never ends: {list(self._mail)[:5]}"
            self.step()

    def step(self) -> None:
        """Deliver one message."""
        to, message = self._mail.popleft()
        if to == "journal":
            self._journal(message)
        elif to == "runner_host":
            self._run(message)  # type: ignore[arg-type]
        elif to == "control":
            self.to_control.append(message)
        elif to == "membership":
            self._membership(message)
        elif to == "replication":
            assert isinstance(message, AwaitCopies)
            self._mail.append(("queue", Copied(message.token, self.copies)))
        elif to == "file_store":
            self._store(message)
        elif isinstance(message, CheckFiles):
            present = frozenset(self.files.intersection(message.paths))
            self._mail.append(("scheduler", FilesPresent(NODE, present)))
        else:
            self.handled += 1
            for effect in self.machines[to].handle(message, self.now):
                self._perform(to, effect)

    def _store(self, message: object) -> None:
        """A file store that has all files, and finds the outputs that the story says."""
        match message:
            case PlaceFiles(key):
                self._mail.append(("runner", FilesPlaced(key)))
            case FindBlobs(token, digests):
                lost = None if self.lost is None else self.lost.intersection(digests)
                if lost is not None:
                    self._mail.append(("queue", BlobsFound(token, lost)))
            case KeepOutputs(key):
                self._mail.append(("runner", OutputsKept(key, self.outputs.get(key[0], ()))))

    def _perform(self, who: str, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._mail.append((to, message))
            case Reply(request, result):
                assert request not in self._answers, "answered twice"
                self._answers[request] = result
            case Fail(request, error):
                assert request not in self._answers, "answered twice"
                self._answers[request] = error
            case SetTimer(name, at):
                self._timers[who, name] = at
            case CancelTimer(name):
                self._timers.pop((who, name), None)
            case Log():
                self.logs.append(effect)

    # ---- who is there ----

    def _membership(self, message: object) -> None:
        match message:
            case AskView(sender):
                self._mail.append((sender, self._view()))
            case Standing(capacity):
                self._standing = capacity
                for machine in self.machines:
                    self._mail.append((machine, self._view()))
            case _:
                raise AssertionError(f"unexpected {message!r}")

    def _view(self) -> View:
        about = About("one", "1", 1, capacity=self._standing)
        return View(NODE, {NODE: Member(NODE, about, "up", ready=True)})

    # ---- the journal ----

    def _journal(self, message: object) -> None:
        match message:
            case Append():
                self._append(message)
            case LoadLive(sender, life):
                for loaded in load_live(self.journal, self.reads, life):
                    self._mail.append((sender, loaded))
            case LoadOpen(sender, life):
                number = self.journal.number
                answer = Open(self.reads.open_attempts(NODE), self.reads.tags(NODE), life, number)
                self._mail.append((sender, answer))
            case Lookup(sender, token, refs, keys):
                self._mail.append((sender, self.reads.look_up(token, refs, keys)))
            case FetchSpecs(sender, tasks):
                self._mail.append((sender, SpecsFetched(self.reads.specs(tasks))))
            case MatchCommands(sender, regex):
                self.matches_asked.append(regex)
                rows = self.reads.commands(0, STEPS_MAX)
                ids = [task for _, task, spec in rows if search(regex, spec)]
                self._mail.append((sender, CommandsMatched(regex, ids)))
            case _:
                raise AssertionError(f"unexpected {message!r}")

    def _append(self, append: Append) -> None:
        if self.disk_is_full or append.sender in self.refused_senders:
            error = DiskFull("the disk is full")
            self._mail.append((append.sender, AppendFailed(append.token, error)))
            return
        written = self.journal.write(append.entries)
        self.journal.commit()
        self.commits += 1
        read_back = [Numbered(n.origin, n.number, decode(encode(n.entry))) for n in written.entries]
        self._mail.append(
            ("queue", Committed(read_back, written.orders, written.flips, self.journal.vector()))
        )
        specs = {}
        if append.want_specs:
            specs = self.reads.specs([entry.task for entry in append.entries])  # type: ignore[union-attr]
        refused = written.refused | written.unknown
        number = self.journal.number
        self._mail.append((append.sender, Appended(append.token, refused, specs, number)))

    # ---- looking ----

    def live(self, task: str) -> LiveTask:
        """A live task as the queue describes it."""
        found: dict[str, LiveTask] = self.ask("queue", Describe([task]))
        return found[task]

    def state(self, task: str) -> str:
        """As users see it: the queue's word on what lives, else the journal's."""
        found: dict[str, LiveTask] = self.ask("queue", Describe([task]))
        if task in found:
            return found[task].state
        row = self.reads.task(task)
        if row is not None:
            assert row.state is not None, f"{task} lives on disk, and the queue does not know it"
            return row.state
        final = [a.final_state for a in self.reads.attempts(task) if a.final_state]
        assert len(final) == 1, f"{task} has the outcomes {final}"
        return final[0]

    def states(self, *tasks: str) -> list[str]:
        return [self.state(task) for task in tasks]


def load_live(journal: Journal, reads: Reads, life: int = 0) -> list[Loaded]:
    """As the journal actor answers `LoadLive`: task by task, then the end."""
    ended = reads.ended()
    last = Loaded([], True, journal.node, journal.number, ended, life, journal.vector())
    return [*(Loaded([task], life=life) for task in reads.live()), last]
