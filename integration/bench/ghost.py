"""A ghost: what a task costs there, and what the ghost itself costs, beside a node."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from integration.bench.figure import Figure, Goal
from integration.bench.session import Samples, Session, ours
from integration.ghosts import Ghost, ip_bytes, token_for
from integration.harness import Node, wait_until
from integration.lab import Lab
from leoronic.client import Client
from leoronic.core import commands

SAMPLES = 40
ROUNDS = 5
STARTS = 5
IDLE_S = 0.01
WARM_UP = 20
SETTLE_S = 5.0
WATCH_S = 120.0
READY_POLL_S = 0.001
READY_S_MAX = 20.0
MIB = 2**20

MORE_MS_MAX = 1.0
MEMORY_MIB_MAX = 25
READY_S_GOAL = 0.3
IDLE_BYTES_PER_S_MAX = 20


def measure(session: Session) -> list[Figure]:
    """On loopback what it does, then in namespaces of their own what it says when idle."""
    with session.node("--name", "n", "--tag", "heavy") as node:
        address = node.status()["node"]["address"]
        token = token_for(node)
        session.say("  starting")
        starts = [
            _start_seconds(node, session.folder / f"start{number}", token, address)
            for number in range(session.rounds(STARTS))
        ]
        with _attached(node, session.folder / "light", token, address) as ghost:
            with node.client() as client:
                run(client, "light", WARM_UP)
                run(client, "heavy", WARM_UP)
                own, there = _turns(session, client)
            time.sleep(SETTLE_S)
            used, memory = ghost.memory() / MIB, node.memory() / MIB
    new, rate = _idle(session)
    return [
        Figure("a ghost's task, submit to finished", "ms", there, {"a node's own": own}),
        Figure(
            "the same, beyond the node's own of the same moment", "ms",
            [theirs - mine for theirs, mine in zip(there, own, strict=True)],
            goal=Goal(MORE_MS_MAX),
        ),
        Figure(
            "a ghost, idle, new: all processes (PSS)", "MiB", [new], goal=Goal(MEMORY_MIB_MAX)
        ),
        Figure(
            f"a ghost, idle, after {len(there) + WARM_UP} tasks: all processes (PSS)",
            "MiB", [used],
            {"its node, with the relay": [memory]}, goal=Goal(MEMORY_MIB_MAX),
        ),
        Figure(
            "a ghost, start to ready", "s", [ready for ready, _ in starts], goal=Goal(READY_S_GOAL)
        ),
        Figure("a ghost, start until its node offers it", "s", [there for _, there in starts]),
        Figure(
            "a ghost, idle: sent and received, IP headers included", "bytes/s", [rate],
            goal=Goal(IDLE_BYTES_PER_S_MAX),
        ),
    ]  # fmt: skip


# ---- tasks ----


def run(client: Client, tag: str, count: int) -> list[float]:
    """Milliseconds from submission to end of each of `count` tasks of whoever has that tag."""
    found = []
    task = json.dumps({"command": "echo hi", "conditions": [f"worker:tag {tag}"]}).encode()
    for _ in range(count):
        # Idle, as it would be for somebody who types.
        time.sleep(IDLE_S)
        began = time.perf_counter()
        ids = client.request(commands.Submit(), task)["ids"]
        for _item in (stream := client.stream(commands.Wait(ids))):
            pass
        found.append((time.perf_counter() - began) * 1e3)
        assert "succeeded" == stream.result["tasks"][0]["state"]
    return found


def _turns(session: Session, client: Client) -> tuple[list[float], list[float]]:
    """One of the node's, one of the ghost's, and so on: both see the same of the machine."""
    samples = session.scaled(SAMPLES, 10)
    own: list[float] = []

    def pairs() -> list[float]:
        found = []
        for _ in range(samples):
            own.extend(run(client, "heavy", 1))
            found += run(client, "light", 1)
        return found

    there: Samples = session.take_turns(session.rounds(ROUNDS), {"ours": pairs})
    return own, ours(there)


@contextlib.contextmanager
def _attached(node: Node, folder: Path, token: str, address: str) -> Iterator[Ghost]:
    ghost = Ghost(folder, token, address, "--cpus", "2", "--tag", "light")
    try:
        ghost.start()
        ghost.wait_attached(node)
        yield ghost
    finally:
        ghost.close()


# ---- the ghost itself ----


def _start_seconds(node: Node, folder: Path, token: str, address: str) -> tuple[float, float]:
    """From exec of the command, in a folder that is new, until the ghost says that it is ready.

    And until its node says that it is there.
    """
    ghost = Ghost(folder, token, address, "--cpus", "2")

    def wait_for(look: Callable[[], bool], what: str) -> float:
        wait_until(look, what, within_s=READY_S_MAX, poll_s=READY_POLL_S, story=ghost.tail)
        return time.perf_counter() - began

    try:
        began = time.perf_counter()
        ghost.process = ghost.spawn()
        ready_s = wait_for(ghost.answers, "it is ready")
        return ready_s, wait_for(lambda: node.states().get(ghost.name) == "up", "it is there")
    finally:
        ghost.close()


class Unasked(Lab):
    """Machines whose nodes look for nobody: calls at the ghost's would count as what it says."""

    def _peers(self, name: str) -> tuple[str, ...]:
        return ()


def _idle(session: Session) -> tuple[float, float]:
    """MiB of a ghost that has done nothing, and what goes over its link, bytes a second."""
    watch_s = 10.0 if session.quick else WATCH_S
    with contextlib.ExitStack() as stack:
        made = Unasked(session.folder / "idle", "ag")
        stack.callback(made.close)
        made.open()
        made.start("a", options=("--cpus", "2"))
        node = made.nodes["a"]
        ghost = Ghost(
            session.folder / "idle" / "g", token_for(node), made.address("a"),
            prefix=("ip", "netns", "exec", made.space("g")),
        )  # fmt: skip
        stack.callback(ghost.close)
        ghost.start()
        ghost.wait_attached(node)
        session.say(f"  idle for {watch_s:g} s")
        time.sleep(SETTLE_S)
        pid = ghost.pids()[0]
        before, began = ip_bytes(pid), time.monotonic()
        time.sleep(watch_s)
        passed = time.monotonic() - began
        rate = (ip_bytes(pid) - before) / passed
        assert "up" == node.states()["g"]
        return ghost.memory() / MIB, rate
