"""What must hold when a queue offers tasks, and when a scheduler assigns them.

Each is judged by what this life of the machine had been told by then, and by nothing else.
"""

from __future__ import annotations

import re
from collections import Counter

from leoronic.core.conditions import AllWithCmdDone, HasFile, HasTag, NotTag
from leoronic.core.effects import Effect, Send
from leoronic.core.peer import Assign, AssignClass, AssignItem, FilesPresent, Offer
from leoronic.core.queue_messages import Committed, Item, Loaded, Offered, Withdrawn
from leoronic.core.records import TaskClass
from leoronic.core.spec import TaskSpec, command_text
from leoronic.core.view import View
from leoronic.sim.facts import Facts, TaskFacts
from leoronic.sim.story import Violation


class QueueView:
    """What this life of the queue has been told: some beginning of what is on its disk."""

    def __init__(self, disk: Facts) -> None:
        self.facts = Facts(disk.forgotten, disk.ghosts)
        self._disk = disk
        self._heard = 0

    def sees(self, message: object, loads: dict[int, int]) -> None:
        """The queue took a message; `loads[life]` is how much was on disk when it was loaded."""
        match message:
            case Loaded(last=True, life=life):
                self._hears(loads[life])
            case Committed(entries) if self._heard or self.facts.log or entries:
                last = (entries[-1].origin, entries[-1].number) if entries else None
                log = self._disk.log
                for at in range(self._heard, len(log)):
                    if (log[at].origin, log[at].number) == last:
                        self._hears(at + 1)
                        break
            case _:
                pass

    def _hears(self, upto: int) -> None:
        for numbered in self._disk.log[self._heard : upto]:
            self.facts.happens(numbered)
        self._heard = max(self._heard, upto)

    def offers(self, effects: list[Effect]) -> None:
        """What it shows the scheduler."""
        for effect in effects:
            if type(effect) is Send and isinstance(effect.message, Offered):
                for item in effect.message.items:
                    self.only_what_may_start_is_offered(item, effect.message.task_class)

    def only_what_may_start_is_offered(self, item: Item, task_class: TaskClass) -> None:
        """As far as the queue has been told: not held, not waiting, its conditions hold."""
        task = self.facts.base(item.task)
        part = task.parts.get(item.task)
        final = task.final or (part.final if part else "")
        if final:
            raise Violation("what is final is not offered", f"{item} is {final}", item.task)
        if self.facts.is_held(item.task):
            raise Violation("nothing starts while it is held", f"{item} is offered", item.task)
        if part is not None and item.attempt <= part.attempt:
            raise Violation("each attempt has a number of its own", f"{item}", item.task)
        broken = self.facts.broken_dependency(task)
        if broken:
            raise Violation("no task starts before its `after` holds", broken, item.task)
        for gate in task_class.gates:
            for other in self.facts.lives():
                if other is task:
                    continue
                if isinstance(gate, AllWithCmdDone):
                    # Which tasks there are the journal tells, which may know more by then.
                    over = self._disk.tasks[other.id].final
                    shut = not over and _shuts(other.spec, gate)
                else:
                    shut = other.order < task.order and _surely_waits(other)
                if shut:
                    raise Violation(
                        "no task starts before its conditions hold",
                        f"{item.task}: {gate.text}, but there is {other.id}",
                        item.task,
                    )


class SchedulerView:
    """What this life of the scheduler of node `me` has been told."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._offered: Counter[str] = Counter()
        self._classes: dict[int, TaskClass] = {}
        self._class_of: dict[str, int] = {}
        self._offers: dict[str, Offer] = {}
        self._files: dict[str, frozenset[str]] = {}
        self._view: View | None = None

    def sees(self, message: object) -> None:
        """The scheduler took a message."""
        match message:
            case Offered(task_class, items):
                self._classes[task_class.number] = task_class
                for item in items:
                    # Twice, if it asked for all again while some were on their way.
                    self._offered[item.task] += 1
                    self._class_of[item.task] = task_class.number
            case Withdrawn(number, tasks):
                if tasks is None:
                    tasks = [task for task in self._offered if self._class_of[task] == number]
                for task in tasks:
                    self._offered.pop(task, None)
            case Offer(node):
                self._offers[node] = message
            case FilesPresent(node, present):
                self._files[node] = present
            case View():
                self._view = message
            case _:
                pass

    def assigns(self, effects: list[Effect]) -> None:
        """What it hands to executors."""
        for effect in effects:
            if type(effect) is Send and isinstance(effect.message, Assign):
                node = effect.to.partition("@")[2] or self._me
                classes = {c.number: c for c in effect.message.classes}
                for item in [*effect.message.items, *effect.message.ahead]:
                    self.only_what_was_offered_is_assigned(item)
                    self.the_node_suits_what_is_assigned(node, item)
                    self.its_class_is_described(item, classes)

    def only_what_was_offered_is_assigned(self, item: AssignItem) -> None:
        """What was withdrawn in time does not start."""
        if not self._offered[item.task]:
            raise Violation("only what was offered is assigned", f"{item}", item.task)
        self._offered[item.task] -= 1

    def its_class_is_described(self, item: AssignItem, classes: dict[int, AssignClass]) -> None:
        """An executor elsewhere knows of a class what the message says, and no more."""
        known = classes.get(item.class_number)
        if known is None or known.need != self._classes[item.class_number].need:
            raise Violation("the class of what is assigned is described", f"{item}", item.task)

    def the_node_suits_what_is_assigned(self, node: str, item: AssignItem) -> None:
        """Tags and files are as the node last said; a draining node gets only what is its own."""
        task_class = self._classes[item.class_number]
        offer = self._offers.get(node)
        if offer is None:
            raise Violation("nothing is assigned to who offered nothing", f"{item}", item.task)
        suits = bool(task_class.node) or not offer.draining
        suits = suits and task_class.node in ("", node, offer.name)
        for condition in task_class.worker:
            match condition:
                case HasTag(tag):
                    suits = suits and tag in offer.tags
                case NotTag(tag):
                    suits = suits and tag not in offer.tags
                case HasFile(path):
                    suits = suits and path in self._files.get(node, ())
                case _:
                    suits = False
        if not suits:
            raise Violation(
                "no task starts before its conditions hold", f"{item} on {node}", item.task
            )
        if self._view is not None and node != self._me and node not in self._view.executors():
            raise Violation("nothing is assigned to who is down", f"{item} on {node}", item.task)


def _surely_waits(task: TaskFacts) -> bool:
    return (
        task.elements is None
        and not task.parts
        and not task.spec.after
        and not task.spec.node
        and not task.spec.resources
        and not task.spec.conditions
        and task.spec.memory <= 1000
        and task.spec.cpus <= 1
        and not task.is_held()
    )


def _shuts(spec: TaskSpec, gate: AllWithCmdDone) -> bool:
    """Whether `gate` waits for such a task; those that carry the condition too do not count."""
    return gate.text not in spec.conditions and bool(re.search(gate.regex, command_text(spec)))
