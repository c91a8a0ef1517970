"""Two nodes on loopback, beside one: how many short tasks, and what a copy of a task costs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from integration.bench import rate
from integration.bench.figure import Figure, Goal
from integration.bench.session import Session, ours
from integration.harness import Node, wait_until
from leoronic.core import commands

TASKS = 5000
ROUNDS = 3
WARM_UP = 200
SUBMISSIONS = 200
TASK = b'{"command":"echo hi"}'
COOKIE = "0123456789abcdefghjkmnpqrstvwxyz0123456789abcdefghjkmnpq\n"


@contextlib.contextmanager
def together(folder: Path, names: str, *options: str) -> Iterator[list[Node]]:
    """Nodes on loopback that know each other: one cluster, TLS between them as always."""
    folder.mkdir(parents=True)
    cookie = folder / "cookie"
    cookie.write_text(COOKIE)
    cookie.chmod(0o600)
    nodes: list[Node] = []
    try:
        for name in names:
            peers = [word for other in nodes for word in ("--peer", _address(other))]
            node = Node(folder / name, "--name", name, "--cookie", str(cookie), *peers, *options)
            nodes.append(node)
            node.start()
        wanted = dict.fromkeys(names, "up")
        for node in nodes:
            wait_until(lambda node=node: node.states() == wanted, "all up", story=node.tail)  # type: ignore[misc]
        yield nodes
    finally:
        for node in nodes:
            node.close()


def _address(node: Node) -> str:
    found: str = node.status()["node"]["address"]
    return found


def measure(session: Session) -> list[Figure]:
    """The same tasks at one node with two cpus, and at one of two with one each."""
    count = session.scaled(TASKS)
    with (
        session.node() as alone,
        together(session.folder / "pair", "ab", "--cpus", "1") as [first, second],
    ):
        for node in (alone, first):
            rate.run_tasks(node, WARM_UP)
        samples = session.take_turns(
            session.rounds(ROUNDS),
            {
                "ours": lambda: [count / rate.run_tasks(first, count)],
                "one node": lambda: [count / rate.run_tasks(alone, count)],
            },
        )
        for node in (alone, first, second):
            node.ask(commands.Drain())
        submitted = session.take_turns(
            session.rounds(ROUNDS),
            {
                "ours": lambda: acknowledged_ms(first, session.scaled(SUBMISSIONS, 50), 2),
                "one node": lambda: acknowledged_ms(alone, session.scaled(SUBMISSIONS, 50), 1),
            },
        )
    return [
        Figure(
            f"two nodes of one cpu, {count:,} times `echo hi` submitted at one",
            "tasks/s",
            ours(samples),
            {"one node of two": samples["one node"]},
            True,
            Goal(0.8, "one node of two"),
        ),
        Figure(
            "submit to acknowledged, a copy on another node",
            "ms",
            ours(submitted),
            {"one node, no copy": submitted["one node"]},
            False,
            Goal(3),
        ),
    ]


def acknowledged_ms(node: Node, count: int, holders: int) -> list[float]:
    """Milliseconds of each of `count` submissions, one after the other on one connection."""
    found = []
    with node.client() as client:
        for _ in range(count):
            began = time.perf_counter()
            answer = client.request(commands.Submit(), TASK)
            found.append((time.perf_counter() - began) * 1e3)
            assert holders == len(answer["held_by"]), answer
    return found
