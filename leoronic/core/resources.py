"""What tasks need and nodes have: a ledger that can't be over-committed.

cpus are counted in thousandths, custom resources in millionths, so that fractions add up exactly;
memory and storage in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from leoronic.core.bounds import Amount, CpusMilli, Size
from leoronic.core.quantity import format_size

RESOURCES_MAX = 1000

# Of other nodes, too: sums of these must neither overflow nor be less than nothing.
Amounts = Annotated[tuple[tuple[str, Amount], ...], Meta(max_length=RESOURCES_MAX)]


def milli(cpus: float) -> int:
    """Fractional cpus as thousandths, rounded up so that nothing is ever free of charge."""
    return -int(-cpus * 1000 // 1)


def _micro(amount: float) -> int:
    return round(amount * 1_000_000)


class Need(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one task occupies while it runs. `resources` is sorted (name, amount) pairs."""

    cpus_milli: CpusMilli
    memory: Size
    storage: Size
    resources: Amounts = ()
    exclusive: bool = False


class Capacity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one node has for tasks."""

    cpus_milli: CpusMilli
    memory: Size
    storage: Size
    resources: Amounts = ()


class Ledger:
    """What of a node's capacity is taken, and by whom. Keys are attempts."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.held: dict[tuple[str, int], Need] = {}
        self._exclusive: tuple[str, int] | None = None
        self.cpus_milli = 0
        self.memory = 0
        self.storage = 0
        self._used_micro: dict[str, int] = {}

    def missing(self, need: Need) -> list[str]:
        """What stands in the way of `need` right now, in words; empty if it fits."""
        if self._exclusive is not None:
            return [f"task {self._exclusive[0]} has the node to itself"]
        if need.exclusive and self.held:
            return [f"wants the node to itself, and {_count(len(self.held))} there"]
        return shortfalls(need, self.capacity, self)

    def fits(self, need: Need) -> bool:
        """Whether `need` could be taken now."""
        if self._exclusive is not None or (need.exclusive and self.held):
            return False
        capacity = self.capacity
        if (
            self.cpus_milli + need.cpus_milli > capacity.cpus_milli
            or self.memory + need.memory > capacity.memory
            or self.storage + need.storage > capacity.storage
        ):
            return False
        return not need.resources or not shortfalls(need, capacity, self)

    def take(self, key: tuple[str, int], need: Need) -> None:
        """Occupy `need`. It must fit, and `key` must be new."""
        assert key not in self.held, f"{key} holds its share already"
        assert self.fits(need), f"{key} does not fit"
        self.restore(key, need)

    def restore(self, key: tuple[str, int], need: Need) -> None:
        """Occupy what something already running needs, even if the node has shrunk since."""
        self.held[key] = need
        self._add(need, 1)
        if need.exclusive:
            self._exclusive = key

    def release(self, key: tuple[str, int]) -> bool:
        """Give back what `key` holds; false if it holds nothing."""
        need = self.held.pop(key, None)
        if need is None:
            return False
        self._add(need, -1)
        if self._exclusive == key:
            self._exclusive = None
        return True

    def _add(self, need: Need, sign: int) -> None:
        self.cpus_milli += sign * need.cpus_milli
        self.memory += sign * need.memory
        self.storage += sign * need.storage
        for name, amount in need.resources:
            self._used_micro[name] = self.used_micro(name) + sign * _micro(amount)

    def used(self, name: str) -> float:
        """How much of the custom resource `name` is taken."""
        return self.used_micro(name) / 1_000_000

    def used_micro(self, name: str) -> int:
        """The same in millionths."""
        return self._used_micro.get(name, 0)

    def free(self) -> dict[str, float]:
        """What is free, for people: cpus, memory, storage and custom resources."""
        capacity = self.capacity
        free: dict[str, float] = {
            "cpus": (capacity.cpus_milli - self.cpus_milli) / 1000,
            "memory": capacity.memory - self.memory,
            "storage": capacity.storage - self.storage,
        }
        for name, amount in capacity.resources:
            free[name] = (_micro(amount) - self.used_micro(name)) / 1_000_000
        return free


def _count(tasks: int) -> str:
    return "1 task runs" if tasks == 1 else f"{tasks} tasks run"


def shortfalls(need: Need, capacity: Capacity, ledger: Ledger | None = None) -> list[str]:
    """What `capacity` (less what `ledger` has given out) lacks for `need`, in words."""
    short: list[str] = []
    taken = (ledger.cpus_milli, ledger.memory, ledger.storage) if ledger else (0, 0, 0)
    if taken[0] + need.cpus_milli > capacity.cpus_milli:
        short.append(_short("cpus", need.cpus_milli / 1000, capacity.cpus_milli / 1000))
    if taken[1] + need.memory > capacity.memory:
        short.append(_short("memory", need.memory, capacity.memory))
    if taken[2] + need.storage > capacity.storage:
        short.append(_short("storage", need.storage, capacity.storage))
    has: Mapping[str, float] = dict(capacity.resources)
    for name, amount in need.resources:
        used = ledger.used_micro(name) if ledger else 0
        if used + _micro(amount) > _micro(has.get(name, 0)):
            short.append(_short(name, amount, has.get(name, 0)))
    return short


def _short(what: str, need: float, has: float) -> str:
    if what in ("memory", "storage"):
        needs, all_ = f"{format_size(int(need))} of {what}", format_size(int(has))
    else:
        needs, all_ = f"{need:g} {what}", f"{has:g}"
    if need > has:
        return f"needs {needs}, the node has {all_} in all"
    return f"needs {needs}, less is free now"
