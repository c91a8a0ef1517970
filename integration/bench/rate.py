"""Short tasks, `echo hi`, their outputs kept: how many a second."""

from __future__ import annotations

import json
import time

from integration.bench.figure import Figure, Goal
from integration.bench.rivals import (
    Huey,
    HyperQueue,
    HyperQueueSingle,
    Limit,
    Parallel,
    Rival,
    Spooler,
    Xargs,
)
from integration.bench.session import Session, ours
from integration.harness import Node, wait_until
from leoronic.core import commands

TASKS = 2000
ROUNDS = 5
WARM_UP = 200
RIVALS: tuple[type[Rival], ...] = (
    Xargs, Limit, Huey, Spooler, HyperQueue, HyperQueueSingle, Parallel,
)  # fmt: skip


def run_tasks(node: Node, count: int, *, fresh: bool = False) -> float:
    """Seconds from the submission of `count` tasks until all have ended, each one well."""
    task = {"command": "echo hi", **({"fresh_shell": True} if fresh else {})}
    lines = (json.dumps(task).encode() + b"\n") * count
    with node.client() as client:
        before = client.request(commands.Status())["tasks"].get("succeeded", 0)
        began = time.perf_counter()
        ids = client.request(commands.Submit(lines=True), lines)["ids"]
        for _ in client.stream(commands.Wait(ids[-1:], 120.0)):
            pass
        # Almost done: others end in another order.
        while client.request(commands.Status())["tasks"].get("succeeded", 0) < before + count:
            if time.perf_counter() - began > 120:
                raise AssertionError(f"tasks do not end: {node.counts()}")
            time.sleep(0.002)
        seconds = time.perf_counter() - began
    for task_id in ids[:: max(count // 10, 1)]:
        assert b"hi\n" == node.output(task_id)
    return seconds


def measure(session: Session) -> list[Figure]:
    """With warm shells beside all rivals; with a new bash each beside those that do the same."""
    count = session.scaled(TASKS)
    with session.node() as node:
        for fresh in (False, True):
            run_tasks(node, WARM_UP, fresh=fresh)
        wait_until(lambda: not node.counts().get("running"), "an idle node")
        samples = session.take_turns(
            session.rounds(ROUNDS),
            {
                "ours": lambda: [count / run_tasks(node, count)],
                "fresh": lambda: [count / run_tasks(node, count, fresh=True)],
                **{
                    kind.name: session.measured(kind, "tasks", count, lambda s: count / s)
                    for kind in RIVALS
                },
            },
        )
    warm, fresh_shells = ours(samples), ours(samples, "fresh")
    beside = {name: samples[name] for name in (Xargs.name, Limit.name)}
    return [
        Figure(f"{count:,} times `echo hi`", "tasks/s", warm, samples, True, Goal(1.5, Xargs.name)),
        Figure(f"{count:,} times, `fresh_shell`", "tasks/s", fresh_shells, beside, True),
    ]
