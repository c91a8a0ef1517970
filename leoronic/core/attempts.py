"""The bookkeeping of a runner: what becomes of each attempt, step by step.

Rules:
- Pure: an event and the time go in, effects come out. The runner process performs them on real
  processes, the simulator on simulated ones.
- `now` is monotonic seconds and serves timers only; times that people see (`at`) come with the
  events, in seconds since the epoch.
- An attempt moves by `TRANSITIONS` only. What the table does not list is a bug of ours, and raises
  `BookkeepingError` with the attempt's story.

    queued (behind another attempt) --> starting, when that one has exited

    starting --ShellStarted--> running --Kill, limit--> ending
        |                         |                       |
        |                         +-----ShellExited-------+
        |                                   |
        |         draining (late output) -- | -- sweeping (its leftovers are ended)
        |                                   |
        |                                storing (its output is made durable)
        +--StartFailed-----------------> exited (kept until Forget)
        |
        +--StartFailed, passing--> retrying --retry_start--> starting
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from leoronic.core.attempt_events import (
    CancelTimers,
    CloseOutput,
    Discard,
    Effect,
    Emit,
    Event,
    Exceeded,
    Fired,
    OutputClosed,
    SetTimer,
    ShellExited,
    ShellStarted,
    Signal,
    Spawn,
    StartFailed,
    Store,
    Stored,
    TreeCounted,
    TreeEmpty,
    WatchTree,
)
from leoronic.core.outcome import Outcome
from leoronic.core.run import (
    AttemptKey,
    Exited,
    Forget,
    Inventory,
    Kill,
    Run,
    Runs,
    Spawned,
    StartNow,
)

STORY_EVENTS_MAX = 512

# A bash needs some memory of its own before it runs anything: under a smaller limit the kernel
# would kill it while it starts, and a task that asked for "1 KiB" could never run.
MEMORY_LIMIT_MIN = 16 * 1024 * 1024

# How long a tree may take to vanish after KILL. Only a process that waits for a broken disk
# ("uninterruptible") needs longer, and an outcome must not wait for that.
KILL_PATIENCE_S = 3.0

# A start that failed for want of something that may pass is tried again after these. What takes
# longer is the executor's to wait for: it knows of other work.
RETRY_START_S = (0.1, 0.2, 0.3, 0.4)


class Phase(StrEnum):
    """Where an attempt is."""

    QUEUED = "queued"
    STARTING = "starting"
    RETRYING = "retrying"
    RUNNING = "running"
    ENDING = "ending"
    DRAINING = "draining"
    SWEEPING = "sweeping"
    STORING = "storing"
    EXITED = "exited"


class BookkeepingError(AssertionError):
    """An event that the table does not list; the message holds the attempt's story."""


class _Attempt:
    """What is remembered of one attempt. `run` goes once it exited, `exited` comes."""

    __slots__ = (
        "exit",
        "exited",
        "grace_s",
        "has_timers",
        "key",
        "kill_at",
        "kill_sent",
        "lingered",
        "output_closed",
        "phase",
        "pid",
        "reason",
        "retries",
        "run",
        "started_at",
        "stragglers",
        "tree_empty",
    )

    def __init__(self, run: Run) -> None:
        self.key: AttemptKey = run.key
        self.run: Run | None = run
        self.phase = Phase.STARTING
        self.pid = 0
        self.started_at = 0.0
        self.reason = ""
        self.retries = 0
        self.grace_s = 0.0
        self.kill_at = 0.0
        self.kill_sent = False
        self.has_timers = False
        self.output_closed = False
        self.tree_empty = False
        self.lingered = False
        self.stragglers = 0
        self.exit: ShellExited | None = None
        self.exited: Exited | None = None


_Handler = Callable[["Attempts", _Attempt, Any, float], list[Effect]]


