"""Five machines with nothing to do, and then with far too much: nobody may be given up."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from integration.bench import machine
from integration.bench.figure import Figure, Goal
from integration.bench.ground import bridge_counters, ground, wait_meshed
from integration.bench.session import Session
from integration.harness import Node, wait_until
from integration.lab import Lab
from leoronic.core import commands

NAMES = "abcde"
SETTLE_S = 10.0
WATCH_S = 60.0
SATURATED_S = 60.0
SATURATED_SLOW_S = 600.0
CPUS = 2


def suspicions(node: Node) -> int:
    """How often this node has gone on without another."""
    with closing(sqlite3.connect(f"file:{node.database}?mode=ro", uri=True)) as database:
        query = "SELECT count(*) FROM entries WHERE origin = 1 AND body LIKE ?"
        [[found]] = database.execute(query, ('%"kind":"suspected"%',))
    return int(found)


def idle(made: Lab, seconds: float) -> tuple[list[float], list[float], list[float]]:
    """Percent of a core; bytes a second sent and received, to and from each peer; by node."""
    pids = {name: node.pids() for name, node in made.nodes.items()}
    began = time.monotonic()
    bytes_before = bridge_counters(made)
    cpu_before = {name: machine.cpu_seconds(pids[name]) for name in pids}
    time.sleep(seconds)
    passed = time.monotonic() - began
    bytes_after = bridge_counters(made)
    peers = len(made.nodes) - 1
    return (
        [(machine.cpu_seconds(pids[name]) - cpu_before[name]) / passed * 100 for name in pids],
        [(bytes_after[name][0] - bytes_before[name][0]) / passed / peers for name in pids],
        [(bytes_after[name][1] - bytes_before[name][1]) / passed / peers for name in pids],
    )


def saturate(session: Session, made: Lab, seconds: float) -> int:
    """Every slot of every node runs a loop that never ends; how many were given up meanwhile."""
    first, slots = made.nodes[made.names[0]], CPUS * len(made.nodes)
    # So that none of them waits behind another on the same node.
    ids = first.submit(*[{"command": "while :; do :; done", "time_limit": seconds + 300}] * slots)
    wait_until(
        lambda: first.counts().get("running") == slots, "all slots run", within_s=60,
        story=first.counts,
    )  # fmt: skip
    before = {name: suspicions(node) for name, node in made.nodes.items()}
    session.say(f"  {slots} loops for {seconds:g} s")
    time.sleep(seconds)
    found = {name: suspicions(node) - before[name] for name, node in made.nodes.items()}
    if any(found.values()):
        session.say(f"  given up: {found}")
    first.ask(commands.Cancel(ids))
    return sum(found.values())


def measure(session: Session) -> list[Figure]:
    """The same five nodes for both."""
    watch_s = 10.0 if session.quick else WATCH_S
    saturated_s = SATURATED_SLOW_S if session.slow else 10.0 if session.quick else SATURATED_S
    with ground(session.folder / "calm", NAMES) as made:
        made.lab.start(options=("--cpus", str(CPUS)))
        wait_meshed(made.lab)
        session.say(f"  five nodes, idle for {watch_s:g} s")
        time.sleep(SETTLE_S)
        cpu, sent, received = idle(made.lab, watch_s)
        deaths = saturate(session, made.lab, saturated_s)
    return [
        Figure("a cluster of 5, idle: share of a core, each node", "%", cpu, {}, False, Goal(0.5)),
        Figure("the same: sent to each peer", "bytes/s", sent, {}, False, Goal(1000)),
        Figure("the same: received from each peer", "bytes/s", received, {}, False, Goal(1000)),
        Figure(
            f"a cluster of 5, all slots busy, for {saturated_s:g} s: nodes given up",
            "times",
            [float(deaths)],
            {},
            False,
            Goal(0),
        ),
    ]
