"""Many nodes on one machine: each told of two others only, and started a few at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from integration.harness import Node, wait_until
from integration.lab import PORT, Lab
from leoronic.core import commands
from leoronic.journal.digest import digest

GROUP = 4
OPTIONS = ("--cpus", "1")
MESH_S_MAX = 90.0
DRAIN_S_MAX = 150.0
ESTABLISHED = "01"


def names(count: int) -> list[str]:
    """So many names of machines."""
    return [f"n{number:02}" for number in range(1, count + 1)]


class Large(Lab):
    """Machines whose nodes are told of the two before them; the rest they learn."""

    def _peers(self, name: str) -> tuple[str, ...]:
        at = self.names.index(name)
        before = [self.names[place] for place in (at - 1, at - 2) if place >= 0]
        return tuple(word for other in before for word in ("--peer", self.address(other)))

    def grow(self, count: int) -> None:
        """Start nodes until `count` run, and wait until each has a link to each other."""
        missing = self.names[len(self.nodes) : count]
        for at in range(0, len(missing), GROUP):
            self.start(*missing[at : at + GROUP], options=OPTIONS)
        wanted = dict.fromkeys(self.names[:count], "up")
        for name in wanted:
            node = self.nodes[name]
            wait_until(
                lambda node=node: node.states() == wanted,  # type: ignore[misc]
                f"{name} sees all {count}",
                within_s=MESH_S_MAX,
                story=lambda node=node: (node.states(), node.tail()),  # type: ignore[misc]
            )
            # Who is seen through others counts as up, too.
            wait_until(
                lambda node=node: links(node) == count - 1,  # type: ignore[misc]
                f"{name} is linked to all {count}",
                within_s=MESH_S_MAX,
                story=lambda node=node: (links(node), node.tail()),  # type: ignore[misc]
            )


def links(node: Node) -> int:
    """How many connections this node's machine has from or to a peer port."""
    assert node.process is not None
    return sum(
        count_links(Path(f"/proc/{node.process.pid}/net/{table}").read_text())
        for table in ("tcp", "tcp6")
    )


def count_links(told: str) -> int:
    """The same of the text of `/proc/net/tcp`."""
    found = 0
    for line in told.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        ports = {int(end.rpartition(":")[2], 16) for end in (local, remote)}
        found += state == ESTABLISHED and PORT in ports
    return found


@contextlib.contextmanager
def large(folder: Path, count: int) -> Iterator[Large]:
    """Machines on which nothing runs yet."""
    made = Large(folder, names(count))
    try:
        made.open()
        yield made
    finally:
        made.close()


def drain(nodes: Sequence[Node], count: int) -> float:
    """Seconds in which `count` tasks, submitted at three nodes, have ended for every node."""
    before = {node: node.counts().get("succeeded", 0) for node in nodes}
    at = [nodes[0], nodes[len(nodes) // 2], nodes[-1]]
    began = time.monotonic()
    for number, node in enumerate(at):
        share = count // len(at) + (1 if number < count % len(at) else 0)
        line = b'{"command":"echo hi"}\n'
        node.ask(commands.Submit(lines=True), line * share)
    # One is asked while they run; the others only at the end.
    for node in (at[0], *nodes):
        wait_until(
            lambda node=node: node.counts().get("succeeded", 0) >= before[node] + count,  # type: ignore[misc]
            f"{node.root.name} knows of {count} ends",
            within_s=DRAIN_S_MAX,
            poll_s=0.1,
            story=lambda node=node: (node.counts(), node.tail()),  # type: ignore[misc]
        )
    return time.monotonic() - began


def wait_same(nodes: Iterable[Node], within_s: float = 30.0) -> str:
    """Wait until all journals say the same of everything; what that is, as a hash."""
    nodes = list(nodes)
    seen: dict[str, str] = {}

    def look() -> bool:
        seen.clear()
        for node in nodes:
            with closing(sqlite3.connect(f"file:{node.database}?mode=ro", uri=True)) as database:
                seen[node.root.name] = digest(database)
        return len(set(seen.values())) == 1

    wait_until(look, "the same on all nodes", within_s=within_s, poll_s=1.0, story=lambda: seen)
    return seen[nodes[0].root.name]
