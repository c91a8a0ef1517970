"""Which task starts next, and where: a round over classes that wait and nodes that have room.

Priority first, then the order of submission; the first task in that order that fits starts. A round
looks only at what has changed since the last one: a class against all nodes if it got tasks, and
all classes against nodes whose standing changed. Between rounds nothing that waits could start.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator

from leoronic.core.claims import Claims
from leoronic.core.conditions import HasFile
from leoronic.core.nodes import NodePicture
from leoronic.core.peer import Assign, AssignClass, AssignItem
from leoronic.core.queue_messages import Item
from leoronic.core.records import TaskClass

PATIENCE_S = 5.0
# Of copies that stand by on a node, a task; there may be as many as stand in its lanes.
FILES_AHEAD_BYTES_MAX = 64 * 1024 * 1024


class Window:
    """The oldest tasks of one class that may start, oldest first; never empty between rounds."""

    __slots__ = ("items", "overtaken_at", "task_class")

    def __init__(self, task_class: TaskClass) -> None:
        self.task_class = task_class
        self.items: deque[Item] = deque()
        self.overtaken_at: float | None = None  # since when others pass it by

    def add(self, items: list[Item]) -> None:
        """More of its tasks may start; what comes back (a retry) keeps its place."""
        if self.items and items[0].order < self.items[-1].order:
            self.items = deque(sorted([*self.items, *items], key=lambda item: item.order))
        else:
            self.items.extend(items)

    @property
    def rank(self) -> tuple[int, int]:
        """Where its oldest task stands."""
        return (-self.task_class.priority, self.items[0].order)


class _Batch:
    """What one node is to be assigned in this round."""

    def __init__(self) -> None:
        self.items: list[AssignItem] = []
        self.ahead: list[AssignItem] = []
        self.classes: dict[int, AssignClass] = {}

    def add(self, item: Item, task_class: TaskClass, *, ahead: bool) -> None:
        number = task_class.number
        if number not in self.classes:
            self.classes[number] = AssignClass(number, task_class.need, bool(task_class.node))
        (self.ahead if ahead else self.items).append(
            AssignItem(item.task, item.attempt, item.retries_left, number, item.hold_if_lost)
        )


class Placement:
    """See the module. `me` is this node; `is_clear` says whether an origin's tasks may start."""

    def __init__(self, me: str, is_clear: Callable[[str], bool]) -> None:
        self.windows: dict[int, Window] = {}
        self.nodes: dict[str, NodePicture] = {}
        self.claims = Claims()
        self._me = me
        self._is_clear = is_clear
        self._changed_classes: dict[int, None] = {}
        self._changed_nodes: dict[str, None] = {}

    # ---- what changed ----

    def class_changed(self, number: int) -> None:
        """More of it may start than before."""
        self._changed_classes[number] = None

    def node_changed(self, node: str) -> None:
        """More may start there than before."""
        self._changed_nodes[node] = None

    def withdraw(self, number: int, tasks: list[str] | None) -> None:
        """Forget these tasks of a class; None: all."""
        window = self.windows.get(number)
        if window is None:
            return
        gone = None if tasks is None else set(tasks)
        window.items = deque(
            item for item in window.items if gone is not None and item.task not in gone
        )
        self.forget_if_empty(window)

    def forget_if_empty(self, window: Window) -> None:
        """A window without tasks is gone, and with it its reservation."""
        if window.items:
            return
        self.windows.pop(window.task_class.number, None)
        for node in self.nodes.values():
            if node.reserved is window.task_class:
                node.release_reservation()
                self.node_changed(node.node)

    def waiting(self) -> list[Window]:
        """Windows of origins that are clear, in order."""
        clear = [w for w in self.windows.values() if self._is_clear(w.task_class.origin)]
        return sorted(clear, key=lambda window: window.rank)

    def paths(self) -> list[str]:
        """Files that tasks wait for, sorted."""
        return sorted(
            {
                condition.path
                for window in self.windows.values()
                for condition in window.task_class.worker
                if isinstance(condition, HasFile)
            }
        )

    # ---- a round ----

    def round(self, number: int, now: float, *, contested: bool) -> list[tuple[str, Assign]]:
        """Place what fits; (node, `Assign` with that number), nodes in order.

        `contested`: others' tasks took room meanwhile, so whoever still waits was passed by.
        """
        batches: dict[str, _Batch] = {}
        if self.windows and self.nodes:
            while self._changed_classes or self._changed_nodes:
                self._place(batches, number, now, contested)
            self._look_ahead(batches, number, now)
        else:
            self._changed_classes.clear()
            self._changed_nodes.clear()
        return [
            (node, Assign(self._me, b.items, b.ahead, list(b.classes.values()), number=number))
            for node, b in sorted(batches.items())
        ]

    def _place(self, batches: dict[str, _Batch], number: int, now: float, contested: bool) -> None:
        classes, self._changed_classes = self._changed_classes, {}
        nodes, self._changed_nodes = self._changed_nodes, {}
        changed = [node for node in nodes if node in self.nodes]
        # The rank of a class moves as its tasks go: a heap keeps the order across classes.
        heap = [
            (*window.rank, class_number)
            for class_number, window in self.windows.items()
            if (changed or class_number in classes) and self._is_clear(window.task_class.origin)
        ]
        heapq.heapify(heap)
        rooms: dict[int, list[tuple[int, bool, str]]] = {}
        youngest: tuple[int, int] | None = None  # of those that start
        while heap:
            class_number = heap[0][2]
            window = self.windows[class_number]
            if class_number not in rooms:
                rooms[class_number] = self._rooms(
                    list(self.nodes) if class_number in classes else changed
                )
            node = self._choose(window.task_class, rooms[class_number], now)
            if node is None:
                heapq.heappop(heap)
                continue
            rank = window.rank
            if self._assign(window, node, batches, number):
                window.overtaken_at = None
                youngest = rank if youngest is None else max(rank, youngest)
            if window.items:
                heapq.heapreplace(heap, (*window.rank, class_number))
            else:
                heapq.heappop(heap)
                self.forget_if_empty(window)
        if contested or youngest is not None:
            for window in self.windows.values():
                if window.overtaken_at is None and self._is_clear(window.task_class.origin):
                    passed_by = youngest is not None and window.rank < youngest
                    if contested or passed_by:
                        window.overtaken_at = now

    def _rooms(self, nodes: list[str]) -> list[tuple[int, bool, str]]:
        rooms = [(-self.nodes[node].free_cpus_milli, node != self._me, node) for node in nodes]
        heapq.heapify(rooms)
        return rooms

    def _choose(
        self, task_class: TaskClass, rooms: list[tuple[int, bool, str]], now: float
    ) -> NodePicture | None:
        """Of the nodes where it fits, the one with the most free cpus; among equals this one."""
        while rooms:
            free, other, node_id = rooms[0]
            node = self.nodes[node_id]
            if not node.may_start(task_class, now):
                heapq.heappop(rooms)  # it only gets fuller in this round
            elif node.free_cpus_milli != -free:
                heapq.heapreplace(rooms, (-node.free_cpus_milli, other, node_id))
            else:
                return node
        return None

    def _assign(
        self, window: Window, node: NodePicture, batches: dict[str, _Batch], number: int
    ) -> bool:
        item = window.items.popleft()
        key = (item.task, item.attempt)
        if key in self.claims:
            # It was assigned already, and the queue did not know that yet.
            self.claims.await_end(key)
            return False
        if key in node.ledger.held:
            # The node says that it has it: what the claims say does not count then.
            self.claims.take(key, node.node)
            self.claims.await_end(key)
            return False
        was_reserved = node.reserved
        self._take(item, window.task_class, node, batches, number, ahead=False)
        if was_reserved is not node.reserved:
            self.node_changed(node.node)
        return True

    def _take(
        self,
        item: Item,
        task_class: TaskClass,
        node: NodePicture,
        batches: dict[str, _Batch],
        number: int,
        *,
        ahead: bool,
    ) -> None:
        key = (item.task, item.attempt)
        node.assign(key, task_class, number, ahead=ahead)
        self.claims.take(key, node.node)
        batches.setdefault(node.node, _Batch()).add(item, task_class, ahead=ahead)

    def _look_ahead(self, batches: dict[str, _Batch], number: int, now: float) -> None:
        """Queue up tasks of the class whose turn it is, where the executors want some."""
        if not any(node.wants for node in self.nodes.values()):
            return
        clear = (w for w in self.windows.values() if self._is_clear(w.task_class.origin))
        window = min(clear, key=lambda w: w.rank, default=None)
        # One that never ran must not be held because its runner was lost.
        if window is None or window.task_class.on_loss == "hold":
            return
        task_class = window.task_class
        # Files are placed while a task stands by, and it holds no room for them.
        if task_class.brings_files and task_class.need.storage > FILES_AHEAD_BYTES_MAX:
            return
        wanting = [
            node
            for node in self.nodes.values()
            if node.wants.get(task_class.number)
            and node.reserved is None
            and node.admits(task_class)
            and not node.is_paused(task_class.number, now)
        ]
        for place, node in enumerate(wanting):
            # What is left is shared out, so that the last ones do not all stand on one node.
            share = -(-len(window.items) // (len(wanting) - place))
            room = min(node.wants.pop(task_class.number), share)
            while window.items and room > 0:
                item = window.items.popleft()
                key = (item.task, item.attempt)
                if key in self.claims:
                    self.claims.await_end(key)
                    continue
                self._take(item, task_class, node, batches, number, ahead=True)
                room -= 1
        self.forget_if_empty(window)

    # ---- patience ----

    def overtaken(self) -> list[Window]:
        """Those that others pass by."""
        return [window for window in self.windows.values() if window.overtaken_at is not None]

    def reserve(self, now: float) -> Iterator[NodePicture]:
        """Give each that was overtaken for too long a node of its own to wait for."""
        for window in self.waiting():
            since = window.overtaken_at
            if since is None or now < since + PATIENCE_S or self.reserved_node(window):
                continue
            fitting = [
                node
                for node in self.nodes.values()
                if node.reserved is None and node.could(window.task_class)
            ]
            if fitting:
                node = max(fitting, key=lambda n: (n.free_cpus_milli, n.node == self._me))
                node.reserved = window.task_class
                yield node

    def reserved_node(self, window: Window) -> NodePicture | None:
        """The node that is kept free for the window's oldest."""
        for node in self.nodes.values():
            if node.reserved is window.task_class:
                return node
        return None
