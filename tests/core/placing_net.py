"""Schedulers and executors of several nodes on a network that keeps order; the rest is played.

Of the queue, the journal and the runner there is as little as the stories need: a node owns the
tasks that are submitted to it; `Started` is on disk at once, and known to the owner `lag_s` later
if that is another node; a run ends when the story says so.
"""

from __future__ import annotations

import itertools
from collections import deque

from msgspec.structs import replace

from leoronic.core import executor, scheduler
from leoronic.core.effects import CancelTimer, Effect, Fired, Send, SetTimer
from leoronic.core.entries import Finished, Started
from leoronic.core.executor import ExecutorMachine
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.outcome import Outcome
from leoronic.core.peer import CheckFiles, FilesPresent, PeerMessage, decode, encode
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AskBegun,
    Begun,
    Declined,
    Item,
    Offered,
    SchedulerStarted,
)
from leoronic.core.records import ClassTable, TaskClass
from leoronic.core.resources import Capacity
from leoronic.core.run import AttemptKey, Exited, ExitedMany, Inventory, Runs
from leoronic.core.scheduler import SchedulerMachine
from leoronic.core.spec import TaskSpec
from leoronic.core.view import AskView
from tests.core.views import make_view

STEPS_MAX = 200_000
WINDOW = 128


class Node:
    """One node's two machines, and what is played of the rest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.machines: dict[str, SchedulerMachine | ExecutorMachine] = {}
        self.classes = ClassTable()
        self.files: frozenset[str] = frozenset()
        self.waiting: dict[str, tuple[TaskClass, Item]] = {}  # not offered yet
        self.offered: dict[str, tuple[TaskClass, Item]] = {}
        self.running: dict[AttemptKey, float] = {}  # since when
        self.behind: dict[AttemptKey, AttemptKey] = {}


class Net:
    """See the module. Nodes have ids a, b, c...; `cpus` each."""

    def __init__(self, *cpus: float, lag_s: float = 0.0) -> None:
        self.now = 1000.0
        self.lag_s = lag_s
        self.nodes = {name: Node(name) for name, _ in zip("abcdef", cpus, strict=False)}
        self.capacity = {
            name: Capacity(int(count * 1000), 1 << 30, 1 << 30)
            for name, count in zip(self.nodes, cpus, strict=True)
        }
        self.starts: list[tuple[str, AttemptKey]] = []
        self.messages = 0
        self.cut: set[frozenset[str]] = set()
        self._mail: deque[tuple[str, str, object]] = deque()
        self._timers: dict[tuple[str, str, str], float] = {}
        self._late: dict[str, Started] = {}
        self._numbers = itertools.count(1)
        for name in self.nodes:
            self.start_executor(name)
            self.start_scheduler(name)
        self.run()

    # ---- lives ----

    def start_scheduler(self, name: str) -> None:
        """A new one, that knows nothing."""
        self._forget_timers(name, "scheduler")
        self.nodes[name].machines["scheduler"] = SchedulerMachine(name, int(self.now * 1_000_000))
        self._mail.append((name, "scheduler", scheduler.Start()))
        self._mail.append((name, "scheduler", make_view(name, *self.nodes)))

    def start_executor(self, name: str) -> None:
        """The first."""
        self.nodes[name].machines["runner"] = ExecutorMachine(name, name, self.capacity[name])
        self._mail.append((name, "runner", executor.Start()))

    def _forget_timers(self, name: str, machine: str) -> None:
        self._timers = {key: at for key, at in self._timers.items() if key[:2] != (name, machine)}

    # ---- what people and tasks do ----

    def submit(self, owner: str, *tasks: str, **fields: object) -> None:
        """Tasks of one class, owned by `owner`."""
        node = self.nodes[owner]
        task_class = node.classes.intern(TaskSpec("x", **fields), owner)  # type: ignore[arg-type]
        for task in tasks:
            node.waiting[task] = (task_class, Item(task, 1, 0, next(self._numbers)))
        self._refill(node)

    def finish(self, name: str, task: str, took_s: float = 1.0) -> None:
        """A running task ends."""
        node = self.nodes[name]
        key = next(key for key in node.running if key[0] == task)
        assert node.behind.get(key) not in node.running, "it has not started"
        del node.running[key]
        for other in [other for other, first in node.behind.items() if first == key]:
            node.running[other] = self.now
        outcome = Outcome(self.now - took_s, self.now, exit_code=0)
        self._mail.append((name, "runner", ExitedMany([Exited(*key, outcome)])))

    def running(self, name: str) -> list[str]:
        """What runs on a node: those in lanes behind others not among them."""
        node = self.nodes[name]
        return [key[0] for key in node.running if node.behind.get(key) not in node.running]

    def run(self, seconds: float = 0.0) -> None:
        """Let happen what happens, and then let time pass."""
        end = self.now + seconds
        steps = itertools.count()
        while True:
            while self._mail:
                assert next(steps) < STEPS_MAX, f"it never ends: {list(self._mail)[:5]}"
                self._step()
            due = min(self._timers.items(), key=lambda entry: entry[1], default=None)
            if due is None or due[1] > end:
                break
            (name, machine, timer), at = due
            del self._timers[name, machine, timer]
            self.now = max(self.now, at)
            late = self._late.pop(timer, None)
            self._mail.append((name, machine, late or Fired(timer)))
        self.now = end

    # ---- inside ----

    def _refill(self, node: Node) -> None:
        by_class: dict[int, tuple[TaskClass, list[Item]]] = {}
        for task in list(node.waiting)[: max(0, WINDOW - len(node.offered))]:
            task_class, item = node.offered[task] = node.waiting.pop(task)
            by_class.setdefault(task_class.number, (task_class, []))[1].append(item)
        for task_class, items in by_class.values():
            self._mail.append((node.name, "scheduler", Offered(task_class, items)))

    def _step(self) -> None:
        name, to, message = self._mail.popleft()
        node = self.nodes[name]
        match to:
            case "queue":
                self._queue(node, message)
            case "journal" if isinstance(message, LoadOpen):
                self._mail.append((name, "runner", Open([], [], message.life)))
                self._mail.append((name, "runner", Inventory([], [], "life")))
            case "journal":
                assert isinstance(message, Append)
                self._append(name, message)
            case "runner_host" if isinstance(message, Runs):
                for run in message.runs:
                    node.running[run.key] = self.now
                    if run.behind is not None:
                        node.behind[run.key] = run.behind
            case "runner" if isinstance(message, CheckFiles):
                present = FilesPresent(name, node.files.intersection(message.paths))
                asker = message.node
                self._send(name, "scheduler" if asker == name else f"scheduler@{asker}", present)
            case "membership" if message == AskView("scheduler"):
                view = replace(make_view(name, *self.nodes), at=self.now)
                self._mail.append((name, "scheduler", view))
            case "runner" | "scheduler":
                for effect in node.machines[to].handle(message, self.now):
                    self._perform(name, to, effect)

    def _queue(self, node: Node, message: object) -> None:
        match message:
            case SchedulerStarted():
                node.waiting = {**node.offered, **node.waiting}
                node.offered = {}
            case Declined(tasks):
                for task in tasks:
                    if task in node.offered:
                        node.waiting = {task: node.offered.pop(task), **node.waiting}
            case Started(task):
                node.offered.pop(task, None)
            case AskBegun(attempts) if not {task for task, _ in attempts} & node.offered.keys():
                self._mail.append((node.name, "scheduler", Begun(attempts)))
        self._refill(node)

    def _append(self, name: str, message: Append) -> None:
        specs = {}
        for entry in message.entries:
            if isinstance(entry, Started):
                self.starts.append((name, (entry.task, entry.attempt)))
                specs[entry.task] = TaskSpec("x")
                for owner in self.nodes:
                    if owner == name:
                        self._mail.append((owner, "queue", entry))
                    else:
                        late = f"late {next(self._numbers)}"
                        self._late[late] = entry
                        self._timers[owner, "queue", late] = self.now + self.lag_s
            else:
                assert isinstance(entry, Finished), entry
        self._mail.append((name, "runner", Appended(message.token, frozenset(), specs)))

    def _perform(self, name: str, machine: str, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(name, to, message)
            case SetTimer(timer, at):
                self._timers[name, machine, timer] = at
            case CancelTimer(timer):
                self._timers.pop((name, machine, timer), None)
            case _:
                raise AssertionError(f"unexpected {effect!r}")

    def _send(self, name: str, to: str, message: object) -> None:
        actor, _, other = to.partition("@")
        assert other != name, "it speaks to itself as if it were another"
        if not other:
            self._mail.append((name, actor, message))
        elif frozenset({name, other}) not in self.cut:
            assert isinstance(message, PeerMessage)
            assert message.node == name
            self.messages += 1
            self._mail.append((other, actor, decode(*encode(message))))
