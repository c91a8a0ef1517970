"""The bookkeeping of a runner: what becomes of each attempt, step by step.

Rules:
- Pure: an event and the time go in, effects come out. The runner process performs them on real
  processes, the simulator on simulated ones.
- `now` is monotonic seconds and serves timers only; times that people see (`at`) come with the
  events, in seconds since the epoch.
- An attempt moves by the table in `attempt.py` only. What that does not list is a bug of ours, and
  raises `BookkeepingError` with the attempt's story.
- An attempt may be queued behind another: it starts when that one has exited.
"""

from __future__ import annotations

from collections import deque

import msgspec

from leoronic.core.attempt import TRANSITIONS, Attempt, Patience, Phase
from leoronic.core.attempt_events import Discard, Effect, Emit, Event, Fired
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


class BookkeepingError(AssertionError):
    """An event that the table does not list; the message holds the attempt's story."""


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
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._attempts_max = attempts_max
        self._runner = runner
        self._patience = Patience(linger_s, grace_s)
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
        if entry is not None and phase is Phase.QUEUED and isinstance(event, Kill):
            return self._kill_queued(entry, event)
        handler = TRANSITIONS.get((phase, type(event)))
        if entry is None or handler is None:
            story = "\n  ".join(self.story(key))
            raise BookkeepingError(f"{event!r} while {phase}; the story of {key}:\n  {story}")
        effects = handler(entry, event, now)
        if entry.exited is not None:
            effects += self._unqueue_all(self._behind.pop(key, []))
        return effects

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
        entry = self._attempts[run.key] = Attempt(run, self._patience)
        self._story.append((now, run.key, "unknown", "Run"))
        first = self._first_before(run)
        if first is not None:
            entry.phase = Phase.QUEUED
            entry.run = _behind(run, first.key)
            self.queued += 1
            self._behind.setdefault(first.key, []).append(run.key)
            return []
        return entry.spawn()

    def _first_before(self, run: Run) -> Attempt | None:
        """Whom it has to wait for: where that one was killed as it waited itself, for whom it did.

        The executor may have sent this before it knew of that end.
        """
        key = run.behind
        while key is not None:
            entry = self._attempts.get(key)
            if entry is None or entry.exited is None:
                return entry
            key = entry.waited_for
        return None

    def _unqueue(self, entry: Attempt) -> list[Effect]:
        """Start an attempt that waited behind another."""
        self.queued -= 1
        return entry.spawn()

    def _kill_queued(self, entry: Attempt, event: Kill) -> list[Effect]:
        assert entry.run is not None
        self.queued -= 1
        # Those behind it are now behind the one before it.
        others = [key for key in self._behind.pop(entry.key, []) if self._is_queued(key)]
        first = self._attempts.get(entry.run.behind) if entry.run.behind else None
        effects: list[Effect] = []
        if first is not None and first.exited is None:
            entry.waited_for = first.key
            self._behind.setdefault(first.key, []).extend(others)
            for key in others:
                self._attempts[key].run = _behind(self._attempts[key].run, first.key)
        else:
            effects = self._unqueue_all(others)
        # The executor dates it: nothing here knows the time of day.
        outcome = Outcome(started_at=0.0, finished_at=0.0, reason=event.reason)
        return effects + entry.exit_as(outcome)

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


def _behind(run: Run | None, first: AttemptKey) -> Run:
    assert run is not None, "what is queued has not run"
    return msgspec.structs.replace(run, behind=first)
