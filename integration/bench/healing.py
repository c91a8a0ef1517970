"""A split between two machines heals after each side has taken many tasks of its own."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

from integration.bench.figure import Figure, Goal
from integration.bench.ground import ground, wait_meshed
from integration.bench.session import Session
from integration.harness import Node, wait_until
from leoronic.core import commands

RECORDS = 100_000
GOAL_S = 5.0
HEAL_S_MAX = 120.0
PART = 10_000
NEVER = "worker:tag nowhere"
WORKING = "worker:tag working"
WORKED = 20_000
BEFORE_S = 10.0


def known(node: Node) -> int:
    """How many tasks this node knows of."""
    return sum(node.counts().values())


def submit(node: Node, count: int, task: dict[str, object]) -> None:
    """Submit `count` of them, in parts."""
    line = json.dumps(task).encode() + b"\n"
    with node.client() as client:
        for start in range(0, count, PART):
            client.request(commands.Submit(lines=True), line * min(PART, count - start))


def longest_pause(path: Path, since: float, until: float) -> float:
    """Seconds between two ends of tasks, at most, of those in that time."""
    ends = [float(line) for line in path.read_text().split()]
    inside = [since, *(end for end in sorted(ends) if since < end < until), until]
    return max(later - sooner for sooner, later in itertools.pairwise(inside))


def measure(session: Session) -> list[Figure]:
    """Cut, submit on both sides, heal; on one of them short tasks run all the while."""
    count = session.scaled(RECORDS)
    with ground(session.folder / "heal", "ab") as made:
        a = made.lab.node("a", "--cpus", "2", "--tag", "working")
        b = made.lab.node("b", "--cpus", "2")
        made.lab.start()
        wait_meshed(made.lab)
        made.lab.split("a", "b")
        wait_until(
            lambda: (a.states()["b"], b.states()["a"]) == ("down", "down"), "a split", within_s=30
        )
        session.say(f"  split; {count:,} tasks")
        for node in (a, b):
            submit(node, count // 2, {"command": "echo never", "conditions": [NEVER]})
        ends = made.folder / "ends"
        ends.touch()
        # Each is a line of its own file system write, with its own time.
        work = f"sleep 0.005; echo $EPOCHREALTIME >> {ends}"
        submit(a, WORKED, {"command": work, "conditions": [WORKING]})
        total = count + WORKED
        wait_until(lambda: ends.stat().st_size > 2000, "work", within_s=60, story=a.counts)
        time.sleep(BEFORE_S)
        before = longest_pause(ends, time.time() - BEFORE_S, time.time())
        session.say("  heal")
        healed = time.monotonic()
        made.lab.heal()
        wait_until(
            lambda: "up" in (a.states()["b"], b.states()["a"]), "they meet", within_s=HEAL_S_MAX
        )
        met, met_at = time.monotonic(), time.time()
        wait_until(
            lambda: min(known(a), known(b)) >= total,
            "both know all",
            within_s=HEAL_S_MAX,
            story=lambda: (known(a), known(b), a.tail(), b.tail()),
        )
        took = time.monotonic() - met
        session.say(f"  met {met - healed:.2f} s after the healing, knew all {took:.2f} s later")
        during = longest_pause(ends, met_at, time.time())
        assert ends.read_text().count("\n") < WORKED, "there was too little work"
    return [
        Figure(
            f"a split of two heals, {count:,} records: both know all, from their meeting",
            "s",
            [took],
            {},
            False,
            Goal(GOAL_S),
        ),
        Figure("from the cable to their meeting", "s", [met - healed]),
        Figure(
            "longest pause between two ends of short tasks meanwhile",
            "s",
            [during],
            {"before": [before]},
        ),
    ]
