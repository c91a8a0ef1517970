"""Files that many want: what their origin sends, and what they add to a task.

Machines in network namespaces, so that what goes over each link is counted, headers and all else
included. The contents are new in each round.
"""

from __future__ import annotations

import filecmp
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from integration.bench.figure import Figure, Goal
from integration.bench.ground import bridge_counters, ground, wait_meshed
from integration.bench.session import Session, ours
from integration.harness import Node
from integration.lab import Lab
from leoronic.core import commands

MIB = 1 << 20
ORIGIN, OTHERS = "a", "bcdefg"
PUT_MIB = 256
PUT_S_MAX = 120.0
TIMES_SENT_MAX = 2.0

TASKS = 1000
WARM_UP = 50
SHARED_BYTES = MIB
TASKS_S_MAX = 120.0
# Once it is 1; the rest is TLS, headers, and that each entry names the file.
TIMES_RECEIVED_MAX = 1.5
SAMPLED = 50
BROUGHT, THERE = "brought", "there"

ROUNDS = 3


def random_file(path: Path, size: int) -> Path:
    """A file of so many bytes that nobody has seen before."""
    with path.open("wb") as file:
        for begin in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - begin)))
    return path


def measure(session: Session) -> list[Figure]:
    """The same file to six nodes at once, then the same file for a thousand tasks."""
    return [*_fetched_by_many(session), *_brought_by_many(session)]


# ---- one file, many nodes ----


def put(made: Lab, source: Path, names: Sequence[str]) -> tuple[float, float]:
    """Bring a file from the origin to these machines, all at once.

    Returns how many times its size the origin has sent, and the seconds until all have it in place.
    """
    origin, size = made.nodes[ORIGIN], source.stat().st_size
    one = names[0] if len(names) == 1 else ""
    before, began = bridge_counters(made)[ORIGIN][0], time.monotonic()
    with origin.client(PUT_S_MAX) as client:
        stream = client.stream(commands.Put([str(source)], node=one))
        for _ in stream:
            if time.monotonic() - began > PUT_S_MAX:
                raise AssertionError(f"{source.name} is not there after {PUT_S_MAX:g} s")
    seconds = time.monotonic() - began
    sent = bridge_counters(made)[ORIGIN][0] - before
    for name in names:
        told = stream.result["nodes"][name]
        assert not told["problems"], told
        placed = made.nodes[name].root / source.name
        assert filecmp.cmp(source, placed, shallow=False), placed
        placed.unlink()
    (origin.root / source.name).unlink(missing_ok=True)
    return sent / size, seconds


def _fetched_by_many(session: Session) -> list[Figure]:
    mib = session.scaled(PUT_MIB)
    sent: dict[int, list[float]] = {1: [], len(OTHERS): []}
    with ground(session.folder / "many", ORIGIN + OTHERS) as made:
        made.lab.start(options=("--cpus", "1"))
        wait_meshed(made.lab)

        def to(names: str) -> list[float]:
            source = random_file(session.folder / "wanted", mib * MIB)
            times, seconds = put(made.lab, source, names)
            session.say(f"  {len(names)}: sent {times:.2f} times in {seconds:.2f} s")
            sent[len(names)].append(times)
            return [seconds]

        samples = session.take_turns(
            session.rounds(ROUNDS), {"ours": lambda: to(OTHERS), "one node": lambda: to(OTHERS[:1])}
        )
    what = f"{len(OTHERS)} nodes fetch the same {mib} MiB at once"
    return [
        Figure(
            f"{what}: sent by the origin",
            "times the file",
            sent[len(OTHERS)],
            {"one node": sent[1]},
            goal=Goal(TIMES_SENT_MAX),
        ),
        Figure(f"{what}: until all have it", "s", ours(samples), {"one node": samples["one node"]}),
    ]


# ---- one file, many tasks ----


def _brought_by_many(session: Session) -> list[Figure]:
    count = session.scaled(TASKS)
    received: dict[str, list[float]] = {BROUGHT: [], THERE: []}
    with ground(session.folder / "tasks", "ab") as made:
        made.lab.start(options=("--cpus", "1"))
        wait_meshed(made.lab)
        a, b = (made.lab.nodes[name] for name in "ab")
        for node in (a, b):
            random_file(node.root / THERE, SHARED_BYTES)
        run(a, b, WARM_UP, THERE)

        def tasks(name: str) -> list[float]:
            if name == BROUGHT:
                random_file(a.root / BROUGHT, SHARED_BYTES)
            before = bridge_counters(made.lab)["b"][1]
            seconds = run(a, b, count, name)
            bytes_received = bridge_counters(made.lab)["b"][1] - before
            received[name].append(bytes_received / SHARED_BYTES)
            return [count / seconds]

        samples = session.take_turns(
            session.rounds(ROUNDS),
            {"ours": lambda: tasks(BROUGHT), "without a file": lambda: tasks(THERE)},
        )
    extra = [with_it - less for with_it, less in zip(*received.values(), strict=True)]
    what = f"{count:,} tasks that bring the same 1 MiB"
    return [
        Figure(
            f"{what}: received by the other of two nodes because of it",
            "times the file",
            extra,
            {"all it receives without a file": received[THERE]},
            goal=Goal(TIMES_RECEIVED_MAX),
        ),
        Figure(
            what,
            "tasks/s",
            ours(samples),
            {"without a file": samples["without a file"]},
            more=True,
        ),
    ]


def task_lines(count: int, name: str) -> bytes:
    """`count` tasks that succeed if the file of that name is there; `BROUGHT` comes with them."""
    task: dict[str, object] = {"command": f"[ -s {name} ]"}
    if name == BROUGHT:
        task["files"] = [name]
    return (json.dumps(task).encode() + b"\n") * count


def run(a: Node, b: Node, count: int, name: str) -> float:
    """Seconds until `count` such tasks of `a` have ended, each well, some of them on `b`."""
    with a.client(TASKS_S_MAX) as client:
        before = client.request(commands.Status())["tasks"]
        began = time.perf_counter()
        submit = commands.Submit(lines=True, cwd=str(a.root))
        ids = client.request(submit, task_lines(count, name))["ids"]
        while True:
            tasks = client.request(commands.Status())["tasks"]
            done = tasks.get("succeeded", 0) - before.get("succeeded", 0)
            if done >= count:
                break
            failed = tasks.get("failed", 0) - before.get("failed", 0)
            if failed or time.perf_counter() - began > TASKS_S_MAX:
                raise AssertionError(f"{done} of {count} tasks succeeded, {failed} failed")
            time.sleep(0.002)
        seconds = time.perf_counter() - began
    where = {a.show(task)["node"] for task in ids[:: max(count // SAMPLED, 1)]}
    assert {"a", "b"} == where, f"tasks ran on {where}"
    return seconds
