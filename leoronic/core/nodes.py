"""One executor as a scheduler sees it: its last offer, and what was freed and assigned since."""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.conditions import HasFile, HasTag, NotTag, Unknown
from leoronic.core.peer import Freed, Offer
from leoronic.core.records import TaskClass, WorkerCondition
from leoronic.core.resources import Ledger, Need, shortfalls
from leoronic.core.run import AttemptKey


class Ours(NamedTuple):
    """An attempt that this scheduler assigned with `number`; `need` None: behind another."""

    number: int
    task_class: TaskClass
    need: Need | None


class NodePicture:
    """See the module. `node` is its id."""

    def __init__(self, node: str, offer: Offer) -> None:
        self.node = node
        self.ours: dict[AttemptKey, Ours] = {}
        self.files: frozenset[str] = frozenset()
        self.wants: dict[int, int] = {}
        # A reservation: the class that waits for this node, and what was started beside it since.
        self.reserved: TaskClass | None = None
        self.beside: set[AttemptKey] = set()
        self._paused: dict[int, float] = {}  # classes that it does not want before then
        self._told: set[AttemptKey] = set()  # what it said it has, and we did not assign
        self._seen = 0
        self.update(offer)

    def update(self, offer: Offer) -> tuple[list[AttemptKey], list[AttemptKey]]:
        """Take a new offer. Of others' attempts and of ours, those that it does not have."""
        self.name = offer.name
        self.tags = offer.tags
        self.draining = offer.draining
        self._seen = offer.seen
        self.ledger = Ledger(offer.capacity)
        if offer.fresh:
            self.wants.clear()
        for held in offer.held:
            self.ledger.restore((held.task, held.attempt), held.need)
        told = {*self.ledger.held, *offer.queued}
        gone = [key for key in sorted(self._told) if key not in told]
        lost: list[AttemptKey] = []
        for key, ours in list(self.ours.items()):
            if key in told:
                continue
            if ours.number <= offer.seen:
                del self.ours[key]
                lost.append(key)
            elif ours.need is not None:
                self.ledger.restore(key, ours.need)  # under way
        self._told = {key for key in told if key not in self.ours}
        self.beside.intersection_update(self.ledger.held)
        reserved = self.reserved
        if reserved is not None and not self.could(reserved):
            self.release_reservation()
        return gone, lost

    def free(self, message: Freed) -> list[AttemptKey]:
        """Note what changed hands. Those that it no longer has (declined ones not among them)."""
        gone: list[AttemptKey] = []
        ledger = self.ledger
        for key, successor in message.attempts:
            if key == successor:
                continue  # nothing changed hands
            need = ledger.held.get(key)
            beside = key in self.beside
            self.drop(key)
            gone.append(key)
            if need is not None and successor is not None and successor not in ledger.held:
                ledger.restore(successor, need)
                if successor not in self.ours:
                    self._told.add(successor)
                if beside:
                    self.beside.add(successor)
        for held in message.taken:
            key = (held.task, held.attempt)
            if key not in ledger.held:
                ledger.restore(key, held.need)
                if key not in self.ours:
                    self._told.add(key)
                if self.reserved is not None:
                    self.beside.add(key)
        for number, room in message.wants.items():
            self.wants[number] = max(room - self._under_way(number, message.seen), 0)
        return gone

    def _under_way(self, class_number: int, seen: int) -> int:
        """How many of the class were sent to stand behind others after what it had `seen`."""
        if not seen:
            return 0
        return sum(
            ours.number > seen and ours.need is None and ours.task_class.number == class_number
            for ours in self.ours.values()
        )

    @property
    def settled(self) -> bool:
        """Whether it is known of all that was assigned to it that it arrived, or did not."""
        return all(ours.number <= self._seen for ours in self.ours.values())

    def drop(self, key: AttemptKey) -> Ours | None:
        """It does not have this attempt."""
        self.ledger.release(key)
        self._told.discard(key)
        self.beside.discard(key)
        return self.ours.pop(key, None)

    def assign(self, key: AttemptKey, task_class: TaskClass, number: int, *, ahead: bool) -> None:
        """It is going to have this attempt; `ahead`: behind one that it has."""
        self.ours[key] = Ours(number, task_class, None if ahead else task_class.need)
        if ahead:
            return
        self.ledger.take(key, task_class.need)
        if self.reserved is task_class:
            self.release_reservation()
        elif self.reserved is not None:
            self.beside.add(key)

    def release_reservation(self) -> None:
        """Nobody waits for this node any more."""
        self.reserved = None
        self.beside.clear()

    # ---- what may start here ----

    @property
    def free_cpus_milli(self) -> int:
        """What the choice between nodes goes by."""
        return self.ledger.capacity.cpus_milli - self.ledger.cpus_milli

    def may_start(self, task_class: TaskClass, now: float) -> bool:
        """Whether a task of the class can start here now."""
        return (
            self.ledger.fits(task_class.need)
            and self.admits(task_class)
            and self.leaves_room(task_class)
            and not self.is_paused(task_class.number, now)
        )

    def admits(self, task_class: TaskClass) -> bool:
        """Whether it may run the class, resources apart."""
        if task_class.node:  # pinned: even a draining node runs what is meant for it alone
            return task_class.node in (self.node, self.name)
        return not self.draining and all(_holds(c, self) for c in task_class.worker)

    def could(self, task_class: TaskClass) -> bool:
        """Whether a task of the class could start here if nothing else ran."""
        return self.admits(task_class) and not shortfalls(task_class.need, self.ledger.capacity)

    def leaves_room(self, task_class: TaskClass) -> bool:
        """Whether starting the class leaves room for the task the node is reserved for."""
        if self.reserved is None or self.reserved is task_class:
            return True
        big = self.reserved.need
        if big.exclusive or task_class.need.exclusive:
            return False
        both = Ledger(self.ledger.capacity)
        both.restore(("", 0), big)
        for key in self.beside:
            both.restore(key, self.ledger.held[key])
        return both.fits(task_class.need)

    def pause(self, class_number: int, until: float) -> None:
        """It does not want tasks of this class before `until`."""
        self._paused[class_number] = until

    def is_paused(self, class_number: int, now: float) -> bool:
        """Whether it is too early for this class."""
        return bool(self._paused) and self._paused.get(class_number, now) > now

    def end_pauses(self, now: float) -> float | None:
        """Forget those that are over; when the next one ends. None: there is none."""
        self._paused = {number: until for number, until in self._paused.items() if until > now}
        return min(self._paused.values(), default=None)

    def why_not(self, task_class: TaskClass) -> list[str]:
        """For people: all that stands in the way of a task of the class here."""
        if task_class.node and task_class.node not in (self.node, self.name):
            return [f"the task is meant for node {task_class.node}"]
        reasons = [] if task_class.node or not self.draining else ["the node is draining"]
        reasons += [_why_not(c) for c in task_class.worker if not _holds(c, self)]
        reasons += self.ledger.missing(task_class.need)
        if not reasons and not self.leaves_room(task_class):
            reasons.append("the node is kept free for a bigger task that waited longer")
        return reasons


def _holds(condition: WorkerCondition, node: NodePicture) -> bool:
    match condition:
        case Unknown():
            return False
        case HasTag(tag):
            return tag in node.tags
        case NotTag(tag):
            return tag not in node.tags
        case HasFile(path):
            return path in node.files


def _why_not(condition: WorkerCondition) -> str:
    if isinstance(condition, Unknown):
        return f"this version of leoronic does not know the condition {condition.text[:200]}"
    return f"{condition.text} does not hold"
