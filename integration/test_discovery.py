"""Nodes find each other: in the local network, by an address, by memory, and through each other."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from integration.command_line import data
from integration.harness import Node, wait_until
from integration.lab import Lab, lab
from integration.test_cluster import wait_meshed

MESHED_S = 15.0


@contextlib.contextmanager
def loose(folder: Path, names: str, *, discovery: bool = False) -> Iterator[Lab]:
    """Machines whose nodes are told of nobody."""

    class Loose(Lab):
        def _peers(self, name: str) -> tuple[str, ...]:
            return ()

    made = Loose(folder, names, discovery=discovery)
    try:
        made.open()
        yield made
    finally:
        made.close()


def address(made: Lab, name: str, *words: str) -> None:
    """Change the addresses of a machine: `ip address ADD|DEL ... dev eth0`."""
    space = made.space(name)
    verb, *more = words
    subprocess.run(
        ["ip", "-n", space, "address", verb, *more, "dev", "eth0"], check=True, capture_output=True
    )


def only_ipv6(made: Lab) -> None:
    for name in made.names:
        address(made, name, "del", f"{made.address(name)}/24")


def connected(node: Node) -> dict[str, str]:
    """Name -> address of all that it ever was connected with."""
    return {e["name"]: e["address"] for e in node.events() if e["event"] == "connected"}


def wait_connected(made: Lab, pairs: str, within_s: float = MESHED_S) -> None:
    """Wait until each of these pairs (`ab bc`) is connected, whoever called."""
    for one, other in pairs.split():
        wait_until(
            lambda one=one, other=other: other in connected(made.nodes[one]),
            f"{one} is connected with {other}",
            within_s=within_s,
            story=made.nodes[one].tail,
        )


def remembered(node: Node) -> dict[str, list[str]]:
    """Name -> addresses in its file of others."""
    path = node.state / "peers.json"
    if not path.exists():
        return {}
    return {name: addresses for _, name, addresses, *_ in json.loads(path.read_text())["peers"]}


def test_the_local_network(tmp_path: Path) -> None:
    """Nodes that are told of nobody form one cluster; an address that changes is noticed."""
    with loose(tmp_path, "abcx", discovery=True) as made:
        other = tmp_path / "other"
        other.write_text("another-cookie-that-nobody-else-has\n")
        other.chmod(0o600)
        made.node("x", "--cookie", str(other))
        # The cable of c is not in yet.
        address(made, "c", "del", "10.77.0.3/24")
        address(made, "c", "del", "fd77::3/64")
        made.start()
        wait_meshed(made, "ab", within_s=MESHED_S)
        assert {"c": "up"} == made.nodes["c"].states()
        address(made, "c", "add", "10.77.0.3/24")
        wait_meshed(made, "abc", within_s=MESHED_S)
        a, b, x = (made.nodes[name] for name in "abx")
        wait_connected(made, "ab bc ca")
        # Its machine moves: the old address is gone, and who was connected by it must find it.
        address(made, "b", "del", "10.77.0.2/24")
        address(made, "b", "del", "fd77::2/64")
        address(made, "b", "add", "10.77.0.20/24")
        for node in (a, made.nodes["c"]):
            wait_until(
                lambda node=node: (
                    node.states() == {"a": "up", "b": "up", "c": "up"}
                    and [
                        one["address"] for one in data(node, "nodes")["nodes"] if one["name"] == "b"
                    ]
                    == ["10.77.0.20:22580"]
                ),
                f"{node.root.name} knows the new address",
                within_s=30,
                story=lambda node=node: (data(node, "nodes"), node.tail()),
            )
        # One of another cluster is told of, once, and left alone.
        for node in (a, x):
            hints = [e["hint"] for e in node.events() if e["event"] == "node of another cluster"]
            assert {1 if node is a else 3} == {len(hints)}
            assert all("leoronic join" in hint for hint in hints)
        assert {"x": "up"} == x.states()
        # It was soon enough that nobody took anybody for dead.
        assert not [
            e for node in made.nodes.values() for e in node.events() if e["event"] == "down"
        ]
        assert {"a": "up", "b": "up", "c": "up"} == b.states()


def test_ipv6_alone(tmp_path: Path) -> None:
    """Machines without any IPv4 address meet by a static peer, and find each other by mDNS."""
    with loose(tmp_path, "ab") as made:
        only_ipv6(made)
        made.node("a", "--peer", "[fd77::2]")
        made.start()
        wait_meshed(made, within_s=MESHED_S)
        assert "[fd77::2]:22580" == connected(made.nodes["a"])["b"]
        line = data(made.nodes["b"], "join")["line"]
        assert line.endswith("--peer '[fd77::2]'"), line
    with loose(tmp_path / "mdns", "ab", discovery=True) as made:
        only_ipv6(made)
        made.start()
        wait_meshed(made, within_s=MESHED_S)


def test_memory(tmp_path: Path) -> None:
    """Two that met find each other again without being told of each other."""
    with lab(tmp_path, "ab") as made:
        made.start()
        wait_meshed(made)
        for node, other in ((made.nodes["a"], "b"), (made.nodes["b"], "a")):
            wait_until(lambda node=node, other=other: other in remembered(node), "it remembers")
            assert 0 == node.stop()
            # Where it listens, not where it once called from.
            ports = {address.rpartition(":")[2] for address in remembered(node)[other]}
            assert {"22580"} == ports, remembered(node)
            at = node.options.index("--peer")
            del node.options[at : at + 2]
            assert "--peer" not in node.options
        made.start()
        wait_meshed(made, within_s=MESHED_S)


def test_through_each_other(tmp_path: Path) -> None:
    """Who knows one node gets connected with all that this one knows."""
    with loose(tmp_path, "abc") as made:
        for name in "bc":
            made.node(name, "--peer", made.address("a"))
        made.start("a", "b")
        wait_meshed(made, "ab")
        made.start("c")
        wait_connected(made, "ca cb")
        wait_meshed(made)
