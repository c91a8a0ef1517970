"""What must hold at every step on each ghost, and of those who give one up."""

from __future__ import annotations

from leoronic.core.resources import Capacity, milli
from leoronic.core.run import AttemptKey, Run
from leoronic.sim.clock import Clock
from leoronic.sim.history import History
from leoronic.sim.observer import Observer
from leoronic.sim.story import Story, Violation


class GhostWatch(Observer):
    """Sees every process of one ghost. Raises `Violation`."""

    def __init__(
        self, clock: Clock, story: Story, history: History, name: str, id: str, capacity: Capacity
    ) -> None:
        self._clock = clock
        self._story = story
        self._history = history
        self._name = name
        self._id = id
        self._capacity = capacity
        self._running: dict[AttemptKey, Run] = {}
        self._ran: set[AttemptKey] = set()

    def _tell(self, what: str) -> None:
        self._story.tell(self._clock.now, f"{self._name}.process", what)

    @property
    def running(self) -> int:
        """How many processes exist."""
        return len(self._running)

    def process_starts(self, run: Run) -> None:
        """A process exists from now on."""
        self._tell(f"{run.task} attempt {run.attempt} starts")
        self.started_is_on_a_disk_before_the_process_exists(run)
        self.an_attempt_runs_once(run)
        self.a_task_runs_once_at_a_time(run)
        self._ran.add(run.key)
        self._running[run.key] = run
        self.nothing_is_over_committed(run)

    def process_ends(self, key: AttemptKey) -> None:
        """Nothing of an attempt runs any more."""
        self._tell(f"{key[0]} attempt {key[1]} is gone")
        self._running.pop(key, None)

    def started_is_on_a_disk_before_the_process_exists(self, run: Run) -> None:
        """Its clairvoyant has written it down."""
        if not self._history.started(run.task, run.attempt, self._id):
            raise Violation(
                "Started is on disk before the process exists", f"{run.key} runs", run.task
            )

    def an_attempt_runs_once(self, run: Run) -> None:
        """No attempt number has two processes on one ghost: its clairvoyant has written it down.

        But who lost both what it knew and its clairvoyant may not know what it has done.
        """
        missed = self._history.is_writer_missed(run.task, run.attempt, self._id)
        if run.key in self._ran and not missed:
            raise Violation("an attempt runs once", f"{run.key} runs again", run.task)

    def a_task_runs_once_at_a_time(self, run: Run) -> None:
        """An attempt starts only when the one before it is gone, or was given up by others."""
        twice = [key for key in self._running if key[0] == run.task]
        suspected = self._id in self._history.suspected or self._history.is_twin(run.task)
        if twice and not suspected:
            raise Violation("a task runs once at a time", f"{twice} still run", run.task)

    def nothing_is_over_committed(self, run: Run) -> None:
        """What really runs fits into the ghost."""
        running = self._running.values()
        cpus = sum(milli(one.cpus) for one in running)
        memory = sum(one.memory for one in running)
        if cpus > self._capacity.cpus_milli or memory > self._capacity.memory:
            raise Violation(
                "nothing is over-committed",
                f"{cpus} {memory} with {sorted(self._running)}",
                run.task,
            )
