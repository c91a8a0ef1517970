"""Many tasks at once: how fast they are taken, what each costs, and who is slowed."""

from __future__ import annotations

import json
import time
from pathlib import Path

from integration.bench import rate
from integration.bench.figure import Figure, Goal
from integration.bench.rivals import Huey, HyperQueue
from integration.bench.session import Session, command_line, ours
from integration.harness import Node, wait_until
from leoronic.core import commands

PART = 100_000
MILLION = 1_000_000
DISPATCHED = 2000
FEW_BEHIND = 1000
ROUNDS = 3
RIVAL_TASKS = 10_000
TURNS_S_MAX = 60.0


def write_tasks(path: Path, count: int, first: int = 0) -> Path:
    """A file of `count` distinct tasks, as JSON lines."""
    with path.open("w") as file:
        for number in range(first, first + count):
            file.write(json.dumps({"command": f"echo task number {number}"}) + "\n")
    return path


def dispatch_rate(node: Node, count: int) -> float:
    """Tasks a second: how fast a drained node ends `count` tasks once it may, all else waiting."""
    with node.client() as client:
        before = client.request(commands.Status())["tasks"].get("succeeded", 0)
        began = time.perf_counter()
        client.request(commands.Drain(undo=True))
        while True:
            done = client.request(commands.Status())["tasks"].get("succeeded", 0) - before
            if done >= count:
                break
            if time.perf_counter() - began > TURNS_S_MAX:
                raise AssertionError(f"tasks do not run: {node.counts()}")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        client.request(commands.Drain())
    wait_until(lambda: not node.counts().get("running"), "the last of them to end")
    return float(done) / seconds


def array_request_ms(node: Node) -> float:
    """Milliseconds of one request for an array of a million, which is cancelled again."""
    with node.client() as client:
        blob = json.dumps({"command": "echo $LEORONIC_INDEX", "count": MILLION}).encode()
        began = time.perf_counter()
        ids = client.request(commands.Submit(), blob)["ids"]
        seconds = time.perf_counter() - began
        client.request(commands.Cancel(ids))
    return seconds * 1e3


def measure(session: Session) -> list[Figure]:
    """A million in all: three files of 100,000, and the rest in one, which goes in parts."""
    total, part = session.scaled(MILLION), session.scaled(PART)
    rest = total - ROUNDS * part
    tasks = write_tasks(session.folder / "tasks.jsonl", part)
    many = write_tasks(session.folder / "many.jsonl", rest, part)
    count = session.scaled(RIVAL_TASKS)
    with session.node() as big, session.node() as small:
        for node in (big, small):
            # Warm shells and all code paths, before memory is looked at.
            rate.run_tasks(node, 100)
            node.ask(commands.Drain())
        before = big.memory()
        submitted = session.take_turns(
            ROUNDS,
            {
                "ours": lambda: [part / command_line("submit", "-f", str(tasks), node=big)],
                **{
                    kind.name: session.measured(kind, "submission", count, lambda s: count / s)
                    for kind in (Huey, HyperQueue)
                },
            },
        )
        session.end_rivals()
        parts_rate = rest / command_line("submit", "-f", str(many), node=big)
        session.say(f"  {total:,} tasks wait")
        # What it needed for reading is given back after a while; the rest is what they cost.
        time.sleep(2)
        each = (big.memory() - before) / total
        dispatched = session.take_turns(
            session.rounds(ROUNDS),
            {
                "ours": lambda: [dispatch_rate(big, session.scaled(DISPATCHED))],
                f"with {FEW_BEHIND:,} behind": lambda: [_with_few(session, small)],
            },
        )
        arrays = [array_request_ms(small) for _ in range(5)]
    named = {f"{name}, {count:,} tasks": found for name, found in submitted.items()}
    return [
        Figure(
            f"`submit -f` of {part:,} distinct tasks, durable, the whole command",
            "tasks/s",
            ours(named, f"ours, {count:,} tasks"),
            named,
            True,
            Goal(100_000),
        ),
        Figure(f"the same, {rest:,} in one file", "tasks/s", [parts_rate], {}, True, Goal(100_000)),
        Figure(f"memory of a waiting task, of {total:,}", "bytes", [each], {}, False, Goal(400)),
        Figure(
            f"first {session.scaled(DISPATCHED):,} tasks with {total:,} behind",
            "tasks/s",
            ours(dispatched),
            dispatched,
            True,
            # "No slower": within what two runs of the same differ by.
            Goal(0.95, f"with {FEW_BEHIND:,} behind"),
        ),
        Figure("an array of 1,000,000: one request", "ms", arrays, {}, False, Goal(50)),
    ]


def _with_few(session: Session, node: Node) -> float:
    count = session.scaled(DISPATCHED)
    waiting = node.counts().get("waiting", 0)
    missing = count + FEW_BEHIND - waiting
    lines = "\n".join(json.dumps({"command": f"echo task number {n}"}) for n in range(missing))
    node.ask(commands.Submit(lines=True), lines.encode())
    return dispatch_rate(node, count)
