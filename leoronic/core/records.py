"""What a node remembers of each live task, as little as it can.

A record is the join of the task's entries, in whatever order those come that were written without
knowing of each other: what became of its runs (`runs.py`), the last word on holding it (the highest
revision; of equal ones, a hold), and up to which attempt losses are forgiven. An entry that comes
again changes nothing; final is final. What most tasks share (whose they are, needs, conditions,
priority, retries) is one interned `TaskClass`; the text of the task stays on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Generic, TypeVar, cast

import msgspec

from leoronic.core.conditions import (
    AllWithCmdDone,
    HasFile,
    HasTag,
    NotTag,
    QueueIsFirst,
    Unknown,
    read_condition,
)
from leoronic.core.needs import need_of, rounded_up
from leoronic.core.resources import Need
from leoronic.core.runs import NO_RUNS, Runs
from leoronic.core.spec import TaskSpec

# A task that was lost this often is held: it may be what kills the machine.
LOSSES_MAX = 5

FINAL_STATES = ("succeeded", "failed", "cancelled")

T = TypeVar("T")

QueueCondition = QueueIsFirst | AllWithCmdDone
WorkerCondition = HasTag | NotTag | HasFile | Unknown


class Status(IntEnum):
    """Where a live task stands. What users see is `STATE_NAMES`."""

    DEPENDING = 0  # on tasks in `after`
    BLOCKED = 1  # it can never start as things stand
    DELAYED = 2  # until its retry is due
    READY = 3  # in its class's queue
    OFFERED = 4  # the scheduler has it in hand
    RUNNING = 5
    HELD = 6
    FINAL = 7


STATE_NAMES = {
    Status.DEPENDING: "waiting",
    Status.BLOCKED: "blocked",
    Status.DELAYED: "waiting",
    Status.READY: "waiting",
    Status.OFFERED: "waiting",
    Status.RUNNING: "running",
    Status.HELD: "held",
}


class TaskClass(msgspec.Struct, frozen=True, eq=False):
    """What tasks have in common for placing them. Interned: equal classes are one object.

    `origin` is the node that took them in; the one that stands in for it places them.
    `brings_files`: room for these is part of `need`.
    """

    number: int
    need: Need
    gates: tuple[QueueCondition, ...]
    worker: tuple[WorkerCondition, ...]
    priority: int
    retries: int
    retry_delay_s: float
    on_loss: str
    node: str
    origin: str = ""
    brings_files: bool = False
    # How many live tasks, arrays and elements of the class have each status: a queue of a million
    # is asked for its numbers again and again.
    tally: list[int] = msgspec.field(default_factory=lambda: [0] * len(Status))


class _Rare(Generic[T]):
    """A field of `Record` that most waiting tasks never need: kept apart, when it is set.

    A queue of a million is a million records: four fields less are 32 MB less.
    """

    def __init__(self, default: T) -> None:
        self._default = default
        self._name = ""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: Record, _owner: type) -> T:
        rare = record._rare
        return self._default if rare is None else cast(T, rare.get(self._name, self._default))

    def __set__(self, record: Record, value: T) -> None:
        if record._rare is None:
            if value == self._default:
                return
            record._rare = {}
        record._rare[self._name] = value


class Record:
    """One live task (or one element of an array that has started)."""

    __slots__ = ("_rare", "_status", "id", "order", "parent", "task_class")

    runs = _Rare(NO_RUNS)
    revision = _Rare(0)
    held = _Rare[str | None](None)  # the reason, while somebody holds it
    released = _Rare(0)  # the attempt up to which losses don't hold it

    def __init__(self, id: str, order: int, task_class: TaskClass) -> None:
        self.id = id
        self.order = order
        self.task_class = task_class
        self.parent: Record | None = None  # of an element: its array
        self._rare: dict[str, object] | None = None
        self._status = Status.READY
        task_class.tally[Status.READY] += 1

    def runs_to_change(self) -> Runs:
        """`runs`, of its own from now on."""
        runs = self.runs
        if runs is NO_RUNS:
            runs = self.runs = Runs()
        return runs

    def take_over(self, other: Record) -> None:
        """Know all that is known of `other`, but for whose it is and where it stands."""
        self._rare, other._rare = other._rare, None

    @property
    def status(self) -> Status:
        """Where the task stands; its class counts."""
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        tally = self.task_class.tally
        tally[self._status] -= 1
        tally[status] += 1
        self._status = status

    @property
    def not_before(self) -> float:
        """When it may be tried again, in seconds since the epoch; 0.0 if it need not wait."""
        if self._rare is None:
            return 0.0
        return self.runs.due(self.task_class.retry_delay_s)

    def join_hold(self, revision: int, held: str | None) -> bool:
        """Take in a hold (with its reason) or a release; whether that is news."""
        mine = (self.revision, self.held is not None, self.held or "")
        if (revision, held is not None, held or "") <= mine:
            return False
        self.revision, self.held = revision, held
        return True

    def is_lost_held(self) -> bool:
        """Whether a loss that nobody has looked at holds the task."""
        return self.runs.lost_hold > self.released

    def why_held(self) -> str | None:
        """The reason if the task must not start; an element is held with its array."""
        if self._rare is not None:
            if self.held is not None:
                return self.held
            if self.is_lost_held():
                attempt = self.runs.lost_hold
                return f"attempt {attempt} was lost; look what it did, then release the task"
        return None if self.parent is None else self.parent.why_held()

    def hold_if_lost(self) -> bool:
        """Whether its next loss holds it, instead of its being tried again."""
        return self.task_class.on_loss == "hold" or self.runs.losses + 1 >= LOSSES_MAX

    @property
    def state(self) -> str:
        """The state as users see it."""
        return STATE_NAMES[self.status]


class ClassTable:
    """Interns task classes, and forgets those that no live task uses."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[object, ...], TaskClass] = {}
        self._keys: dict[int, tuple[object, ...]] = {}
        self._uses: dict[int, int] = {}
        self._next = 1

    def intern(self, spec: TaskSpec, origin: str = "") -> TaskClass:
        """The class of `spec` as taken in by `origin`; one more task uses it."""
        # Most bring nothing along: then the fields themselves are the quickest to compare. Those
        # that do are classes of their own, as they may have to wait for it.
        size = rounded_up(sum(file.size for file in spec.files)) if spec.files else -1
        key = (
            origin,
            spec.cpus,
            spec.memory,
            spec.storage,
            tuple(sorted(spec.resources.items())) if spec.resources else (),
            size,
            spec.concurrent,
            tuple(spec.conditions) if spec.conditions else (),
            spec.priority,
            spec.retries,
            spec.retry_delay,
            spec.on_loss,
            spec.node,
        )
        found = self._by_key.get(key)
        if found is None:
            found = self._make(key, spec, need_of(spec), origin)
        self._uses[found.number] += 1
        return found

    def _make(self, key: tuple[object, ...], spec: TaskSpec, need: Need, origin: str) -> TaskClass:
        conditions = [read_condition(text) for text in spec.conditions]
        made = TaskClass(
            number=self._next,
            need=need,
            gates=tuple(c for c in conditions if isinstance(c, QueueCondition)),
            worker=tuple(c for c in conditions if isinstance(c, WorkerCondition)),
            priority=spec.priority,
            retries=spec.retries,
            retry_delay_s=spec.retry_delay,
            on_loss=spec.on_loss,
            node=spec.node,
            origin=origin,
            brings_files=bool(spec.files),
        )
        self._next += 1
        self._by_key[key] = made
        self._keys[made.number] = key
        self._uses[made.number] = 0
        return made

    def release(self, task_class: TaskClass) -> bool:
        """One task fewer uses the class; true if it was the last and the class is forgotten."""
        number = task_class.number
        self._uses[number] -= 1
        if self._uses[number]:
            return False
        del self._uses[number]
        del self._by_key[self._keys.pop(number)]
        return True

    def __iter__(self) -> Iterator[TaskClass]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)
