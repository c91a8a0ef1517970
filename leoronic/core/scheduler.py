"""The scheduler: which task starts next, and where.

Priority first, then the order of submission; the first task in that order that fits starts. A task
that others keep overtaking is not starved: after `PATIENCE_S` its node takes nothing that would
keep it waiting longer. Tasks of equal needs are one class and the queue shows a window of each
class, so a round costs classes times nodes, whatever the number of tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from leoronic.core.conditions import HasFile, HasTag, NotTag
from leoronic.core.effects import Asked, Effect, Fired, Reply, Send, SetTimer
from leoronic.core.queue_messages import Feasible, Item, Offered, SchedulerStarted, Withdrawn
from leoronic.core.records import TaskClass
from leoronic.core.resources import Ledger, shortfalls
from leoronic.core.run import AttemptKey
from leoronic.core.scheduler_messages import (
    Assign,
    CheckFiles,
    Explain,
    FilesPresent,
    Freed,
    Offer,
)

PATIENCE_S = 5.0
FILES_EVERY_S = 2.0


class Start:
    """The machine's first message."""


class _Class:
    """The window of one class, oldest first."""

    __slots__ = ("items", "obstacles", "overtaken_at", "task_class")

    def __init__(self, task_class: TaskClass) -> None:
        self.task_class = task_class
        self.items: deque[Item] = deque()
        self.obstacles: list[str] = []  # why no node could ever run it, as the queue was told
        self.overtaken_at: float | None = None  # since when younger tasks pass it by


class _Node:
    """One executor, as its offers and our assignments make it."""

    def __init__(self, offer: Offer) -> None:
        self.ledger = Ledger(offer.capacity)
        self.name = offer.name
        self.tags = offer.tags
        self.draining = offer.draining
        self.files: frozenset[str] = frozenset()
        # A reservation: the class that waits for this node, and what was started beside it since.
        self.reserved: int | None = None
        self.beside: set[AttemptKey] = set()
        self.wants: dict[int, int] = {}


