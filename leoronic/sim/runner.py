"""The runner process, simulated: the real bookkeeping machine over processes that do not exist."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from leoronic.core import attempt_events as core
from leoronic.core.attempts import Attempts
from leoronic.core.run import (
    AttemptKey,
    Exited,
    ExitedMany,
    FromRunner,
    Run,
    Spawned,
    TakeInventory,
    ToRunner,
)
from leoronic.sim.clock import Clock, Handle, MachineClock
from leoronic.sim.plan import Plan, parse_plan

LINGER_S = 5.0
GRACE_S = 5.0


class Watcher(Protocol):
    """Who is told of processes that come and go."""

    def process_starts(self, run: Run) -> None:
        """A process for this attempt exists from now on."""

    def process_ends(self, key: AttemptKey) -> None:
        """Nothing of this attempt runs any more."""


class _Process:
    def __init__(self, run: Run, plan: Plan) -> None:
        self.key = run.key
        self.run = run
        self.plan = plan
        self.alive = True
        self.told = False  # the machine knows that the shell exists
        self.output_open = True
        self.stragglers = 0
        self.watched = False
        self.end: Handle | None = None
        self.timers: dict[str, Handle] = {}


class RunnerHost:
    """One life of the runner process. `emit` sends to the executor, if it is connected."""

    def __init__(
        self,
        clock: Clock,
        time: MachineClock,
        chance: Random,
        emit: Callable[[FromRunner], None],
        watcher: Watcher,
        tell: Callable[[str, object], None],
    ) -> None:
        self.machine = Attempts(
            linger_s=LINGER_S, grace_s=GRACE_S, runner=f"{chance.getrandbits(48):012x}"
        )
        self.doubles = False  # fault: outcomes are told twice
        self._clock = clock
        self._time = time
        self._chance = chance
        self._emit = emit
        self._watcher = watcher
        self._tell = tell
        self._alive = True
        self._processes: dict[AttemptKey, _Process] = {}
        self._events: deque[core.Event] = deque()
        self._working = False
        self._exits: list[Exited] = []

    def receive(self, message: ToRunner) -> None:
        """One message from the core."""
        self._tell("runner_host", message)
        if isinstance(message, TakeInventory):
            self._emit(self.machine.inventory())
        else:
            self._feed(message)  # type: ignore[arg-type]

    def kill(self) -> None:
        """SIGKILL: it and all of its tasks are gone."""
        self._alive = False
        for key in list(self._processes):
            self._watcher.process_ends(key)
        self._processes.clear()

    def _later(self, delay_s: float, action: Callable[[], None]) -> Handle:
        return self._clock.timer(delay_s, lambda: action() if self._alive else None)

    def _feed(self, event: core.Event) -> None:
        self._events.append(event)
        if self._working:
            return
        self._working = True
        while self._events:
            for effect in self.machine.handle(self._events.popleft(), self._clock.now):
                self._perform(effect)
        self._working = False

    def _perform(self, effect: core.Effect) -> None:
        match effect:
            case core.Spawn(run):
                self._spawn(run)
            case core.Emit(Spawned() as spawned):
                self._later(self._chance.random(), lambda: self._emit(spawned))
            case core.Emit(Exited() as exited):
                self._exit(exited)
            case core.Signal(key, name):
                self._signal(self._processes[key], name)
            case core.SetTimer(key, timer, at):
                self._set_timer(self._processes[key], timer, at)
            case core.CancelTimers(key):
                for handle in self._processes[key].timers.values():
                    handle.cancel()
            case core.WatchTree(key):
                self._watch_tree(self._processes[key])
            case core.CloseOutput(key):
                self._processes[key].output_open = False
            case core.Store(key):
                self._store(self._processes[key])
            case core.Discard():
                pass

    # ---- processes ----

    def _spawn(self, run: Run) -> None:
        plan = parse_plan(run.command)
        if "unstartable" in plan.flags:
            self._feed(core.StartFailed(run.key, "no shell", self._time.wall()))
            return
        process = self._processes[run.key] = _Process(run, plan)
        self._watcher.process_starts(run)
        if self._chance.random() < 0.5:
            self._shell_starts(process)  # a fresh shell: known at once
        else:
            self._later(self._chance.random() * 0.01, lambda: self._shell_starts(process))

    def _shell_starts(self, process: _Process) -> None:
        process.told = True
        self._feed(core.ShellStarted(process.key, 4242, self._time.wall()))
        if "forever" not in process.plan.flags:
            code = process.plan.exit_code(process.run)
            process.end = self._later(
                process.plan.work_s, lambda: self._shell_exits(process, code, None)
            )

    def _shell_exits(self, process: _Process, code: int | None, signal: int | None) -> None:
        if not process.alive:
            return
        process.alive = False
        if process.end is not None:
            process.end.cancel()
        messy = "messy" in process.plan.flags
        process.output_open = messy and self._chance.random() < 0.7
        process.stragglers = self._chance.randint(0, 2) if messy else 0
        self._feed(
            core.ShellExited(
                process.key,
                self._time.wall(),
                code,
                signal,
                output_closed=not process.output_open,
                tree_empty=not process.stragglers,
            )
        )
        if process.output_open and self._chance.random() < 0.5:
            self._later(self._chance.random() * 2 * LINGER_S, lambda: self._close_output(process))

    def _close_output(self, process: _Process) -> None:
        if process.output_open and process.key in self._processes:
            process.output_open = False
            self._feed(core.OutputClosed(process.key))

    def _signal(self, process: _Process, name: str) -> None:
        if name == "TERM" and "stubborn" in process.plan.flags:
            return
        delay_s = self._chance.random() * 0.1
        if process.alive:
            number = 9 if name == "KILL" else 15
            self._later(delay_s, lambda: self._shell_exits(process, None, number))
        elif process.stragglers:
            self._later(delay_s, lambda: self._tree_ends(process))

    def _tree_ends(self, process: _Process) -> None:
        if process.stragglers and process.key in self._processes:
            process.stragglers = 0
            if process.watched:
                self._feed(core.TreeEmpty(process.key))

    def _watch_tree(self, process: _Process) -> None:
        process.watched = True
        self._feed(core.TreeCounted(process.key, process.stragglers))

    def _store(self, process: _Process) -> None:
        """Its output is on its way to the disk; nothing of it runs any more."""
        process.output_open = False
        del self._processes[process.key]
        self._watcher.process_ends(process.key)
        self._later(self._chance.random() * 0.01, lambda: self._feed(core.Stored(process.key)))

    def _set_timer(self, process: _Process, timer: core.TimerKind, at: float) -> None:
        if timer in process.timers:
            process.timers[timer].cancel()
        fired = core.Fired(process.key, timer)
        delay_s = max(0.0, at - self._clock.now)
        process.timers[timer] = self._later(delay_s, lambda: self._feed(fired))

    # ---- telling ----

    def _exit(self, exited: Exited) -> None:
        if not self._exits:
            self._later(0.0, self._flush)
        self._exits.append(exited)

    def _flush(self) -> None:
        exits, self._exits = self._exits, []
        self._emit(ExitedMany(exits))
        if self.doubles:
            self._later(self._chance.random() * 5, lambda: self._emit(exits[0]))
