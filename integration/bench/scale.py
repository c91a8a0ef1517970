"""A cluster that grows to 32 nodes on this one machine: what each costs idle, and what they do."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass

from integration.bench import machine
from integration.bench.figure import Figure, format_number
from integration.bench.ground import bridge_counters
from integration.bench.session import Session
from integration.large import Large, drain, large, wait_same

SIZES = (2, 4, 8, 16, 32)
SIZES_QUICK = (2, 4, 8)
TASKS = 5000
SETTLE_S = 6.0
WATCH_S = 10.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Size:
    """An idle cluster of `nodes`; the rest are medians over its nodes, and for each of them."""

    nodes: int
    sent_bytes_per_s: float
    sent_to_each_peer: float
    memory_mib: float
    cpu_percent: float
    mesh_s: float
    """From the start of those that were new until all saw all."""

    COLUMNS = (
        "nodes", "sent by each, bytes/s", "to each peer, bytes/s", "memory of each (PSS), MiB",
        "share of a core, each, %", "until all new ones saw all, s",
    )  # fmt: skip

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `COLUMNS`."""
        values = (
            self.sent_bytes_per_s, self.sent_to_each_peer, self.memory_mib, self.cpu_percent,
            self.mesh_s,
        )  # fmt: skip
        return (str(self.nodes), *map(format_number, values))


def look(made: Large, mesh_s: float, seconds: float) -> Size:
    """What an idle cluster costs meanwhile."""
    pids = {name: node.pids() for name, node in made.nodes.items()}
    began = time.monotonic()
    bytes_before = bridge_counters(made)
    cpu_before = {name: machine.cpu_seconds(found) for name, found in pids.items()}
    time.sleep(seconds)
    passed = time.monotonic() - began
    bytes_after = bridge_counters(made)
    cpu = [machine.cpu_seconds(found) - cpu_before[name] for name, found in pids.items()]
    sent = statistics.median(bytes_after[name][0] - bytes_before[name][0] for name in pids)
    return Size(
        len(pids),
        sent / passed,
        sent / passed / (len(pids) - 1),
        statistics.median(node.memory() for node in made.nodes.values()) / MIB,
        statistics.median(cpu) / passed * 100,
        mesh_s,
    )


def measure(session: Session) -> list[Figure]:
    """One cluster that grows; its sizes go to the session, since they are a table of their own."""
    sizes = SIZES_QUICK if session.quick else SIZES
    count = session.scaled(TASKS)
    with large(session.folder / "scale", sizes[-1]) as made:
        for size in sizes:
            session.say(f"  {size} nodes")
            began = time.monotonic()
            made.grow(size)
            mesh_s = time.monotonic() - began
            time.sleep(SETTLE_S)
            session.sizes.append(look(made, mesh_s, 5.0 if session.quick else WATCH_S))
        session.say(f"  {count:,} tasks at three of {sizes[-1]}")
        nodes = list(made.nodes.values())
        drained = drain(nodes, count)
        wait_same(nodes)
    growth = [
        later.sent_to_each_peer / sooner.sent_to_each_peer
        for sooner, later in itertools.pairwise(session.sizes)
    ]
    session.say(f"  per peer, from size to size: {[format_number(g) for g in growth]} times")
    return [
        Figure(
            f"{sizes[-1]} nodes on this machine: {count:,} tasks of three of them, known to all",
            "s",
            [drained],
        )
    ]
