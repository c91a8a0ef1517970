"""A second, naive reading of a journal: what happened to each task, by the entries one node holds.

Nothing is kept but what the entries said, and every state is worked out anew from all of it. It
shares no code with the queue or the tables; where the two disagree, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
)
from leoronic.core.spec import TaskSpec, element_count
from leoronic.sim.story import Violation

LOSSES_MAX = 5

_NOTHING: Mapping[str, set[str]] = {}

RunKey = tuple[int, str]
"""(attempt, node)."""


class RunFacts:
    """All that was said about one run. It is *over* once it has an end of any kind."""

    def __init__(self) -> None:
        self.finished: Finished | None = None
        self.lost = False
        self.held_by_loss = False
        self.never_began = False

    @property
    def end(self) -> str:
        """`ended`, `never`, `lost` or '' by the rule that the more certain word counts."""
        if self.finished is not None:
            return "ended"
        if self.never_began:
            return "never"
        return "lost" if self.lost else ""


class Part:
    """What runs: a task, or one element of an array."""

    def __init__(self, id: str, base: TaskFacts) -> None:
        self.id = id
        self.base = base
        self.runs: dict[RunKey, RunFacts] = {}
        self.cancelled = False
        self.forgiven = 0
        self.result: tuple[str, object] = ("", None)  # kept up to date by `TaskFacts.settle`

    @property
    def final(self) -> str:
        """Its final state, or ''."""
        return self.result[0]

    @property
    def attempt(self) -> int:
        """The highest attempt known."""
        return max((attempt for attempt, _ in self.runs), default=0)

    def outcome(self) -> tuple[str, object]:
        """(state or '', what decided it): the highest (attempt, succeeded, node) of final ends."""
        if self.cancelled:
            return "cancelled", None
        best: tuple[int, bool, str] | None = None
        for (attempt, node), run in self.runs.items():
            if run.finished is not None and run.finished.final:
                rank = (attempt, run.finished.outcome.succeeded, node)
                best = rank if best is None or rank > best else best
        if best is None:
            return "", None
        return ("succeeded" if best[1] else "failed"), best

    def lost_hold(self) -> bool:
        """Whether a loss holds it: one that asked for it, or the last of too many."""
        return any(
            run.held_by_loss and run.end == "lost" and attempt > self.forgiven
            for (attempt, _), run in self.runs.items()
        )


class TaskFacts:
    """One submitted task. `order` is when this node heard of it first."""

    def __init__(self, id: str, order: int) -> None:
        self.id = id
        self.order = order
        self.submits: dict[str, Submitted] = {}
        self.spec: TaskSpec
        self.origin = ""
        self.elements: int | None = None
        self.parts: dict[str, Part] = {}
        self.held: tuple[int, bool] = (0, False)
        self.final = ""

    def submitted(self, origin: str, entry: Submitted) -> None:
        """Of several submissions of one id, the first one holds."""
        self.submits.setdefault(origin, entry)
        self.origin = min(self.submits, key=lambda o: (self.submits[o].at, o))
        self.spec = self.submits[self.origin].spec
        self.elements = element_count(self.spec)

    def part(self, id: str) -> Part:
        """The task itself, or the element of this id."""
        found = self.parts.get(id)
        if found is None:
            found = self.parts[id] = Part(id, self)
        return found

    def settle(self, changed: str) -> None:
        """Work out what is final, after something was said of the part of this id."""
        part = self.parts.get(changed)
        if part is not None:
            part.result = part.outcome()
        itself = self.parts.get(self.id)
        self.final = "" if itself is None else itself.final
        if self.elements is not None and not self.final:
            finals = [p.final for p in self.parts.values() if p.id != self.id and p.final]
            if len(finals) == self.elements:
                ranked = (state for state in ("failed", "cancelled") if state in finals)
                self.final = next(ranked, "succeeded")

    def is_held(self) -> bool:
        """Whether it as a whole must not start."""
        return self.held[1]


class Facts:
    """All that the entries of one node say. `log` are these, in its local order.

    `forgotten` are the tasks that nodes have forgotten, and these nodes: who comes later may never
    hear of them. What runs on `ghosts` others write down.
    """

    def __init__(
        self, forgotten: Mapping[str, set[str]] = _NOTHING, ghosts: Collection[str] = ()
    ) -> None:
        self.tasks: dict[str, TaskFacts] = {}
        self.redos: dict[str, list[str]] = {}  # by what they redo, maybe forgotten
        self.log: list[Numbered] = []
        self.forgotten = forgotten
        self.ghosts = ghosts

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

    def happens(self, numbered: Numbered) -> str:
        """One more entry is on this node's disk. Returns the task it is about, or ''."""
        self.log.append(numbered)
        entry = numbered.entry
        if self.forgotten and self._is_forgotten(entry):
            return ""
        match entry:
            case Submitted():
                self._submitted(numbered.origin, entry)
            case Started(task, attempt, node):
                self.part(task).runs.setdefault((attempt, node), RunFacts())
            case Finished():
                run = self._run(entry.task, entry.attempt, entry.node)
                run.finished = run.finished or entry
            case Lost():
                run = self._run(entry.task, entry.attempt, entry.node)
                run.lost = run.lost or entry.begun
                run.never_began = run.never_began or not entry.begun
                run.held_by_loss = run.held_by_loss or (entry.hold and entry.begun)
            case Cancelled(task):
                self.part(task).cancelled = True
            case Held(task, revision):
                self._turn(task, revision, True)
            case Released(task, revision, _, attempt):
                self._turn(task, revision, False)
                part = self.part(task)
                part.forgiven = max(part.forgiven, attempt)
            case _:
                return ""
        about = self.base(entry.task)
        about.settle(entry.task)
        return about.id

    def _is_forgotten(self, entry: Entry) -> bool:
        """Whether it is about a task that others have forgotten, and that was never told here."""
        if isinstance(entry, Submitted):
            return False
        task = getattr(entry, "task", "").partition(".")[0]
        return task in self.forgotten and task not in self.tasks

    def _submitted(self, origin: str, entry: Submitted) -> None:
        known = self.tasks.get(entry.task)
        if known is None:
            known = self.tasks[entry.task] = TaskFacts(entry.task, len(self.log))
            if entry.spec.redo_of:
                self.redos.setdefault(entry.spec.redo_of, []).append(entry.task)
        known.submitted(origin, entry)

    def _run(self, task: str, attempt: int, node: str) -> RunFacts:
        runs = self.part(task).runs
        if node in self.ghosts:
            # That it began may be known to its former clairvoyant alone.
            return runs.setdefault((attempt, node), RunFacts())
        run = runs.get((attempt, node))
        if run is None:
            raise Violation("only what started ends", f"{task} attempt {attempt} on {node}", task)
        return run

    def _turn(self, id: str, revision: int, on: bool) -> None:
        """The highest revision counts; of two equal ones the hold."""
        task = self.base(id)
        if id == task.id:
            task.held = max(task.held, (revision, on))

    def is_held(self, id: str) -> bool:
        """Whether this task or element must not start: it, its array, or by a loss."""
        task = self.base(id)
        part = task.parts.get(id)
        whole = task.parts.get(task.id)
        return (
            task.is_held()
            or (part is not None and part.lost_hold())
            or (whole is not None and whole.lost_hold())
        )

    def broken_dependency(self, task: TaskFacts) -> str:
        """What it runs after and has not come true; '' if all has."""
        for after in task.spec.after:
            if not self._came_true(after.id, after.when, depth=0):
                return f"{task.id} runs after {after.id} has {after.when}"
        return ""

    def _came_true(self, id: str, when: str, depth: int) -> bool:
        task = self.tasks.get(id)
        if depth > 50:
            return False
        if task is None and id in self.forgotten and when == "ended":
            return True  # how it ended is not known here any more, but that it did
        if task is not None and task.final and when in ("ended", task.final):
            return True
        return any(self._came_true(redo, when, depth + 1) for redo in self.redos.get(id, ()))
