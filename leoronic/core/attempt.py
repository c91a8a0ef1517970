"""One attempt of a runner: its steps, from the spawn of a shell to its outcome.

An attempt moves by `TRANSITIONS` only:

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

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from leoronic.core.attempt_events import (
    CancelTimers,
    CloseOutput,
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
from leoronic.core.limits import limit_reason
from leoronic.core.outcome import Outcome
from leoronic.core.run import AttemptKey, Exited, Kill, Run, Spawned

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


class Patience(NamedTuple):
    """`linger_s`: how long output may stay open after the shell has gone.

    `grace_s`: the time between TERM and KILL where a message does not say.
    """

    linger_s: float
    grace_s: float


class Attempt:
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
        "patience",
        "phase",
        "pid",
        "reason",
        "retries",
        "run",
        "started_at",
        "stragglers",
        "tree_empty",
        "waited_for",
    )

    def __init__(self, run: Run, patience: Patience) -> None:
        self.key: AttemptKey = run.key
        self.run: Run | None = run
        self.patience = patience
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
        self.waited_for: AttemptKey | None = None  # when it was killed, standing behind that one
        self.exit: ShellExited | None = None
        self.exited: Exited | None = None

    def spawn(self) -> list[Effect]:
        """Have its shell started."""
        assert self.run is not None, "it has exited"
        self.phase = Phase.STARTING
        return [Spawn(self.run)]

    # --- killed before, or while, it runs ---

    def _doom(self, event: Kill, now: float) -> list[Effect]:
        """Killed before its shell exists: remembered, and done as soon as there is one."""
        if not self.reason:
            self.reason, self.grace_s = event.reason, event.grace_s
        return []

    def _kill(self, event: Kill, now: float) -> list[Effect]:
        return self._end(event.reason, event.grace_s, now)

    def _hurry(self, event: Kill, now: float) -> list[Effect]:
        """A second kill may shorten the grace, never lengthen it."""
        if self.kill_sent or now + event.grace_s >= self.kill_at:
            return []
        if event.grace_s <= 0:
            return self._send_kill(now)
        self.kill_at = now + event.grace_s
        return [SetTimer(self.key, "kill", self.kill_at)]

    # --- starting ---

    def _started(self, event: ShellStarted, now: float) -> list[Effect]:
        assert self.run is not None
        self.pid, self.started_at = event.pid, event.at
        self.phase = Phase.RUNNING
        effects: list[Effect] = [
            Emit(Spawned(self.run.task, self.run.attempt, event.pid, event.at))
        ]
        if self.reason:
            return effects + self._end(self.reason, self.grace_s, now)
        if self.run.time_limit is not None:
            self.has_timers = True
            effects.append(SetTimer(self.key, "limit", now + self.run.time_limit))
        return effects

    def _start_failed(self, event: StartFailed, now: float) -> list[Effect]:
        if self.reason:
            return self.exit_as(Outcome(event.at, event.at, reason=self.reason))
        if event.passing and self.retries < len(RETRY_START_S):
            at = now + RETRY_START_S[self.retries]
            self.retries += 1
            self.phase = Phase.RETRYING
            return [SetTimer(self.key, "retry_start", at)]
        outcome = Outcome(
            event.at, event.at, reason=f"cannot start: {event.why}", not_started=event.passing
        )
        return self.exit_as(outcome)

    def _fired_retrying(self, event: Fired, now: float) -> list[Effect]:
        if event.timer != "retry_start":
            return []
        return self.spawn()

    def _kill_retrying(self, event: Kill, now: float) -> list[Effect]:
        # The executor dates it: nothing here knows the time of day.
        outcome = Outcome(started_at=0.0, finished_at=0.0, reason=event.reason)
        return [CancelTimers(self.key), *self.exit_as(outcome)]

    # --- running, ending ---

    def _end(self, reason: str, grace_s: float, now: float) -> list[Effect]:
        self.reason = reason
        self.phase = Phase.ENDING
        if grace_s <= 0:
            return self._send_kill(now)
        self.kill_at = now + grace_s
        self.has_timers = True
        return [Signal(self.key, "TERM"), SetTimer(self.key, "kill", self.kill_at)]

    def _send_kill(self, now: float) -> list[Effect]:
        self.kill_sent = True
        self.has_timers = True
        return [
            Signal(self.key, "KILL"),
            SetTimer(self.key, "give_up", now + KILL_PATIENCE_S),
        ]

    def _fired_running(self, event: Fired, now: float) -> list[Effect]:
        if event.timer != "limit":
            return []
        assert self.run is not None
        assert self.run.time_limit is not None
        return self._end(f"time limit {self.run.time_limit:g} s", self.patience.grace_s, now)

    def _fired_ending(self, event: Fired, now: float) -> list[Effect]:
        if event.timer == "kill" and not self.kill_sent:
            return self._send_kill(now)
        if event.timer == "give_up":
            # The shell itself survives KILL while it waits for a broken disk: try for ever.
            return self._send_kill(now)
        return []

    def _exceeded(self, event: Exceeded, now: float) -> list[Effect]:
        # No grace: a task over its memory takes the machine's, and cannot tidy up anyway.
        return self._end(f"killed: {event.what}", 0.0, now)

    def _output_closed(self, event: OutputClosed, now: float) -> list[Effect]:
        self.output_closed = True
        return []

    # --- the shell has gone ---

    def _shell_exited(self, event: ShellExited, now: float) -> list[Effect]:
        self.exit = event
        self.output_closed = self.output_closed or event.output_closed
        self.tree_empty = event.tree_empty
        if self.output_closed and self.tree_empty:
            return self._store()
        if self.output_closed or self.phase is Phase.ENDING:
            return self._sweep()
        self.phase = Phase.DRAINING
        self.has_timers = True
        return [SetTimer(self.key, "linger", now + self.patience.linger_s)]

    def _drained(self, event: OutputClosed, now: float) -> list[Effect]:
        self.output_closed = True
        return self._sweep()

    def _fired_draining(self, event: Fired, now: float) -> list[Effect]:
        if event.timer != "linger":
            return []
        self.lingered = True
        return self._sweep()

    def _stop_draining(self, event: Kill, now: float) -> list[Effect]:
        """The shell's exit has decided the outcome; what is left needs no more patience."""
        self.lingered = True
        return self._sweep()

    def _sweep(self) -> list[Effect]:
        self.phase = Phase.SWEEPING
        return [WatchTree(self.key)]

    def _tree_counted(self, event: TreeCounted, now: float) -> list[Effect]:
        self.stragglers = event.count
        if event.count == 0:
            return self._tree_gone(event, now)
        self.tree_empty = False
        if self.kill_sent:
            return self._send_kill(now)
        if self.kill_at:
            return []
        self.kill_at = now + self.patience.grace_s
        self.has_timers = True
        return [Signal(self.key, "TERM"), SetTimer(self.key, "kill", self.kill_at)]

    def _tree_gone(self, event: TreeEmpty | TreeCounted, now: float) -> list[Effect]:
        self.tree_empty = True
        if self.output_closed:
            return self._store()
        if self.lingered or self.kill_sent:
            return [CloseOutput(self.key), *self._store()]
        # Killed, its tree is gone, and yet somebody unknown holds the output: wait as for output
        # that is late, but no longer than the kill's own grace.
        return [
            SetTimer(self.key, "give_up", max(now, min(self.kill_at, now + self.patience.linger_s)))
        ]

    def _swept_output(self, event: OutputClosed, now: float) -> list[Effect]:
        self.output_closed = True
        return self._store() if self.tree_empty else []

    def _fired_sweeping(self, event: Fired, now: float) -> list[Effect]:
        if event.timer == "kill" and not self.kill_sent:
            return self._send_kill(now)
        if event.timer == "give_up":
            if self.output_closed:
                return self._store()
            return [CloseOutput(self.key), *self._store()]
        return []

    def _hurry_sweep(self, event: Kill, now: float) -> list[Effect]:
        if self.kill_sent or event.grace_s > 0:
            return []
        return self._send_kill(now)

    def _store(self) -> list[Effect]:
        self.phase = Phase.STORING
        if self.has_timers:
            return [CancelTimers(self.key), Store(self.key)]
        return [Store(self.key)]

    def _stored(self, event: Stored, now: float) -> list[Effect]:
        assert self.exit is not None
        assert self.run is not None
        done = self.exit
        outcome = Outcome(
            started_at=self.started_at,
            finished_at=done.at,
            exit_code=done.exit_code,
            signal=done.signal,
            reason=self.reason or limit_reason(self.run, done),
            peak_memory=done.peak_memory,
            cpu_seconds=done.cpu_seconds,
            stdout=event.stdout,
            stderr=event.stderr,
            stragglers=self.stragglers,
        )
        return self.exit_as(outcome)

    def exit_as(self, outcome: Outcome) -> list[Effect]:
        """It ended like this, and nothing is left of it."""
        task, attempt = self.key
        self.phase = Phase.EXITED
        self.run = None
        self.exit = None
        self.exited = Exited(task, attempt, outcome)
        return [Emit(self.exited)]

    def _ignore(self, event: Event, now: float) -> list[Effect]:
        return []


