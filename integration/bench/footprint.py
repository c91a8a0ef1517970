"""What a node costs while it does nothing, and how fast it is there: memory, processor, start."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from integration.bench import machine, rate
from integration.bench.figure import Figure, Goal, Missing
from integration.bench.rivals import Huey, HyperQueue, Rival, Spooler
from integration.bench.session import Samples, Session
from integration.harness import Node, kill, proportional
from leoronic.client import Client
from leoronic.core import commands
from leoronic.errors import LeoronicError

STARTS = 5
RESTARTS = 3
QUEUED = 10_000
TASKS = 2000
SETTLE_S = 5.0
# Warm shells and what they hold are given up a minute after the last task.
COOL_S = 65.0
WATCH_S = 30.0
MIB = 2**20
READY_S_MAX = 20.0


class Idle(NamedTuple):
    """While doing nothing: bytes, share of a core in percent, wake-ups a second."""

    memory: float
    cpu_percent: float
    wakeups_per_s: float


def watch(sets: dict[str, list[int]], seconds: float) -> dict[str, Idle]:
    """What several sets of processes cost meanwhile: all watched over the same time."""

    def look() -> dict[str, tuple[float, int]]:
        return {
            name: (machine.cpu_seconds(pids), machine.wakeups(pids)) for name, pids in sets.items()
        }

    began, before = time.monotonic(), look()
    time.sleep(seconds)
    after, passed = look(), time.monotonic() - began
    return {
        name: Idle(
            proportional(pids),
            (after[name][0] - before[name][0]) / passed * 100,
            (after[name][1] - before[name][1]) / passed,
        )
        for name, pids in sets.items()
    }


def until_it_answers(node: Node) -> None:
    """Wait until the control socket answers; looks every millisecond."""
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            with Client(str(node.root), timeout_s=READY_S_MAX) as client:
                client.request(commands.Status())
            return
        except (LeoronicError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def start_seconds(session: Session, number: int) -> float:
    """From exec of the command until the control socket answers, in a folder that is new."""
    node = Node(session.folder / f"start{number}", "--cpus", "2")
    try:
        began = time.perf_counter()
        node.process = node.spawn()
        until_it_answers(node)
        return time.perf_counter() - began
    finally:
        node.close()


def restart_seconds(node: Node) -> float:
    """From the death of the core until another answers."""
    core = node.core_pid()
    began = time.perf_counter()
    kill(core)
    until_it_answers(node)
    return time.perf_counter() - began


def measure(session: Session) -> list[Figure]:
    """All of it; waits for two minutes, since idle takes time."""
    rounds = session.rounds(STARTS)
    session.say("  starting")
    starts = [start_seconds(session, number) for number in range(rounds)]
    with session.node() as node:
        session.say(f"  core killed with {QUEUED:,} tasks queued")
        node.ask(commands.Drain())
        node.submit(*[f"echo {number}" for number in range(QUEUED)])
        restarts = [restart_seconds(node) for _ in range(session.rounds(RESTARTS))]
    return [
        *_idle(session),
        Figure("start to ready", "s", starts, {}, False, Goal(0.5)),
        Figure(f"core killed, {QUEUED:,} queued: answers", "s", restarts, {}, False, Goal(2)),
    ]


def _idle(session: Session) -> list[Figure]:
    watch_s = 5.0 if session.quick else WATCH_S
    kinds: tuple[type[Rival], ...] = (Huey, Spooler, HyperQueue)
    rivals = {kind.name: session.rival(kind) for kind in kinds}
    with session.node() as node:
        sets = {"ours": node.pids()}
        session.say("  a new node, idle")
        time.sleep(SETTLE_S)
        new = node.memory()
        count = session.scaled(TASKS)
        rate.run_tasks(node, count)
        session.say(f"  idle after {count:,} tasks")
        time.sleep(SETTLE_S if session.quick else COOL_S)
        for name, rival in rivals.items():
            if isinstance(rival, Rival):
                sets[name] = rival.pids()
        seen = watch(sets, watch_s)
    missing: Samples = {name: r for name, r in rivals.items() if isinstance(r, Missing)}

    def beside(what: Callable[[Idle], float]) -> Samples:
        found: Samples = {name: [what(idle)] for name, idle in seen.items() if name != "ours"}
        return {**found, **missing}

    mine = seen["ours"]
    return [
        Figure("idle, new: all processes (PSS)", "MiB", [new / MIB], {}, False, Goal(45)),
        Figure(
            f"idle, after {count:,} tasks: all processes (PSS)",
            "MiB",
            [mine.memory / MIB],
            beside(lambda idle: idle.memory / MIB),
            False,
            Goal(45),
        ),
        Figure(
            "idle: share of a core", "%", [mine.cpu_percent],
            beside(lambda idle: idle.cpu_percent), False, Goal(0.3),
        ),
        Figure(
            "idle: wake-ups", "1/s", [mine.wakeups_per_s], beside(lambda idle: idle.wakeups_per_s)
        ),
    ]  # fmt: skip
