"""One simulated node: a core of four actors, a runner process, and all the ways they can end.

The order of starting and stopping is that of `leoronic/node.py`: journal, queue, scheduler, runner
(the executor), runner_host; rest for one.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from leoronic.core import executor, queue, scheduler
from leoronic.core.effects import Asked, Attached, Detached, Effect
from leoronic.core.entries import Numbered
from leoronic.core.executor import ExecutorMachine
from leoronic.core.queue import QueueMachine
from leoronic.core.queue_messages import QueueStarted, Watching
from leoronic.core.resources import Capacity
from leoronic.core.run import AttemptKey, FromRunner, Run, ToRunner
from leoronic.core.scheduler import SchedulerMachine
from leoronic.errors import ActorGone, LeoronicError
from leoronic.sim.clock import Clock
from leoronic.sim.disk import Disk, JournalHost
from leoronic.sim.hosts import ExecutorHost, MachineHost, Mailbox
from leoronic.sim.link import Link
from leoronic.sim.runner import RunnerHost
from leoronic.sim.story import Story

NODE_ID = "n0de000001"
NODE_NAME = "sim"
ACTORS = ("journal", "queue", "scheduler", "runner")

Answer = Callable[[object, LeoronicError | None], None]
"""Told the result of a call, or its error."""


class Observer:
    """What sees everything; the invariants override it."""

    def committed(self, entries: list[Numbered]) -> None:
        """These entries are on disk now."""

    def handled(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message."""

    def process_starts(self, run: Run) -> None:
        """A process for this attempt exists from now on."""

    def process_ends(self, key: AttemptKey) -> None:
        """Nothing of this attempt runs any more."""

    def actor_starts(self, who: str) -> None:
        """A new life of an actor begins."""

    def runner_starts(self) -> None:
        """A new life of the runner process begins."""