Handler = Callable[[Attempt, Any, float], list[Effect]]

TRANSITIONS: dict[tuple[str, type], Handler] = {
    (Phase.STARTING, Kill): Attempt._doom,
    (Phase.STARTING, ShellStarted): Attempt._started,
    (Phase.STARTING, StartFailed): Attempt._start_failed,
    (Phase.RETRYING, Kill): Attempt._kill_retrying,
    (Phase.RETRYING, Fired): Attempt._fired_retrying,
    (Phase.RUNNING, Kill): Attempt._kill,
    (Phase.RUNNING, Exceeded): Attempt._exceeded,
    (Phase.RUNNING, OutputClosed): Attempt._output_closed,
    (Phase.RUNNING, ShellExited): Attempt._shell_exited,
    (Phase.RUNNING, Fired): Attempt._fired_running,
    (Phase.ENDING, Kill): Attempt._hurry,
    (Phase.ENDING, Exceeded): Attempt._ignore,
    (Phase.ENDING, OutputClosed): Attempt._output_closed,
    (Phase.ENDING, ShellExited): Attempt._shell_exited,
    (Phase.ENDING, Fired): Attempt._fired_ending,
    (Phase.DRAINING, Kill): Attempt._stop_draining,
    (Phase.DRAINING, Exceeded): Attempt._ignore,
    (Phase.DRAINING, OutputClosed): Attempt._drained,
    (Phase.DRAINING, Fired): Attempt._fired_draining,
    (Phase.SWEEPING, Kill): Attempt._hurry_sweep,
    (Phase.SWEEPING, Exceeded): Attempt._ignore,
    (Phase.SWEEPING, OutputClosed): Attempt._swept_output,
    (Phase.SWEEPING, TreeCounted): Attempt._tree_counted,
    (Phase.SWEEPING, TreeEmpty): Attempt._tree_gone,
    (Phase.SWEEPING, Fired): Attempt._fired_sweeping,
    (Phase.STORING, Kill): Attempt._ignore,
    (Phase.STORING, Exceeded): Attempt._ignore,
    (Phase.STORING, OutputClosed): Attempt._ignore,
    (Phase.STORING, TreeCounted): Attempt._ignore,
    (Phase.STORING, TreeEmpty): Attempt._ignore,
    (Phase.STORING, Fired): Attempt._ignore,
    (Phase.STORING, Stored): Attempt._stored,
    (Phase.EXITED, Kill): Attempt._ignore,
    (Phase.EXITED, Fired): Attempt._ignore,
}
