"""A second, naive reading of the journal: what happened to each task, entry by entry.

It shares no code with the queue or the tables; where the two disagree, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from leoronic.core.entries import (
    Cancelled,
    Ended,
    Entry,
    Finished,
    Lost,
    Started,
    Submitted,
)
from leoronic.core.spec import TaskSpec, element_count
from leoronic.sim.story import Violation

LOSSES_MAX = 5


class Part:
    """What runs: a task, or one element of an array. `ends[n]` is how attempt n ended, or ''."""

    def __init__(self, id: str, base: TaskFacts) -> None:
        self.id = id
        self.base = base
        self.ends: dict[int, str] = {}
        self.final = ""

    def count(self, end: str) -> int:
        """How many attempts ended so: `failed` or `lost`."""
        return sum(known == end for known in self.ends.values())


class TaskFacts:
    """One submitted task; `number` is that of its entry."""

    def __init__(self, id: str, number: int, spec: TaskSpec) -> None:
        self.id = id
        self.number = number
        self.spec = spec
        self.final = ""
        self.elements = element_count(spec)
        self.parts: dict[str, Part] = {}
        self.redone_as: list[str] = []

    def part(self, id: str) -> Part:
        """The task itself, or the element of this id."""
        found = self.parts.get(id)
        if found is None:
            found = self.parts[id] = Part(id, self)
        return found


class Facts:
    """All that the journal says."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskFacts] = {}

    def base(self, id: str) -> TaskFacts:
        """The task of this id or of this element."""
        found = self.tasks.get(id) or self.tasks.get(id.partition(".")[0])
        if found is None:
            raise Violation("what was never submitted never runs", f"{id} is unknown", id)
        return found

    def part(self, id: str) -> Part:
        """What runs under this id."""
        return self.base(id).part(id)

    def lives(self) -> Iterator[TaskFacts]:
        """Tasks that are not final."""
        return (task for task in self.tasks.values() if not task.final)

    def happens(self, number: int, entry: Entry) -> None:
        """One more entry is on disk. Raises `Violation` if it must not be."""
        match entry:
            case Submitted(task, spec):
                self._submitted(task, number, spec)
            case Started(task, attempt):
                self._started(self.part(task), attempt)
            case Finished():
                self._finished(self.part(entry.task), entry)
            case Lost():
                self._lost(self.part(entry.task), entry)
            case Cancelled(task):
                self._cancelled(self.part(task))
            case Ended(task, state):
                self._ended(self.base(task), state)
            case _:
                pass

    def _submitted(self, id: str, number: int, spec: TaskSpec) -> None:
        if id in self.tasks:
            raise Violation("an id is one task", f"{id} was submitted twice", id)
        self.tasks[id] = TaskFacts(id, number, spec)
        redone = self.tasks.get(spec.redo_of)
        if redone is not None:
            redone.redone_as.append(id)

    def _started(self, part: Part, attempt: int) -> None:
        if part.final or part.base.final:
            final = part.final or part.base.final
            raise Violation("what is final never starts", f"{part.id} is {final}", part.id)
        if attempt != len(part.ends) + 1:
            raise Violation("attempts are numbered", f"{part.id} attempt {attempt}", part.id)
        if attempt > 1 and not part.ends[attempt - 1]:
            raise Violation(
                "a second run follows a recorded loss or failure",
                f"{part.id} attempt {attempt} started, {attempt - 1} has no end",
                part.id,
            )
        self.check_dependencies(part.base)
        part.ends[attempt] = ""

    def check_dependencies(self, task: TaskFacts) -> None:
        """Whether what it runs after came true."""
        for after in task.spec.after:
            if not self._came_true(after.id, after.when, depth=0):
                raise Violation(
                    "no task starts before its `after` holds",
                    f"{task.id} runs after {after.id} has {after.when}",
                    task.id,
                )

    def _came_true(self, id: str, when: str, depth: int) -> bool:
        task = self.tasks.get(id)
        if task is None or depth > 50:
            return False
        if task.final and (when in ("ended", task.final)):
            return True
        return any(self._came_true(redo, when, depth + 1) for redo in task.redone_as)

    def _finished(self, part: Part, entry: Finished) -> None:
        end = part.ends.get(entry.attempt)
        if end is None:
            raise Violation("only what started ends", f"{part.id} {entry.attempt}", part.id)
        if end:
            return  # the first word counts
        retries = part.base.spec.retries
        failures = part.count("failed")
        succeeded = entry.outcome.succeeded
        cancelled = bool(part.final or part.base.final)
        if not entry.final and (succeeded or failures >= retries):
            raise Violation(
                "retries are bounded", f"{part.id} attempt {entry.attempt} is not final", part.id
            )
        if entry.final and not succeeded and not cancelled and failures < retries:
            raise Violation(
                "a task is tried as often as it says",
                f"{part.id} gave up after attempt {entry.attempt} with {failures} failures before",
                part.id,
            )
        part.ends[entry.attempt] = "succeeded" if succeeded else "failed"
        if entry.final:
            self._finalise(part, part.ends[entry.attempt])

    def _finalise(self, part: Part, state: str) -> None:
        part.final = part.final or state
        if part.id == part.base.id:
            part.base.final = part.base.final or state

    def _lost(self, part: Part, entry: Lost) -> None:
        end = part.ends.get(entry.attempt)
        if end is None:
            raise Violation("only what started ends", f"{part.id} {entry.attempt}", part.id)
        if end:
            return
        hold = part.base.spec.on_loss == "hold" or part.count("lost") + 1 >= LOSSES_MAX
        if entry.hold != hold:
            raise Violation("a loss is held as the task says", f"{part.id} {entry}", part.id)
        part.ends[entry.attempt] = "lost"

    def _cancelled(self, part: Part) -> None:
        self._finalise(part, "cancelled")

    def _ended(self, task: TaskFacts, state: str) -> None:
        if task.final:
            return
        finals = [part.final for part in task.parts.values()]
        if task.elements is None or len(finals) < task.elements or not all(finals):
            raise Violation("an array ends when all its elements have", f"{task.id}", task.id)
        expected = next((s for s in ("failed", "cancelled") if s in finals), "succeeded")
        if state != expected:
            raise Violation("an array ends as its elements did", f"{task.id} {state}", task.id)
        task.final = state