class Attempts:
    """Every attempt that a runner holds.

    `attempts_max` bounds how many (running, and ended but not forgotten): a `Run` beyond it ends at
    once as not started. `linger_s` is how long output may stay open after the shell has gone;
    `grace_s` is the time between TERM and KILL where a message does not say; `runner` names this
    life of the runner.
    """

    def __init__(
        self,
        *,
        attempts_max: int = 4096,
        linger_s: float = 5.0,
        grace_s: float = 5.0,
        runner: str = "",
    ) -> None:
        assert attempts_max > 0
        self._attempts: dict[AttemptKey, _Attempt] = {}
        self._attempts_max = attempts_max
        self._runner = runner
        self._linger_s = linger_s
        self._grace_s = grace_s
        self._behind: dict[AttemptKey, list[AttemptKey]] = {}
        self.queued = 0  # how many stand behind others
        self._story: deque[tuple[float, AttemptKey, str, str]] = deque(maxlen=STORY_EVENTS_MAX)

    def __len__(self) -> int:
        return len(self._attempts)

    def phase(self, key: AttemptKey) -> Phase | None:
        """Where this attempt is; None if it is not held."""
        entry = self._attempts.get(key)
        return entry.phase if entry else None

    def exited(self, key: AttemptKey) -> Exited | None:
        """The outcome of this attempt, if it is held and has one."""
        entry = self._attempts.get(key)
        return entry.exited if entry else None

    def live(self) -> list[AttemptKey]:
        """The attempts that have no outcome yet, oldest first."""
        return [key for key, entry in self._attempts.items() if entry.exited is None]

    def inventory(self) -> Inventory:
        """All that is held. An attempt whose shell does not exist yet has pid 0."""
        running, exited = [], []
        for entry in self._attempts.values():
            if entry.exited is not None:
                exited.append(entry.exited)
            else:
                task, attempt = entry.key
                running.append(Spawned(task, attempt, entry.pid, entry.started_at))
        return Inventory(running, exited, self._runner)

    def story(self, key: AttemptKey) -> list[str]:
        """The last events of this attempt, oldest first, one line each."""
        return [f"{at:.3f} {phase}: {what}" for at, k, phase, what in self._story if k == key]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """One event in, its effects out, to be performed in order."""
        match event:
            case Run():
                return self._run(event, now)
            case Runs(runs):
                return [effect for run in runs for effect in self._run(run, now)]
            case Forget(attempts):
                return [effect for key in attempts for effect in self._forget(key, now)]
            case StartNow(task, attempt):
                return self._start_now((task, attempt), now)
            case Kill(task, attempt):
                # The executor may ask late, or twice: an attempt that is not known has ended.
                if (task, attempt) not in self._attempts:
                    return []
                return self._step((task, attempt), event, now)
            case Fired(key):
                if key not in self._attempts:
                    return []
                return self._step(key, event, now)
        return self._step(event.key, event, now)

    def _step(self, key: AttemptKey, event: Event, now: float) -> list[Effect]:
        entry = self._attempts.get(key)
        phase = entry.phase if entry else "unknown"
        self._story.append((now, key, phase, type(event).__name__))
        handler = TRANSITIONS.get((phase, type(event)))
        if entry is None or handler is None:
            story = "\n  ".join(self.story(key))
            raise BookkeepingError(f"{event!r} while {phase}; the story of {key}:\n  {story}")
        return handler(self, entry, event, now)

    # --- from the executor ---

    def _run(self, run: Run, now: float) -> list[Effect]:
        if run.key in self._attempts:
            return []
        if len(self._attempts) >= self._attempts_max:
            # Not kept: keeping it is what there is no room for. If this message is lost, the
            # executor's next inventory does not list the attempt, which tells the same.
            why = f"cannot start: the runner holds {self._attempts_max} attempts already"
            outcome = Outcome(started_at=0.0, finished_at=0.0, reason=why, not_started=True)
            return [Emit(Exited(run.task, run.attempt, outcome))]
        entry = self._attempts[run.key] = _Attempt(run)
        self._story.append((now, run.key, "unknown", "Run"))
        first = self._attempts.get(run.behind) if run.behind else None
        if first is not None and first.exited is None:
            entry.phase = Phase.QUEUED
            self.queued += 1
            self._behind.setdefault(first.key, []).append(run.key)
            return []
        return [Spawn(run)]

    def _unqueue(self, entry: _Attempt) -> list[Effect]:
        """Start an attempt that waited behind another."""
        assert entry.run is not None
        self.queued -= 1
        entry.phase = Phase.STARTING
        return [Spawn(entry.run)]

    def _kill_queued(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        assert entry.run is not None
        self.queued -= 1
        # Those behind it are now behind the one before it.
        others = [key for key in self._behind.pop(entry.key, []) if self._is_queued(key)]
        first = self._attempts.get(entry.run.behind) if entry.run.behind else None
        effects: list[Effect] = []
        if first is not None and first.exited is None:
            self._behind.setdefault(first.key, []).extend(others)
            for key in others:
                self._attempts[key].run = _behind(self._attempts[key].run, first.key)
        else:
            effects = self._unqueue_all(others)
        # The executor dates it: nothing here knows the time of day.
        outcome = Outcome(started_at=0.0, finished_at=0.0, reason=event.reason)
        return effects + self._exit(entry, outcome)

    def _is_queued(self, key: AttemptKey) -> bool:
        """Whether it still waits: others were killed, or started at once, meanwhile."""
        entry = self._attempts.get(key)
        return entry is not None and entry.phase is Phase.QUEUED

    def _start_now(self, key: AttemptKey, now: float) -> list[Effect]:
        entry = self._attempts.get(key)
        if entry is None or entry.phase is not Phase.QUEUED:
            return []
        self._story.append((now, key, entry.phase, "StartNow"))
        return self._unqueue(entry)

    def _unqueue_all(self, keys: list[AttemptKey]) -> list[Effect]:
        effects: list[Effect] = []
        for key in keys:
            if self._is_queued(key):
                effects += self._unqueue(self._attempts[key])
        return effects

    def _forget(self, key: AttemptKey, now: float) -> list[Effect]:
        entry = self._attempts.get(key)
        if entry is None or entry.exited is None:
            return []
        self._story.append((now, key, entry.phase, "Forget"))
        del self._attempts[key]
        return [Discard(key)]

    def _doom(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        """Killed before its shell exists: remembered, and done as soon as there is one."""
        if not entry.reason:
            entry.reason, entry.grace_s = event.reason, event.grace_s
        return []

    def _kill(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        return self._end(entry, event.reason, event.grace_s, now)

    def _hurry(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        """A second kill may shorten the grace, never lengthen it."""
        if entry.kill_sent or now + event.grace_s >= entry.kill_at:
            return []
        if event.grace_s <= 0:
            return self._send_kill(entry, now)
        entry.kill_at = now + event.grace_s
        return [SetTimer(entry.key, "kill", entry.kill_at)]

    # --- starting ---

    def _started(self, entry: _Attempt, event: ShellStarted, now: float) -> list[Effect]:
        assert entry.run is not None
        entry.pid, entry.started_at = event.pid, event.at
        entry.phase = Phase.RUNNING
        effects: list[Effect] = [
            Emit(Spawned(entry.run.task, entry.run.attempt, event.pid, event.at))
        ]
        if entry.reason:
            return effects + self._end(entry, entry.reason, entry.grace_s, now)
        if entry.run.time_limit is not None:
            entry.has_timers = True
            effects.append(SetTimer(entry.key, "limit", now + entry.run.time_limit))
        return effects

    def _start_failed(self, entry: _Attempt, event: StartFailed, now: float) -> list[Effect]:
        if entry.reason:
            return self._exit(entry, Outcome(event.at, event.at, reason=entry.reason))
        if event.passing and entry.retries < len(RETRY_START_S):
            at = now + RETRY_START_S[entry.retries]
            entry.retries += 1
            entry.phase = Phase.RETRYING
            return [SetTimer(entry.key, "retry_start", at)]
        outcome = Outcome(
            event.at, event.at, reason=f"cannot start: {event.why}", not_started=event.passing
        )
        return self._exit(entry, outcome)

    def _fired_retrying(self, entry: _Attempt, event: Fired, now: float) -> list[Effect]:
        if event.timer != "retry_start":
            return []
        assert entry.run is not None
        entry.phase = Phase.STARTING
        return [Spawn(entry.run)]

    def _kill_retrying(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        # The executor dates it: nothing here knows the time of day.
        outcome = Outcome(started_at=0.0, finished_at=0.0, reason=event.reason)
        return [CancelTimers(entry.key), *self._exit(entry, outcome)]

    # --- running, ending ---

    def _end(self, entry: _Attempt, reason: str, grace_s: float, now: float) -> list[Effect]:
        entry.reason = reason
        entry.phase = Phase.ENDING
        if grace_s <= 0:
            return self._send_kill(entry, now)
        entry.kill_at = now + grace_s
        entry.has_timers = True
        return [Signal(entry.key, "TERM"), SetTimer(entry.key, "kill", entry.kill_at)]

    def _send_kill(self, entry: _Attempt, now: float) -> list[Effect]:
        entry.kill_sent = True
        entry.has_timers = True
        return [
            Signal(entry.key, "KILL"),
            SetTimer(entry.key, "give_up", now + KILL_PATIENCE_S),
        ]

    def _fired_running(self, entry: _Attempt, event: Fired, now: float) -> list[Effect]:
        if event.timer != "limit":
            return []
        assert entry.run is not None
        assert entry.run.time_limit is not None
        return self._end(entry, f"time limit {entry.run.time_limit:g} s", self._grace_s, now)

    def _fired_ending(self, entry: _Attempt, event: Fired, now: float) -> list[Effect]:
        if event.timer == "kill" and not entry.kill_sent:
            return self._send_kill(entry, now)
        if event.timer == "give_up":
            # The shell itself survives KILL while it waits for a broken disk: try for ever.
            return self._send_kill(entry, now)
        return []

    def _exceeded(self, entry: _Attempt, event: Exceeded, now: float) -> list[Effect]:
        # No grace: a task over its memory takes the machine's, and cannot tidy up anyway.
        return self._end(entry, f"killed: {event.what}", 0.0, now)

    def _output_closed(self, entry: _Attempt, event: OutputClosed, now: float) -> list[Effect]:
        entry.output_closed = True
        return []

    # --- the shell has gone ---

    def _shell_exited(self, entry: _Attempt, event: ShellExited, now: float) -> list[Effect]:
        entry.exit = event
        entry.output_closed = entry.output_closed or event.output_closed
        entry.tree_empty = event.tree_empty
        if entry.output_closed and entry.tree_empty:
            return self._store(entry)
        if entry.output_closed or entry.phase is Phase.ENDING:
            return self._sweep(entry)
        entry.phase = Phase.DRAINING
        entry.has_timers = True
        return [SetTimer(entry.key, "linger", now + self._linger_s)]

    def _drained(self, entry: _Attempt, event: OutputClosed, now: float) -> list[Effect]:
        entry.output_closed = True
        return self._sweep(entry)

    def _fired_draining(self, entry: _Attempt, event: Fired, now: float) -> list[Effect]:
        if event.timer != "linger":
            return []
        entry.lingered = True
        return self._sweep(entry)

    def _stop_draining(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        """The shell's exit has decided the outcome; what is left needs no more patience."""
        entry.lingered = True
        return self._sweep(entry)

    def _sweep(self, entry: _Attempt) -> list[Effect]:
        entry.phase = Phase.SWEEPING
        return [WatchTree(entry.key)]

    def _tree_counted(self, entry: _Attempt, event: TreeCounted, now: float) -> list[Effect]:
        entry.stragglers = event.count
        if event.count == 0:
            return self._tree_gone(entry, event, now)
        entry.tree_empty = False
        if entry.kill_sent:
            return self._send_kill(entry, now)
        if entry.kill_at:
            return []
        entry.kill_at = now + self._grace_s
        entry.has_timers = True
        return [Signal(entry.key, "TERM"), SetTimer(entry.key, "kill", entry.kill_at)]

    def _tree_gone(
        self, entry: _Attempt, event: TreeEmpty | TreeCounted, now: float
    ) -> list[Effect]:
        entry.tree_empty = True
        if entry.output_closed:
            return self._store(entry)
        if entry.lingered or entry.kill_sent:
            return [CloseOutput(entry.key), *self._store(entry)]
        # Killed, its tree is gone, and yet somebody unknown holds the output: wait as for output
        # that is late, but no longer than the kill's own grace.
        return [SetTimer(entry.key, "give_up", max(now, min(entry.kill_at, now + self._linger_s)))]

    def _swept_output(self, entry: _Attempt, event: OutputClosed, now: float) -> list[Effect]:
        entry.output_closed = True
        return self._store(entry) if entry.tree_empty else []

    def _fired_sweeping(self, entry: _Attempt, event: Fired, now: float) -> list[Effect]:
        if event.timer == "kill" and not entry.kill_sent:
            return self._send_kill(entry, now)
        if event.timer == "give_up":
            if entry.output_closed:
                return self._store(entry)
            return [CloseOutput(entry.key), *self._store(entry)]
        return []

    def _hurry_sweep(self, entry: _Attempt, event: Kill, now: float) -> list[Effect]:
        if entry.kill_sent or event.grace_s > 0:
            return []
        return self._send_kill(entry, now)

    def _store(self, entry: _Attempt) -> list[Effect]:
        entry.phase = Phase.STORING
        if entry.has_timers:
            return [CancelTimers(entry.key), Store(entry.key)]
        return [Store(entry.key)]

    def _stored(self, entry: _Attempt, event: Stored, now: float) -> list[Effect]:
        assert entry.exit is not None
        assert entry.run is not None
        done = entry.exit
        outcome = Outcome(
            started_at=entry.started_at,
            finished_at=done.at,
            exit_code=done.exit_code,
            signal=done.signal,
            reason=entry.reason or _limit_reason(entry.run, done),
            peak_memory=done.peak_memory,
            cpu_seconds=done.cpu_seconds,
            stdout=event.stdout,
            stderr=event.stderr,
            stragglers=entry.stragglers,
        )
        return self._exit(entry, outcome)

    def _exit(self, entry: _Attempt, outcome: Outcome) -> list[Effect]:
        task, attempt = entry.key
        entry.phase = Phase.EXITED
        entry.run = None
        entry.exit = None
        entry.exited = Exited(task, attempt, outcome)
        return [Emit(entry.exited), *self._unqueue_all(self._behind.pop(entry.key, []))]

    def _ignore(self, entry: _Attempt, event: Event, now: float) -> list[Effect]:
        return []


def _behind(run: Run | None, first: AttemptKey) -> Run:
    assert run is not None, "what is queued has not run"
    return msgspec.structs.replace(run, behind=first)


def _limit_reason(run: Run, done: ShellExited) -> str:
    """Which limit ended it. A command that coped with being refused succeeded, and says nothing."""
    if done.exit_code == 0:
        return ""
    if done.memory_killed:
        return f"killed: memory {size_text(max(run.memory, MEMORY_LIMIT_MIN))}"
    if done.pids_refused:
        return f"pids limit of {run.pids} reached"
    return ""


def size_text(size: int) -> str:
    """A size in bytes for a person: in the largest binary unit that leaves at least 1."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"


TRANSITIONS: dict[tuple[str, type], _Handler] = {
    (Phase.QUEUED, Kill): Attempts._kill_queued,
    (Phase.STARTING, Kill): Attempts._doom,
    (Phase.STARTING, ShellStarted): Attempts._started,
    (Phase.STARTING, StartFailed): Attempts._start_failed,
    (Phase.RETRYING, Kill): Attempts._kill_retrying,
    (Phase.RETRYING, Fired): Attempts._fired_retrying,
    (Phase.RUNNING, Kill): Attempts._kill,
    (Phase.RUNNING, Exceeded): Attempts._exceeded,
    (Phase.RUNNING, OutputClosed): Attempts._output_closed,
    (Phase.RUNNING, ShellExited): Attempts._shell_exited,
    (Phase.RUNNING, Fired): Attempts._fired_running,
    (Phase.ENDING, Kill): Attempts._hurry,
    (Phase.ENDING, Exceeded): Attempts._ignore,
    (Phase.ENDING, OutputClosed): Attempts._output_closed,
    (Phase.ENDING, ShellExited): Attempts._shell_exited,
    (Phase.ENDING, Fired): Attempts._fired_ending,
    (Phase.DRAINING, Kill): Attempts._stop_draining,
    (Phase.DRAINING, Exceeded): Attempts._ignore,
    (Phase.DRAINING, OutputClosed): Attempts._drained,
    (Phase.DRAINING, Fired): Attempts._fired_draining,
    (Phase.SWEEPING, Kill): Attempts._hurry_sweep,
    (Phase.SWEEPING, Exceeded): Attempts._ignore,
    (Phase.SWEEPING, OutputClosed): Attempts._swept_output,
    (Phase.SWEEPING, TreeCounted): Attempts._tree_counted,
    (Phase.SWEEPING, TreeEmpty): Attempts._tree_gone,
    (Phase.SWEEPING, Fired): Attempts._fired_sweeping,
    (Phase.STORING, Kill): Attempts._ignore,
    (Phase.STORING, Exceeded): Attempts._ignore,
    (Phase.STORING, OutputClosed): Attempts._ignore,
    (Phase.STORING, TreeCounted): Attempts._ignore,
    (Phase.STORING, TreeEmpty): Attempts._ignore,
    (Phase.STORING, Fired): Attempts._ignore,
    (Phase.STORING, Stored): Attempts._stored,
    (Phase.EXITED, Kill): Attempts._ignore,
    (Phase.EXITED, Fired): Attempts._ignore,
}