class SchedulerMachine:
    """See the module. Its memory can be lost: the queue and the executors tell it all again."""

    def __init__(self) -> None:
        self._classes: dict[int, _Class] = {}
        self._nodes: dict[str, _Node] = {}
        self._effects: list[Effect] = []
        self._now = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Offered: self._on_offered,
            Withdrawn: self._on_withdrawn,
            Offer: self._on_offer,
            Freed: self._on_freed,
            FilesPresent: self._on_files_present,
            Fired: self._on_fired,
            Asked: self._on_asked,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message; `now` in seconds."""
        self._now = now
        self._handlers[type(message)](message)
        self._place()
        effects, self._effects = self._effects, []
        return effects

    def _on_start(self, _message: Start) -> None:
        self._effects.append(Send("queue", SchedulerStarted()))

    def _on_offered(self, message: Offered) -> None:
        number = message.task_class.number
        known = self._classes.get(number)
        if known is None:
            known = self._classes[number] = _Class(message.task_class)
        if known.items and message.items[0].order < known.items[-1].order:
            # Tasks came back (a retry, a release): they keep their place in the order.
            merged = sorted([*known.items, *message.items], key=lambda item: item.order)
            known.items = deque(merged)
        else:
            known.items.extend(message.items)
        self._judge(known)
        self._ask_files()

    def _on_withdrawn(self, message: Withdrawn) -> None:
        known = self._classes.get(message.class_number)
        if known is None:
            return
        if message.tasks is None:
            known.items.clear()
        else:
            gone = set(message.tasks)
            known.items = deque(item for item in known.items if item.task not in gone)
        self._forget_if_empty(known)

    def _forget_if_empty(self, known: _Class) -> None:
        if not known.items:
            number = known.task_class.number
            self._classes.pop(number, None)
            for node in self._nodes.values():
                if node.reserved == number:
                    node.reserved = None
                    node.beside.clear()

    def _on_offer(self, message: Offer) -> None:
        if message.fresh and message.node in self._nodes:
            # Assignments may have ended with its former life: have the queue offer all again.
            self._classes.clear()
            self._effects.append(Send("queue", SchedulerStarted()))
        old = self._nodes.get(message.node)
        node = self._nodes[message.node] = _Node(message)
        for held in message.held:
            node.ledger.restore((held.task, held.attempt), held.need)
        if old is not None:
            node.files = old.files
            self._keep_reservation(message.node, node, old)
        for known in self._classes.values():
            self._judge(known)
        self._ask_files()

    def _keep_reservation(self, node_id: str, node: _Node, old: _Node) -> None:
        """A reservation outlives a new offer, unless the node can no longer serve it.

        Offers come whenever a disk fills up: without this the task that waits would be starved.
        """
        known = None if old.reserved is None else self._classes.get(old.reserved)
        if (
            known is not None
            and self._admits(node_id, known.task_class)
            and not shortfalls(known.task_class.need, node.ledger.capacity)
        ):
            node.reserved = old.reserved
            node.beside = old.beside.intersection(node.ledger.held)

    def _on_freed(self, message: Freed) -> None:
        node = self._nodes.get(message.node)
        if node is not None:
            for key, successor in message.attempts:
                need = node.ledger.held.get(key)
                node.ledger.release(key)
                if need is not None and successor is not None:
                    node.ledger.restore(successor, need)
                if key in node.beside:
                    node.beside.discard(key)
                    if successor is not None:
                        node.beside.add(successor)
            node.wants.update(message.wants)

    def _on_files_present(self, message: FilesPresent) -> None:
        node = self._nodes.get(message.node)
        if node is not None:
            node.files = message.present

    def _on_fired(self, message: Fired) -> None:
        if message.name == "files":
            self._ask_files()

    def _ask_files(self) -> None:
        """While tasks wait for files, look for them every `FILES_EVERY_S`."""
        paths = sorted(
            {
                condition.path
                for known in self._classes.values()
                for condition in known.task_class.worker
                if isinstance(condition, HasFile)
            }
        )
        if paths:
            self._effects.append(Send("runner", CheckFiles(paths)))
            self._effects.append(SetTimer("files", self._now + FILES_EVERY_S))

    def _judge(self, known: _Class) -> None:
        """Tell the queue if no node could run this class even when it is empty."""
        if not self._nodes:
            return
        obstacles: list[str] = []
        for node_id, node in self._nodes.items():
            found = self._never(node_id, node, known.task_class)
            if not found:
                obstacles = []
                break
            obstacles += [f"{node.name}: {obstacle}" for obstacle in found]
        if obstacles != known.obstacles:
            known.obstacles = obstacles
            self._effects.append(Send("queue", Feasible(known.task_class.number, obstacles)))

    def _never(self, node_id: str, node: _Node, task_class: TaskClass) -> list[str]:
        if task_class.node and task_class.node not in (node_id, node.name):
            return [f"the task is meant for node {task_class.node}"]
        return shortfalls(task_class.need, node.ledger.capacity)

    # ---- placing ----

    def _place(self) -> None:
        """One round: start whatever fits, in order of priority and submission."""
        if not self._classes or not self._nodes:
            return
        order = sorted(
            self._classes.values(), key=lambda c: (-c.task_class.priority, c.items[0].order)
        )
        chosen: dict[str, list[tuple[Item, TaskClass]]] = {}
        overtaken: list[_Class] = []
        position = 0
        while position < len(order):
            known = order[position]
            node_id = self._node_for(known.task_class)
            if node_id is None:
                overtaken.append(known)
                position += 1
                continue
            self._assign(known, node_id, chosen)
            for passed in overtaken:
                self._note_overtaken(passed)
            if not known.items:
                self._forget_if_empty(known)
                position += 1
            elif not _still_first(order, position):
                # Its next task is younger than another class's: keep the order.
                order[position:] = sorted(
                    order[position:],
                    key=lambda c: (-c.task_class.priority, c.items[0].order),
                )
        self._reserve(overtaken)
        ahead = self._look_ahead()
        for node_id in self._nodes:
            if node_id in chosen or node_id in ahead:
                assign = Assign(chosen.get(node_id, []), ahead.get(node_id, []))
                self._effects.append(Send(_executor(node_id), assign))

    def _look_ahead(self) -> dict[str, list[tuple[Item, TaskClass]]]:
        """Queue up tasks of the class whose turn it is, where the executors want some."""
        ahead: dict[str, list[tuple[Item, TaskClass]]] = {}
        if not any(node.wants for node in self._nodes.values()) or not self._classes:
            return ahead
        known = min(
            self._classes.values(), key=lambda c: (-c.task_class.priority, c.items[0].order)
        )
        task_class = known.task_class
        if task_class.on_loss == "hold":
            return ahead  # one that never ran must not be held because its runner was lost
        for node_id, node in self._nodes.items():
            room = node.wants.pop(task_class.number, 0)
            if not room or node.reserved is not None or not self._admits(node_id, task_class):
                continue
            items: list[tuple[Item, TaskClass]] = []
            while known.items and len(items) < room:
                items.append((known.items.popleft(), task_class))
            ahead[node_id] = items
        self._forget_if_empty(known)
        return ahead

    def _assign(
        self, known: _Class, node_id: str, chosen: dict[str, list[tuple[Item, TaskClass]]]
    ) -> None:
        item = known.items.popleft()
        key = (item.task, item.attempt)
        node = self._nodes[node_id]
        known.overtaken_at = None
        if key in node.ledger.held:
            return  # it was assigned already, and the queue did not know that yet
        node.ledger.take(key, known.task_class.need)
        if node.reserved == known.task_class.number:
            node.reserved = None
            node.beside.clear()
        elif node.reserved is not None:
            node.beside.add(key)
        chosen.setdefault(node_id, []).append((item, known.task_class))

    def _node_for(self, task_class: TaskClass) -> str | None:
        """The node to run on now: of those that fit, the one with the most free cpus."""
        best: str | None = None
        best_free = -1
        for node_id, node in self._nodes.items():
            if not node.ledger.fits(task_class.need) or not self._admits(node_id, task_class):
                continue
            if not self._respects_reservation(node, task_class):
                continue
            free = node.ledger.capacity.cpus_milli - node.ledger.cpus_milli
            if free > best_free:
                best, best_free = node_id, free
        return best

    def _admits(self, node_id: str, task_class: TaskClass) -> bool:
        """Whether the node may run the class, resources apart."""
        node = self._nodes[node_id]
        if task_class.node:  # pinned: even a draining node runs what is meant for it alone
            return task_class.node in (node_id, node.name)
        return not node.draining and all(_holds(c, node) for c in task_class.worker)

    def _respects_reservation(self, node: _Node, task_class: TaskClass) -> bool:
        """Whether starting the class leaves room for the task the node is reserved for."""
        if node.reserved is None or node.reserved == task_class.number:
            return True
        big = self._classes[node.reserved].task_class.need
        if big.exclusive or task_class.need.exclusive:
            return False
        both = Ledger(node.ledger.capacity)
        both.restore(("", 0), big)
        for key in node.beside:
            both.restore(key, node.ledger.held[key])
        return both.fits(task_class.need)

    def _note_overtaken(self, known: _Class) -> None:
        if known.overtaken_at is None:
            known.overtaken_at = self._now
            self._effects.append(SetTimer("patience", self._now + PATIENCE_S))

    def _reserve(self, overtaken: list[_Class]) -> None:
        """Give each task that was overtaken for too long a node of its own to wait for."""
        for known in overtaken:
            number = known.task_class.number
            if (
                known.overtaken_at is None
                or self._now < known.overtaken_at + PATIENCE_S
                or any(node.reserved == number for node in self._nodes.values())
            ):
                continue
            for node_id, node in self._nodes.items():
                if (
                    node.reserved is None
                    and self._admits(node_id, known.task_class)
                    and not shortfalls(known.task_class.need, node.ledger.capacity)
                ):
                    node.reserved = number
                    break

    # ---- questions ----

    def _on_asked(self, asked: Asked) -> None:
        assert isinstance(asked.message, Explain)
        known = self._classes.get(asked.message.class_number)
        answer: dict[str, list[str]] = {}
        if known is not None:
            for node_id, node in self._nodes.items():
                answer[node.name] = self._why(node_id, node, known)
        self._effects.append(Reply(asked.request, answer))

    def _why(self, node_id: str, node: _Node, known: _Class) -> list[str]:
        task_class = known.task_class
        if task_class.node and task_class.node not in (node_id, node.name):
            return [f"the task is meant for node {task_class.node}"]
        reasons = [] if task_class.node or not node.draining else ["the node is draining"]
        reasons += [f"{_text(c)} does not hold" for c in task_class.worker if not _holds(c, node)]
        reasons += node.ledger.missing(task_class.need)
        if not reasons and not self._respects_reservation(node, task_class):
            reasons.append("the node is kept free for a bigger task that waited longer")
        return reasons or ["it can start here; others are before it"]


def _still_first(order: list[_Class], position: int) -> bool:
    if position + 1 == len(order):
        return True
    here, after = order[position], order[position + 1]
    return (-here.task_class.priority, here.items[0].order) <= (
        -after.task_class.priority,
        after.items[0].order,
    )


def _executor(_node_id: str) -> str:
    """The actor that executes for a node."""
    return "runner"


def _holds(condition: HasTag | NotTag | HasFile, node: _Node) -> bool:
    match condition:
        case HasTag(tag):
            return tag in node.tags
        case NotTag(tag):
            return tag not in node.tags
        case HasFile(path):
            return path in node.files


def _text(condition: HasTag | NotTag | HasFile) -> str:
    match condition:
        case HasTag(tag):
            return f"worker:tag {tag}"
        case NotTag(tag):
            return f"worker:not_tag {tag}"
        case HasFile(path):
            return f"worker:has_file {path}"
