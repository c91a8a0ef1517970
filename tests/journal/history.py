"""Histories of a few nodes: entries that each wrote, knowing some of what the others wrote."""

from __future__ import annotations

import sqlite3
from random import Random

from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Kept,
    Lost,
    Released,
    Started,
    Submitted,
    Suspected,
    Tagged,
    Untagged,
    encode,
)
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import LoadedTask
from leoronic.core.replication_messages import Body
from leoronic.core.spec import After, TaskSpec
from leoronic.journal.database import create
from leoronic.journal.journal import Journal, TakenEntries
from leoronic.journal.reads import Reads

NODES = ("aa", "bb", "cc")
TARGETS = {"one": ["one"], "two": ["two"], "arr": ["arr.0", "arr.1", "arr.2"]}
SPECS = {"one": TaskSpec("x"), "two": TaskSpec("y"), "arr": TaskSpec("z", count=3)}


class Peer:
    """A journal that takes what others wrote, and what can be read of it."""

    def __init__(self, node: str = "zz") -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        create(self.connection, node)
        self.journal = Journal(self.connection, node)
        self.reads = Reads(self.connection)

    def write(self, *entries: Entry) -> list[Body]:
        """Write as this node, and commit."""
        written = self.journal.write(entries)
        self.journal.commit()
        return written.bodies

    def take(self, *bodies: Body, **vectors: dict[str, int]) -> TakenEntries:
        """Take from others, and commit."""
        taken = self.journal.take(bodies, **vectors)
        self.journal.commit()
        return taken

    def live(self) -> list[LoadedTask]:
        """The live tasks, but for the order in which they came."""
        live = (
            LoadedTask(**{f: getattr(t, f) for f in t.__struct_fields__} | {"order": 0})
            for t in self.reads.live()
        )
        return sorted(live, key=lambda task: task.task)

    def state(self, task: str) -> str | None:
        """The state of a task."""
        row = self.reads.task(task)
        assert row is not None
        return row.state

    def close(self) -> None:
        """The end of this world."""
        self.connection.close()


class History:
    """What `NODES` wrote: `bodies[node]` with, for each, the vector that its writer had."""

    def __init__(self, random: Random, steps: int) -> None:
        self._random = random
        self.entries: dict[str, list[Entry]] = {node: [] for node in NODES}
        self.needs: dict[str, list[dict[str, int]]] = {node: [] for node in NODES}
        self._views = {node: dict.fromkeys(NODES, 0) for node in NODES}
        self._ends = 0
        for _ in range(steps):
            node = random.choice(NODES)
            if random.random() < 0.25:
                self._hear(node, random.choice(NODES))
            else:
                self._write(node)

    def bodies(self, node: str) -> list[Body]:
        """The journal of `node`, as it travels."""
        return [Body(node, n, encode(entry)) for n, entry in enumerate(self.entries[node], 1)]

    def interleaved(self, random: Random) -> list[Body]:
        """All entries in an order that keeps cause before effect."""
        bodies = {node: self.bodies(node) for node in NODES}
        have = dict.fromkeys(NODES, 0)
        found: list[Body] = []
        while True:
            ready = [
                node
                for node in NODES
                if have[node] < len(bodies[node])
                and all(have[n] >= k for n, k in self.needs[node][have[node]].items())
            ]
            if not ready:
                assert sum(map(len, bodies.values())) == len(found)
                return found
            node = random.choice(ready)
            for _ in range(random.choice((1, 1, 3))):
                if have[node] < len(bodies[node]) and all(
                    have[n] >= k for n, k in self.needs[node][have[node]].items()
                ):
                    found.append(bodies[node][have[node]])
                    have[node] += 1

    def _hear(self, node: str, other: str) -> None:
        for origin, number in self._views[other].items():
            self._views[node][origin] = max(self._views[node][origin], number)

    def _known(self, node: str) -> list[Entry]:
        return [e for o, n in self._views[node].items() for e in self.entries[o][:n]]

    def _write(self, node: str) -> None:
        entry = self._make(node, self._known(node))
        if entry is None:
            return
        self.needs[node].append(dict(self._views[node]))
        self.entries[node].append(entry)
        self._views[node][node] += 1

    def _make(self, node: str, known: list[Entry]) -> Entry | None:
        random = self._random
        task = random.choice(list(TARGETS))
        at = float(random.randrange(20))
        if not any(isinstance(e, Submitted) and e.task == task for e in known):
            after = (After(random.choice("xyz")),) if random.random() < 0.3 else ()
            spec = SPECS[task]
            spec = TaskSpec(spec.command, count=spec.count, after=after, name=node)
            return Submitted(task, spec, at)
        target = random.choice(TARGETS[task])
        runs = {(e.attempt, e.node) for e in known if isinstance(e, Started) and e.task == target}
        ended = {(e.attempt, e.node) for e in known if isinstance(e, Finished) and e.task == target}
        mine = sorted(run for run in runs - ended if run[1] == node)
        kind = random.randrange(16)
        if kind < 4:
            attempt = max((a for a, _ in runs), default=0) + 1
            return Started(target, attempt, node, at, "life")
        if kind < 8 and mine:
            self._ends += 1
            cancelled = any(isinstance(e, Cancelled) and e.task in (target, task) for e in known)
            code = random.choice((0, 1))
            outcome = Outcome(
                at,
                at + self._ends,
                exit_code=code,
                reason="cancelled" if cancelled and code else "",
                stdout=StreamRef(random.choice((0, 5000)), file="f"),
            )
            return Finished(target, *random.choice(mine), outcome, random.random() < 0.7)
        if kind < 10 and runs:
            run = random.choice(sorted(runs))
            begun = run[1] != node or random.random() < 0.5
            return Lost(target, *run, at, f"of {node}", random.random() < 0.5, begun)
        if kind == 10 and random.random() < 0.4:
            return Cancelled(random.choice((task, target)), at)
        if kind == 11:
            return Held(task, random.randrange(1, 4), at, random.choice(("", "why")))
        if kind == 12:
            return Released(
                random.choice((task, target)), random.randrange(1, 4), at, random.randrange(3)
            )
        if kind == 13:
            return random.choice((Tagged, Untagged))("n", random.choice("st"), at)
        if kind == 14:
            return Suspected(random.choice(NODES), at, "silent")
        if kind == 15 and ended:
            run = random.choice(sorted(ended))
            return Kept(target, *run, random.choice(("stdout", "stderr")), 5000)
        return None
