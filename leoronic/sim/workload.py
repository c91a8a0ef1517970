"""The specs that a seed's client submits."""

from __future__ import annotations

import math
from random import Random

import msgspec

from leoronic.core.resources import Capacity, milli
from leoronic.core.spec import After, TaskSpec
from leoronic.sim.file_actor import FileMix
from leoronic.sim.plan import Plan

# A command that other tasks wait for, by regex, carries one of these words.
WORDS = ("apple", "berry", "cherry")
TAGS = ("red", "blue")
FILE = "data/input"
# Of every simulated node.
MEMORY_MAX = 1000


class Mix:
    """How often a seed's tasks are of each kind: chances from 0 to 1."""

    def __init__(self, chance: Random, nodes: int) -> None:
        def pick(most: float) -> float:
            return chance.random() * most if chance.random() < 0.6 else 0.0

        self.own_id = pick(0.8)
        self.array = pick(0.5)
        self.after = pick(0.8)
        self.gated = pick(0.4)
        self.first = pick(0.3)
        self.tagged = pick(0.4)
        self.filed = pick(0.2)
        self.failing = pick(0.7)
        self.retried = pick(0.8)
        self.hold = pick(0.6)
        self.limited = pick(0.4)
        self.forever = pick(0.4)
        self.exclusive = pick(0.3)
        self.resources = pick(0.5)
        self.impossible = pick(0.1)
        self.pinned = pick(0.1)
        self.messy = pick(0.5)
        self.fickle = pick(0.5) if nodes > 1 else 0.0
        # A cluster's time is dear: each of its seconds is a heartbeat from each node to each.
        longest_s = 120.0 if nodes == 1 else 15.0
        self.work_s = math.exp(chance.uniform(math.log(0.01), math.log(longest_s)))

    def make_simple(self) -> None:
        """Only what ends by itself, and never keeps a node from the next task for long."""
        self.forever = self.exclusive = self.messy = self.limited = self.fickle = 0.0
        self.work_s = min(self.work_s, 2.0)

    def make_fickle(self) -> None:
        """Tasks that end at once, and in another way on the next node: all must agree on one."""
        self.fickle, self.work_s = 1.0, 3.0
        self.retried = self.failing = self.gated = self.first = self.forever = self.after = 0.0
        self.hold = self.messy = self.limited = self.exclusive = self.tagged = self.filed = 0.0