class SimNode:
    """See the module. `turn_s` is the most an actor waits for its turn."""

    def __init__(
        self,
        clock: Clock,
        chance: Random,
        story: Story,
        disk: Disk,
        *,
        capacity: Capacity,
        observer: Observer,
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.story = story
        self.disk = disk
        self.turn_s = 0.001
        self.capacity = capacity
        self.files: set[str] = set()
        self.link = Link(clock, chance, 0.002, self._to_runner, self._to_core)
        self.actors: dict[str, Mailbox] = {}
        self.runner: RunnerHost | None = None
        self.up = False
        self.busy = False  # a restart is under way
        self.doubles = False
        self.on_message: Callable[[object], None] | None = None
        self._observer = observer
        self._life = 0
        self._attaching = 0
        self._awake_at = 0.0
        self._requests = 0
        self._calls: dict[int, tuple[str, Answer]] = {}

    # ---- what the hosts need ----

    def send(self, to: str, message: object) -> None:
        """Cast to an actor; lost if it does not run."""
        if to == "runner_host":
            self.link.send(message)  # type: ignore[arg-type]
        elif to == "control":
            if isinstance(message, QueueStarted):
                self.send("queue", Watching(True))
        else:
            actor = self.actors.get(to)
            if actor is not None:
                actor.deliver(message)

    def answer(self, request: object, result: object, error: LeoronicError | None) -> None:
        """A call was answered."""
        assert isinstance(request, int)
        known = self._calls.pop(request, None)
        assert known is not None, f"request {request} was answered twice, or never asked"
        known[1](result, error)

    def call(self, to: str, message: object, answer: Answer) -> None:
        """Ask an actor."""
        self._requests += 1
        if to not in self.actors:
            answer(None, ActorGone(f"{to} is not running"))
            return
        self._calls[self._requests] = (to, answer)
        self.send(to, Asked(self._requests, message))

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when the pause is over."""
        if self.clock.now < self._awake_at:
            self.clock.at(self._awake_at, lambda: self.when_awake(action))
        else:
            action()

    def watch(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message."""
        self._observer.handled(who, message, effects)
        if self.on_message is not None:
            self.on_message(message)

    @property
    def calls(self) -> int:
        """Calls without an answer."""
        return len(self._calls)

    # ---- starting ----

    def start_core(self) -> None:
        """Start the actors one by one, then attach the runner."""
        self.up = self.busy = True
        self._life += 1
        self._start_from("journal")

    def _start_from(self, name: str) -> None:
        life = self._life

        def start(index: int) -> None:
            if life != self._life:
                return
            if index == len(ACTORS):
                self.busy = False
                self._attach_later(0.01)
                return
            self._start_actor(ACTORS[index])
            self.clock.after(self.chance.random() * 0.003 + 0.0001, lambda: start(index + 1))

        start(ACTORS.index(name))

    def _start_actor(self, name: str) -> None:
        self._observer.actor_starts(name)
        match name:
            case "journal":
                self.actors[name] = JournalHost(self, self.disk, self._observer.committed)
            case "queue":
                self._start_machine(MachineHost(self, name, QueueMachine()), queue.Start())
            case "scheduler":
                self._start_machine(MachineHost(self, name, SchedulerMachine()), scheduler.Start())
            case _:
                machine = ExecutorMachine(NODE_ID, NODE_NAME, self.capacity, ("fixed",))
                host = ExecutorHost(self, machine, NODE_ID, self.link.ask, self.files)
                self._start_machine(host, executor.Start())

    def _start_machine(self, host: MachineHost, start: object) -> None:
        self.actors[host.name] = host
        host.take(start)

    def _attach_later(self, at_most_s: float) -> None:
        self._attaching += 1
        number, life = self._attaching, self._life

        def attach() -> None:
            if number == self._attaching and life == self._life and not self.busy:
                self._attach()

        self.clock.after(self.chance.random() * at_most_s, lambda: self.when_awake(attach))

    def _attach(self) -> None:
        if self.link.connected:
            return
        fresh = self.runner is None
        if fresh:
            self._observer.runner_starts()
            self.runner = RunnerHost(
                self.clock, self.chance, self.link.emit, self._observer, self._tell
            )
        assert self.runner is not None
        self.runner.doubles = self.doubles
        self.link.connect()
        self.send("runner", Attached("runner_host", fresh))

    def _tell(self, who: str, what: object) -> None:
        self.story.tell(self.clock.now, who, what)

    def _to_runner(self, message: ToRunner) -> None:
        if self.runner is not None:
            self.runner.receive(message)

    def _to_core(self, message: FromRunner) -> None:
        self.send("runner", message)

    # ---- ending ----

    def kill_core(self) -> None:
        """SIGKILL: all actors, their mailboxes and an uncommitted transaction are gone."""
        if not self.up:
            return
        self.up = self.busy = False
        self._life += 1
        for name in list(self.actors):
            self._end_actor(name, in_order=False)
        self.link.disconnect()
        self._awake_at = 0.0

    def kill_runner(self) -> None:
        """SIGKILL: the runner and all that ran are gone."""
        if self.runner is None:
            return
        self.runner.kill()
        self.runner = None
        if self.link.connected:
            self.link.runner_died()
            self.send("runner", Detached("runner_host"))
            self._attach_later(0.3)

    def cut(self) -> None:
        """Core and runner lose sight of each other, and connect anew."""
        if self.link.connected and not self.busy:
            self.link.disconnect()
            self.send("runner", Detached("runner_host"))
            self._attach_later(0.5)

    def crash_actor(self, name: str) -> None:
        """An actor raises: it and those after it are restarted."""
        if not self.up or self.busy:
            return
        self.busy = True
        life = self._life
        self._end_actor(name, in_order=False)

        def restart() -> None:
            if life != self._life:
                return
            self.link.disconnect()
            later = ACTORS[ACTORS.index(name) + 1 :]
            for other in reversed(later):
                self._end_actor(other, in_order=True)
            self.clock.after(self.chance.random() * 0.002, start)

        def start() -> None:
            if life == self._life:
                self._start_from(name)

        self.clock.after(self.chance.random() * 0.002, lambda: self.when_awake(restart))

    def pause(self, for_s: float) -> None:
        """SIGSTOP: the core makes no progress for a while."""
        self._awake_at = max(self._awake_at, self.clock.now + for_s)

    def _end_actor(self, name: str, *, in_order: bool) -> None:
        actor = self.actors.get(name)
        if actor is None:
            return
        actor.stop(in_order)
        del self.actors[name]
        gone = [number for number, (to, _) in self._calls.items() if to == name]
        for number in gone:
            _, answer = self._calls.pop(number)
            answer(None, ActorGone(f"{name} ended before it answered"))
