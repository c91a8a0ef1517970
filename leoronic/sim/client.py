"""The simulated people: submit, submit again, cancel, hold, release, redo, tag, drain, anywhere.

What they were told is what they hold the cluster to.
"""

from __future__ import annotations

from random import Random

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.queue_messages import Accepted, ChangeTasks, SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.errors import LeoronicError
from leoronic.sim.cluster import Cluster
from leoronic.sim.facts import Facts, TaskFacts
from leoronic.sim.file_actor import bring, is_lost
from leoronic.sim.node import SimNode
from leoronic.sim.plan import parse_plan
from leoronic.sim.story import Violation
from leoronic.sim.workload import FILE, TAGS, Maker, may_be_parent

# What has it is to end by itself: it shows that the cluster goes on.
PROBE_PRIORITY = 1000
# In these rounds what others wait for is done again; later those who wait are cancelled.
REDO_ROUNDS = 5


class Client:
    """Works with some nodes of a cluster. `promised[task]` are the nodes that were named."""

    def __init__(self, cluster: Cluster, chance: Random, maker: Maker) -> None:
        self.promised: dict[str, set[str]] = {}
        self.trying = 0  # submissions that will be tried again
        self._clock = cluster.clock
        self._chance = chance
        self._cluster = cluster
        self._maker = maker
        self._at = [chance.choice(cluster.nodes).name for _ in range(chance.choice((1, 2, 9)))]
        self._parents: list[str] = []
        self._doubtful: set[int] = set()  # serials that may be on disk though nobody said so
        self._refused: set[int] = set()

    # ---- where ----

    def _node(self) -> SimNode:
        """Where to ask: at one of the usual nodes, or another while that is down."""
        usual = self._chance.choice(self._at)
        node = next(node for node in self._cluster.nodes if node.name == usual)
        if node.up or self._chance.random() < 0.2:
            return node
        return self._chance.choice(self._cluster.nodes)

    def _facts(self, node: SimNode) -> Facts:
        return self._cluster.watch(node).facts

    def _some_facts(self) -> Facts:
        return self._facts(self._node())

    # ---- phase one ----

    def submit_some(self) -> None:
        """A batch of new tasks."""
        specs: list[TaskSpec] = []
        inside: list[str] = []
        for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
            spec = self._maker.spec([*self._parents[-8:], *inside])
            specs.append(spec)
            inside += [ref for ref in (spec.id, spec.name) if ref and may_be_parent(spec)]
        self.submit(specs)

    def submit(self, specs: list[TaskSpec], tries: int = 0, node: SimNode | None = None) -> None:
        """Submit these; again elsewhere if it fails and they carry ids of their own."""
        node = node or self._node()
        answered: list[bool] = []

        def told(result: object, error: LeoronicError | None) -> None:
            answered.append(True)
            if isinstance(result, Accepted):
                self._accepted(node, specs, result)
            elif error is not None:
                self._turned_down(specs, error, tries)

        if self._maker.files is not None:
            bring(node, specs, self._maker.files.contents)
        node.call("queue", SubmitSpecs(specs, "sim"), told)
        repeatable = all(spec.id for spec in specs) and not answered and tries < 4
        if repeatable and self._chance.random() < 0.2:
            # Some do not wait for an answer, and ask again meanwhile, maybe somewhere else.
            most_s = self._chance.choice((0.01, 3.0))
            self._submit_later(self._chance.random() * most_s, specs, 9)

    def _submit_later(self, delay_s: float, specs: list[TaskSpec], tries: int) -> None:
        def submit() -> None:
            self.trying -= 1
            self.submit(specs, tries)

        self.trying += 1
        self._clock.after(delay_s, submit)

    def _accepted(self, node: SimNode, specs: list[TaskSpec], accepted: Accepted) -> None:
        for spec, task in zip(specs, accepted.ids, strict=True):
            for holder in (node.id, *accepted.held_by):
                if task not in self._cluster.watches[holder].facts.tasks:
                    raise Violation(
                        "what is acknowledged is on the disks that are named",
                        f"{task} is not at {holder}: {spec}",
                        task,
                    )
            if task not in self.promised and may_be_parent(spec):
                self._parents += [task, spec.name] if spec.name else [task]
            self.promised.setdefault(task, set()).update((node.id, *accepted.held_by))

    def _turned_down(self, specs: list[TaskSpec], error: LeoronicError, tries: int) -> None:
        serials = {parse_plan(str(s.command)).serial for s in specs if not s.redo_of}
        if error.definite:
            self._refused |= serials
        else:
            self._doubtful |= serials
        if tries < 4 and all(spec.id for spec in specs):
            self._submit_later(self._chance.random() * 5, specs, tries + 1)

    def change_some(self) -> None:
        """Cancel, hold or release a few tasks or elements, maybe at two nodes at once."""
        tasks = self._some(3)
        if tasks:
            for _ in range(self._chance.choice((1, 1, 2))):
                self._change(self._chance.choice(("cancel", "hold", "hold", "release")), tasks)

    def _change(self, what: str, tasks: list[str]) -> None:
        self._node().call("queue", ChangeTasks(what, tasks, "by hand"), _ignore)

    def _some(self, most: int) -> list[str]:
        known = [t for t in self._some_facts().tasks.values() if t.spec.priority != PROBE_PRIORITY]
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
        ended = [t for t in self._some_facts().tasks.values() if t.final and t.elements is None]
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
        self.submit([spec], 9)

    def tag_some(self) -> None:
        """Add or remove a tag."""
        tag = SetTag(self._chance.choice(TAGS), self._chance.random() < 0.5)
        self._node().call("runner", tag, _ignore)

    def drain(self) -> None:
        """Drain a node for a while."""
        self._node().call("runner", SetDraining(True), _ignore)
        self._clock.after(self._chance.random() * 60, self.undrain)

    def undrain(self) -> None:
        """Let tasks start again, everywhere."""
        for node in self._cluster.nodes:
            node.call("runner", SetDraining(False), _ignore)

    def put_file(self) -> None:
        """The file that tasks wait for is there now, or gone again."""
        files = self._chance.choice(self._cluster.nodes).files
        (files.add if self._chance.random() < 0.7 else files.discard)(FILE)

    # ---- phase two ----

    def mend(self, round_number: int) -> None:
        """One round of doing what a person would do about tasks that cannot go on."""
        for node in self._cluster.nodes:
            node.files.add(FILE)
        self.undrain()
        facts = self._some_facts()
        lives = list(facts.lives())
        if round_number % 3 == 0:
            self._change_tags(lives, bool(round_number // 3 % 2))
        for task in lives:
            self._mend(facts, task, round_number)

    def _change_tags(self, lives: list[TaskFacts], on: bool) -> None:
        """All tags everywhere, on or off, while somebody waits for one of these."""
        if any("tag " in condition for task in lives for condition in task.spec.conditions):
            for node in self._cluster.nodes:
                for tag in TAGS:
                    node.call("runner", SetTag(tag, on), _ignore)

    def _mend(self, facts: Facts, task: TaskFacts, round_number: int) -> None:
        plan = parse_plan(str(task.spec.command))
        endless = "forever" in plan.flags and task.spec.time_limit is None
        lost = is_lost(self._cluster.nodes, task.spec)
        if plan.serial in self._maker.impossible or endless or lost:
            self._change("cancel", [task.id])
            return
        elements = [p for p in task.parts if split_element(p) and not task.parts[p].final]
        self._change("release", [task.id, *elements])
        culprits = [facts.tasks[a.id] for a in task.spec.after if a.id in facts.tasks]
        culprits = [_newest(facts, culprit) for culprit in culprits]
        culprits = [c for c in culprits if c.final]
        if culprits and round_number % 2 == 1:
            culprit = self._chance.choice(culprits)
            if round_number < REDO_ROUNDS:
                self.redo(culprit)
            else:
                self._change("cancel", [task.id])
        elif round_number >= 2 * REDO_ROUNDS and self._lost_parents(facts, task):
            self._change("cancel", [task.id])

    def _lost_parents(self, facts: Facts, task: TaskFacts) -> bool:
        """Whether what it runs after burned with all who held it."""
        return any(after.id not in facts.tasks for after in task.spec.after)

    # ---- at the end ----

    def check(self) -> None:
        """Promises, once everything is quiet."""
        facts = self._facts(self._cluster.nodes[0])
        history = self._cluster.history
        gone = history.destroyed | history.forgotten.anew
        for task, holders in history.forgotten.carried.items():
            self.promised.setdefault(task, set()).update(holders)
        for task in sorted(self.promised):
            known = facts.tasks.get(task)
            if known is None:
                if task in history.forgotten.by:
                    continue  # it was over: see there
                if self.promised[task] <= gone:
                    continue  # all that were named burned, or began anew and did not carry it
                raise Violation("an acknowledged task is never lost", task, task)
            if not known.final:
                raise Violation("an acknowledged task becomes final", task, task)
        kept = {parse_plan(str(t.spec.command)).serial for t in facts.tasks.values()}
        broken = (self._refused - self._doubtful) & kept
        accepted = {
            parse_plan(str(facts.tasks[task].spec.command)).serial
            for task in self.promised
            if task in facts.tasks
        }
        if broken - accepted:
            raise Violation("what is refused is not done", f"tasks number {sorted(broken)}")


def _newest(facts: Facts, task: TaskFacts) -> TaskFacts:
    while task.id in facts.redos:
        task = facts.tasks[facts.redos[task.id][-1]]
    return task


def _ignore(_result: object, _error: LeoronicError | None) -> None:
    """Nobody waits for this answer."""