class Maker:
    """Makes specs; `made[serial]` is each of them by the serial number in its command.

    `capacities` are those of the nodes, by name.
    """

    def __init__(self, chance: Random, mix: Mix, capacities: dict[str, Capacity]) -> None:
        self.made: dict[int, TaskSpec] = {}
        self.impossible: set[int] = set()
        self.files: FileMix | None = None
        self._chance = chance
        self._mix = mix
        self._capacities = capacities
        self._gpus = any(capacity.resources for capacity in capacities.values())
        self._priorities = chance.choice([(0,), (0, 0, 5), (-3, 0, 9)])
        # Few different needs, or many: as many classes as that.
        most = max(capacity.cpus_milli for capacity in capacities.values()) / 1000
        self._cpus = chance.choice([(1.0,), (0.5, 1.0), (0.25, 1.0, min(1.5, most), most)])

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share

    def spec(self, parents: list[str]) -> TaskSpec:
        """One more task, that may run after some of `parents` (ids or names)."""
        mix, chance = self._mix, self._chance
        serial = len(self.made) + 1
        gated = self._happens(mix.gated)
        first = self._happens(mix.first)
        conditions = self._conditions(gated, first)
        # Whoever waits for the whole queue waits for nobody else, and nobody for a circle.
        after = () if gated or first else self._after(parents)
        retries = chance.randint(1, 3) if self._happens(mix.retried) else 0
        limit = None
        if self._happens(mix.limited):
            limit = round(mix.work_s * chance.uniform(0.5, 3.0), 3)
        count = chance.randint(1, 12) if self._happens(mix.array) else None
        spec = TaskSpec(
            self._plan(
                serial, retries, "gated" if gated or first else chance.choice(WORDS)
            ).command,
            cpus=chance.choice(self._cpus),
            memory=chance.choice((0, 0, 100, 400)),
            resources={"gpu": 1} if self._gpus and self._happens(mix.resources) else {},
            concurrent=not self._happens(mix.exclusive),
            conditions=conditions,
            after=after,
            name=f"name{serial}" if chance.random() < 0.5 else "",
            id=f"own{serial}x" if self._happens(mix.own_id) else "",
            priority=chance.choice(self._priorities),
            time_limit=limit,
            retries=retries,
            retry_delay=chance.choice((0.0, 1.0, 20.0)),
            on_loss="hold" if self._happens(mix.hold) else "retry",
            count=count,
        )
        spec = self._special(serial, spec)
        if self.files is not None:
            spec = self.files.add(spec)
        if not any(_fits(spec, name, c) for name, c in self._capacities.items()):
            self.impossible.add(serial)
        self.made[serial] = spec
        return spec

    def _special(self, serial: int, spec: TaskSpec) -> TaskSpec:
        """Tasks that never fit, and tasks meant for one node."""
        if self._happens(self._mix.impossible):
            return msgspec.structs.replace(spec, memory=MEMORY_MAX + 1)
        if self._happens(self._mix.pinned):
            return msgspec.structs.replace(
                spec, cpus=0.0, node=self._chance.choice(list(self._capacities)), conditions=()
            )
        return spec

    def _plan(self, serial: int, retries: int, word: str) -> Plan:
        mix, chance = self._mix, self._chance
        codes: tuple[int, ...] = (0,)
        if self._happens(mix.failing):
            codes = tuple(chance.choice((0, 1, 3)) for _ in range(retries + 1))
        flags: list[str] = []
        if self._happens(mix.forever):
            flags.append("forever")
        if self._happens(mix.messy):
            flags.append(chance.choice(("stubborn", "messy", "unstartable")))
        if self._happens(mix.fickle):
            flags.append("fickle")
        work_s = round(mix.work_s * chance.uniform(0.1, 2.0), 3)
        return Plan(serial, work_s, codes, tuple(flags), word)

    def _conditions(self, gated: bool, first: bool) -> tuple[str, ...]:
        mix, chance = self._mix, self._chance
        conditions: list[str] = []
        if gated:
            conditions.append(f"queue:all_with_cmd_done {chance.choice(WORDS)}")
        if first:
            conditions.append("queue:is_first")
        if self._happens(mix.tagged):
            kind = chance.choice(("tag", "not_tag"))
            conditions.append(f"worker:{kind} {chance.choice(TAGS)}")
        if self._happens(mix.filed):
            conditions.append(f"worker:has_file {FILE}")
        return tuple(conditions)

    def _after(self, parents: list[str]) -> tuple[After, ...]:
        if not parents or not self._happens(self._mix.after):
            return ()
        chosen = {self._chance.choice(parents) for _ in range(self._chance.randint(1, 3))}
        whens = ("succeeded", "succeeded", "failed", "ended")
        return tuple(After(parent, self._chance.choice(whens)) for parent in sorted(chosen))


def _fits(spec: TaskSpec, name: str, capacity: Capacity) -> bool:
    """Whether the node of this name could ever run it, its tags and files apart."""
    return (
        spec.node in ("", name)
        and milli(spec.cpus) <= capacity.cpus_milli
        and spec.memory <= capacity.memory
        and all(dict(capacity.resources).get(r, 0) >= n for r, n in spec.resources.items())
    )


def may_be_parent(spec: TaskSpec) -> bool:
    """Not those that wait for the whole queue: with a child before them they would wait for ever.

    A redo keeps its conditions and comes after the children that wait for it.
    """
    return not any(condition.startswith("queue:") for condition in spec.conditions)
