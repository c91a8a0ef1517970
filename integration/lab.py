"""Machines for tests: a network namespace each, joined by a bridge in a namespace of its own.

What it does to the network it does between these namespaces alone: cables are pulled by taking a
port of the bridge down, partitions are rules of the bridge's own firewall. Needs root, `ip` and
`nft`. All that it makes is gone after `Lab.close`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from integration.harness import Node

PORT = 22580
_labs = itertools.count(1)


def _run(*words: str, text: str | None = None) -> None:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"


class Lab:
    """`names` are the machines. Machine number i (from 1) has the addresses 10.77.0.i, fd77::i."""

    def __init__(self, folder: Path, names: Sequence[str], *, discovery: bool = False) -> None:
        self.names = list(names)
        self.nodes: dict[str, Node] = {}
        self._folder = folder
        self._discovery = discovery
        self._cookie = folder / "cookie"
        self._mark = f"leo{os.getpid()}x{next(_labs)}"
        self._hub = f"{self._mark}-hub"
        self._spaces: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._cookie.write_text("0123456789abcdefghjkmnpqrstvwxyz0123456789abcdefghjkmnpq\n")
        self._cookie.chmod(0o600)

    # ---- making and ending it ----

    def open(self) -> None:
        """Make the network; no node runs yet."""
        self._space(self._hub)
        self._in_hub("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        self._in_hub("ip", "link", "set", "br0", "up")
        for number, name in enumerate(self.names, 1):
            self._machine(number, name)
        self._rules([])

    def _space(self, space: str) -> None:
        _run("ip", "netns", "add", space)
        self._spaces.append(space)
        _run("ip", "-n", space, "link", "set", "lo", "up")

    def _machine(self, number: int, name: str) -> None:
        space = self.space(name)
        self._space(space)
        _run(
            *("ip", "-n", self._hub, "link", "add", f"p-{name}", "type", "veth"),
            *("peer", "name", "eth0", "netns", space),
        )
        self._in_hub("ip", "link", "set", f"p-{name}", "master", "br0", "up")
        for address in (f"10.77.0.{number}/24", f"fd77::{number}/64"):
            # Without duplicate address detection the address can be used at once.
            nodad = ("nodad",) if ":" in address else ()
            _run("ip", "-n", space, "address", "add", address, "dev", "eth0", *nodad)
        _run("ip", "-n", space, "link", "set", "eth0", "up")

    def close(self) -> None:
        """End all nodes and take the network away."""
        for node in self.nodes.values():
            node.close()
        for space in reversed(self._spaces):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
        self._spaces.clear()

    def space(self, name: str) -> str:
        """The name of a machine's namespace."""
        return f"{self._mark}-{name}"

    def _in_hub(self, *words: str) -> None:
        _run("ip", "netns", "exec", self._hub, *words)

    # ---- machines ----

    def address(self, name: str) -> str:
        """Its IPv4 address."""
        return f"10.77.0.{self.names.index(name) + 1}"

    def node(self, name: str, *options: str) -> Node:
        """The node of a machine, made but not started."""
        if name not in self.nodes:
            peers = () if self._discovery else self._peers(name)
            self.nodes[name] = Node(
                self._folder / name,
                *("--name", name, "--cookie", str(self._cookie), *peers, *options),
                prefix=("ip", "netns", "exec", self.space(name)),
                listen=f":{PORT}",
                discovery=self._discovery,
            )
        return self.nodes[name]

    def _peers(self, name: str) -> tuple[str, ...]:
        others = [other for other in self.names if other != name]
        return tuple(itertools.chain(*(("--peer", self.address(other)) for other in others)))

    def start(self, *names: str, options: Sequence[str] = ()) -> None:
        """Start the nodes of these machines (of all, if none are named), all at once."""
        starting = [self.node(name, *options) for name in names or self.names]
        for node in starting:
            node.process = node.spawn()
        for node in starting:
            node.wait_ready()

    # ---- the network ----

    def pull(self, name: str) -> None:
        """Pull a machine's cable."""
        self._in_hub("ip", "link", "set", f"p-{name}", "down")

    def plug(self, name: str) -> None:
        """Put it back."""
        self._in_hub("ip", "link", "set", f"p-{name}", "up")

    def split(self, *sides: Iterable[str]) -> None:
        """Machines of different sides can't reach each other any more."""
        groups = [list(side) for side in sides]
        self.cut(
            (one, other)
            for here, there in itertools.permutations(groups, 2)
            for one in here
            for other in there
        )

    def cut(self, ways: Iterable[tuple[str, str]]) -> None:
        """Drop what goes from the first to the second of each pair; replaces earlier cuts."""
        self._rules(list(ways))

    def deafen(self, name: str) -> None:
        """Nobody can connect to this machine any more; it can connect to others."""
        rule = f'oifname "p-{name}" tcp flags & (syn | ack) == syn drop'
        table = (
            f"table bridge deaf-{name} {{\nchain calls {{\n"
            f"type filter hook forward priority 0; policy accept;\n{rule}\n}}\n}}\n"
        )
        _run("ip", "netns", "exec", self._hub, "nft", "-f", "-", text=table)

    def heal(self) -> None:
        """Let everything through again."""
        self._rules([])

    def _rules(self, ways: list[tuple[str, str]]) -> None:
        drops = "\n".join(f'iifname "p-{a}" oifname "p-{b}" drop' for a, b in ways)
        table = (
            "table bridge lab\ndelete table bridge lab\n"
            "table bridge lab {\nchain cuts {\n"
            f"type filter hook forward priority 0; policy accept;\n{drops}\n}}\n}}\n"
        )
        _run("ip", "netns", "exec", self._hub, "nft", "-f", "-", text=table)


@contextlib.contextmanager
def lab(folder: Path, names: Sequence[str], **settings: bool) -> Iterator[Lab]:
    """A network of machines that is gone afterwards."""
    made = Lab(folder, names, **settings)
    try:
        made.open()
        yield made
    finally:
        made.close()
