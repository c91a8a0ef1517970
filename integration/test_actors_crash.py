"""Two nodes of a cluster, one of whose actors raises: both run what is submitted at either."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import Node, wait_until
from leoronic.core.commands import Debug
from leoronic.errors import NodeUnreachable
from leoronic.wire.cookie import new_cookie

ACTORS = (
    "journal", "peers", "membership", "replication", "discovery", "queue", "scheduler", "runner",
    "questions", "keeper", "control", "history", "inbox", "carrying", "file_store",
)  # fmt: skip
# Without a crash it is a tenth of a second; a node that restarted must not wait for a timeout.
WORKS_WITHIN_S = 8.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes that see each other, called `one` and `two`, with these tags."""
    ports = {"one": free_port(), "two": free_port()}
    environment = {"LEORONIC_DEBUG": "1", "LEORONIC_COOKIE": new_cookie()}
    nodes = [
        Node(
            tmp_path / name,
            *("--name", name, "--tag", name, "--cpus", "2"),
            *(word for other in ports if other != name for word in ("--peer", _at(ports[other]))),
            environment=environment,
            listen=_at(port),
        )
        for name, port in ports.items()
    ]
    one, two = nodes
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            wait_meshed(node)
        yield one, two
    finally:
        for node in nodes:
            node.close()


def _at(port: int) -> str:
    return f"127.0.0.1:{port}"


def wait_meshed(node: Node) -> None:
    wait_until(lambda: {"one": "up", "two": "up"} == node.states(), "both are up", story=node.tail)


def on(name: str, command: str) -> dict[str, object]:
    """A task for that node."""
    return {"command": command, "conditions": [f"worker:tag {name}"], "cpus": 0.5}


def restarts(node: Node, actor: str) -> int:
    return sum(line["restarts"] for line in node.status()["actors"] if line["name"] == actor)


@pytest.mark.parametrize("actor", ACTORS)
def test_an_actor_raises(pair: tuple[Node, Node], actor: str) -> None:
    """What ran goes on, and each node starts what the other submits, and tells what it printed."""
    one = pair[0]
    running = one.submit(*[on(name, "echo once >> log; sleep 1.5") for name in ("one", "two")])
    wait_until(lambda: all((node.root / "log").exists() for node in pair), "both run")
    # The control actor cannot answer any more.
    with contextlib.suppress(NodeUnreachable):
        one.ask(Debug(actor, "on purpose"))
    wait_until(lambda: restarts(one, actor) == 1, "a restart", story=one.tail)
    submitted = {
        node: node.submit(*[on(name, f"echo from {node.root.name}") for name in ("one", "two")])
        for node in pair
    }
    for tasks in submitted.values():
        for node in pair:
            ended = node.wait(*tasks, within_s=WORKS_WITHIN_S)
            assert ["one", "two"] == [task["node"] for task in ended]
    for node, tasks in submitted.items():
        expected = f"from {node.root.name}\n".encode()
        assert [expected] * 4 == [other.output(task) for other in pair for task in tasks]
    for node in pair:
        ended = node.wait(*running)
        assert [["succeeded"]] * 2 == [[a["state"] for a in task["attempts"]] for task in ended]
        assert "once\n" == (node.root / "log").read_text()
        wait_meshed(node)
    crashes = [event for event in one.events() if event["event"] == "child_crashed"]
    assert [(actor, "RuntimeError: on purpose")] == [(e["child"], e["reason"]) for e in crashes]
