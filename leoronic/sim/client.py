"""The simulated people: submit, submit again, cancel, hold, release, redo, tag, drain.

What they were told is what they hold the node to.
"""

from __future__ import annotations

from random import Random

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.queue_messages import Accepted, ChangeTasks, SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.errors import LeoronicError
from leoronic.sim.clock import Clock
from leoronic.sim.facts import TaskFacts
from leoronic.sim.invariants import Invariants
from leoronic.sim.node import SimNode
from leoronic.sim.plan import parse_plan
from leoronic.sim.story import Violation
from leoronic.sim.workload import FILE, TAGS, Maker, may_be_parent

MEND_EVERY_S = 20.0


class Client:
    """Works with one node. `acknowledged` are the ids it was promised."""

    def __init__(
        self, clock: Clock, chance: Random, node: SimNode, invariants: Invariants, maker: Maker
    ) -> None:
        self.acknowledged: set[str] = set()
        self._clock = clock
        self._chance = chance
        self._node = node
        self._facts = invariants.facts
        self._maker = maker
        self._parents: list[str] = []
        self._doubtful: set[int] = set()  # serials that may be on disk though nobody said so
        self._refused: set[int] = set()

    # ---- phase one ----

    def submit_some(self) -> None:
        """A batch of new tasks."""
        specs: list[TaskSpec] = []
        inside: list[str] = []
        for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
            spec = self._maker.spec([*self._parents[-8:], *inside])
            specs.append(spec)
            inside += [ref for ref in (spec.id, spec.name) if ref and may_be_parent(spec)]
        self._submit(specs, 0)

    def _submit(self, specs: list[TaskSpec], tries: int) -> None:
        answered: list[bool] = []

        def told(result: object, error: LeoronicError | None) -> None:
            answered.append(True)
            if isinstance(result, Accepted):
                self._accepted(specs, result.ids)
            elif error is not None:
                self._turned_down(specs, error, tries)

        self._node.call("queue", SubmitSpecs(specs, "sim"), told)
        repeatable = all(spec.id for spec in specs) and not answered and tries < 4
        if repeatable and self._chance.random() < 0.2:
            # Some do not wait for an answer, and ask again meanwhile.
            self._clock.after(self._chance.random() * 0.01, lambda: self._submit(specs, 9))

    def _accepted(self, specs: list[TaskSpec], ids: list[str]) -> None:
        for spec, task in zip(specs, ids, strict=True):
            if task not in self._facts.tasks:
                raise Violation("what is acknowledged is on disk", f"{task} {spec}", task)
            if task not in self.acknowledged:
                self.acknowledged.add(task)
                if may_be_parent(spec):
                    self._parents += [task, spec.name] if spec.name else [task]

    def _turned_down(self, specs: list[TaskSpec], error: LeoronicError, tries: int) -> None:
        serials = {parse_plan(str(s.command)).serial for s in specs if not s.redo_of}
        if error.definite:
            self._refused |= serials
        else:
            self._doubtful |= serials
        if tries < 4 and all(spec.id for spec in specs):
            self._clock.after(self._chance.random() * 5, lambda: self._submit(specs, tries + 1))

    def change_some(self) -> None:
        """Cancel, hold or release a few tasks or elements."""
        tasks = self._some(3)
        if tasks:
            self._change(self._chance.choice(("cancel", "hold", "hold", "release")), tasks)

    def _change(self, what: str, tasks: list[str]) -> None:
        def told(result: object, error: LeoronicError | None) -> None:
            pass

        self._node.call("queue", ChangeTasks(what, tasks, "by hand"), told)

    def _some(self, most: int) -> list[str]:
        known = list(self._facts.tasks.values())
        if not known:
            return []
        chosen = [self._chance.choice(known) for _ in range(self._chance.randint(1, most))]
        return [self._or_element(task) for task in chosen]

    def _or_element(self, task: TaskFacts) -> str:
        if task.elements and self._chance.random() < 0.6:
            return f"{task.id}.{self._chance.randrange(task.elements)}"
        return task.id

    def redo_some(self) -> None:
        """Submit an ended task again, as a new one."""
        ended = [t for t in self._facts.tasks.values() if t.final and t.elements is None]
        if ended:
            self.redo(self._chance.choice(ended))

    def redo(self, task: TaskFacts) -> None:
        """As `leoronic redo` does; arrays only what did not succeed of them."""
        spec = msgspec.structs.replace(task.spec, id="", after=(), redo_of=task.id)
        if task.elements is not None:
            indexes = [
                i for i in range(task.elements) if task.part(f"{task.id}.{i}").final != "succeeded"
            ]
            only = spec.only
            indexes = [i if only is None else only[i] for i in indexes]
            if not indexes:
                return
            spec = msgspec.structs.replace(spec, only=indexes)
        self._submit([spec], 9)

    def tag_some(self) -> None:
        """Add or remove a tag."""
        tag = SetTag(self._chance.choice(TAGS), self._chance.random() < 0.5)
        self._node.call("runner", tag, lambda result, error: None)

    def drain(self) -> None:
        """Drain for a while."""
        self._node.call("runner", SetDraining(True), lambda result, error: None)
        self._clock.after(self._chance.random() * 60, self.undrain)

    def undrain(self) -> None:
        """Let tasks start again."""
        self._node.call("runner", SetDraining(False), lambda result, error: None)

    def put_file(self) -> None:
        """The file that tasks wait for is there now, or gone again."""
        (self._node.files.add if self._chance.random() < 0.7 else self._node.files.discard)(FILE)

    # ---- phase two ----

    def mend(self, round_number: int) -> None:
        """One round of doing what a person would do about tasks that cannot go on."""
        self._node.files.add(FILE)
        if round_number % 3 == 0:
            for tag in TAGS:
                on = bool(round_number // 3 % 2)
                self._node.call("runner", SetTag(tag, on), lambda result, error: None)
        self.undrain()
        for task in list(self._facts.lives()):
            self._mend(task, round_number)

    def _mend(self, task: TaskFacts, round_number: int) -> None:
        plan = parse_plan(str(task.spec.command))
        endless = "forever" in plan.flags and task.spec.time_limit is None
        if plan.serial in self._maker.impossible or endless:
            self._change("cancel", [task.id])
            return
        elements = [p for p in task.parts if split_element(p) and not task.parts[p].final]
        self._change("release", [task.id, *elements])
        culprits = [self._facts.tasks[a.id] for a in task.spec.after if a.id in self._facts.tasks]
        culprits = [self._newest(culprit) for culprit in culprits]
        culprits = [c for c in culprits if c.final]
        if culprits and round_number % 2 == 1:
            culprit = self._chance.choice(culprits)
            if round_number < 8:
                self.redo(culprit)
            elif round_number >= 9:
                self._change("cancel", [task.id])

    def _newest(self, task: TaskFacts) -> TaskFacts:
        while task.redone_as:
            task = self._facts.tasks[task.redone_as[-1]]
        return task

    def check(self) -> None:
        """Promises, once everything is quiet."""
        for task in sorted(self.acknowledged):
            facts = self._facts.tasks.get(task)
            if facts is None:
                raise Violation("an acknowledged task is never lost", task, task)
            if not facts.final:
                raise Violation("an acknowledged task becomes final", task, task)
        kept = {parse_plan(str(t.spec.command)).serial for t in self._facts.tasks.values()}
        broken = (self._refused - self._doubtful) & kept
        accepted = {
            parse_plan(str(self._facts.tasks[task].spec.command)).serial
            for task in self.acknowledged
        }
        if broken - accepted:
            raise Violation("what is refused is not done", f"tasks number {sorted(broken)}")
