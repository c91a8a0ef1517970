#!/usr/bin/env python3
"""A cluster on one machine, to play with: `make cluster N=5`.

Starts N nodes in ./cluster/a, b, c... that listen on the loopback, and tells how to talk to them.
Kill one, stop one, start one again: the others go on. Ctrl-C stops all; what they know is kept
for the next time, and `rm -r cluster` forgets it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leoronic.client import Client, cluster_text, text
from leoronic.core.commands import Nodes, Stop
from leoronic.errors import LeoronicError
from leoronic.wire.cookie import new_cookie, write_cookies

FIRST_PORT = 22600
NODES_MAX = 64
CPUS = 2
START_S_MAX = 30.0
STOP_S_MAX = 60.0
POLL_S = 0.1


class Cluster:
    """`count` nodes in folders of `folder`, at ports from `first_port` on."""

    def __init__(self, folder: Path, count: int, first_port: int) -> None:
        letters = string.ascii_lowercase
        self.names = [letters[i] if i < 26 else f"{letters[i % 26]}{i // 26}" for i in range(count)]
        self.folder = folder
        self._ports = {name: first_port + i for i, name in enumerate(self.names)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def root(self, name: str) -> Path:
        """The folder of a node."""
        return self.folder / name

    def log(self, name: str) -> Path:
        """What a node tells."""
        return self.folder / f"{name}.log"

    def prepare(self) -> None:
        """Make the folder, and a cookie for all of them if there is none yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # So that nobody commits the secret by accident, wherever this is.
        (self.folder / ".gitignore").write_text("*\n")
        cookie = self.folder / "cookie"
        if not cookie.exists():
            write_cookies(cookie, [new_cookie()])

    def command(self, name: str) -> list[str]:
        """What starts a node: by hand, too."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(self.names)
        peers = [f"127.0.0.1:{port}" for other, port in self._ports.items() if other != name]
        return [
            *("start", "--root", str(self.root(name)), "--name", name),
            *("--listen", f"127.0.0.1:{self._ports[name]}", "--no-discovery"),
            *(word for peer in peers for word in ("--peer", peer)),
            *("--cookie", str(self.folder / "cookie")),
            *("--cpus", str(CPUS), "--memory", str(memory)),
        ]

    def start(self) -> None:
        """Start them all, and wait for nothing."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LEORONIC")}
        for name in self.names:
            self.root(name).mkdir(exist_ok=True)
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "leoronic", *self.command(name)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=clean,
                    # Ctrl-C is for this program, which then stops them in order.
                    start_new_session=True,
                )

    def ended(self) -> Iterator[tuple[str, int]]:
        """Nodes whose process has ended since this was asked last, with its exit code."""
        for name, process in list(self._processes.items()):
            code = process.poll()
            if code is not None:
                del self._processes[name]
                yield name, code

    def nodes(self) -> list[dict[str, Any]]:
        """What the first node that answers tells of all of them; [] if none does."""
        for name in self.names:
            try:
                with Client(str(self.root(name)), timeout_s=5.0) as client:
                    found: list[dict[str, Any]] = client.request(Nodes())["nodes"]
                    return found
            except LeoronicError:
                continue
        return []

    def stop(self, *, now: bool) -> None:
        """Have all of them stop, also those whose first process was killed and that live on."""
        for name in self.names:
            process = self._processes.get(name)
            if process is not None and process.poll() is None and not now:
                process.send_signal(signal.SIGTERM)
                continue
            with contextlib.suppress(LeoronicError), Client(str(self.root(name))) as client:
                client.send(Stop(now))

    def is_up(self) -> bool:
        """Whether any process that was started here is left."""
        return any(process.poll() is None for process in self._processes.values())


def main() -> int:
    """Run a cluster until ctrl-C; returns the exit code."""
    options = _options()
    cluster = Cluster(options.folder.absolute(), options.count, options.port)
    cluster.prepare()
    try:
        cluster.start()
        if not _wait_up(cluster):
            return 1
        _explain(cluster)
        while cluster.is_up():
            for name, code in cluster.ended():
                print(f"{name} has ended with code {code}: {shown(cluster.log(name))}", flush=True)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        print("\nstopping; what runs may end (ctrl-C again: stop at once)", flush=True)
    finally:
        _stop(cluster)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=5, help="how many nodes")
    parser.add_argument("--folder", type=Path, default=Path("cluster"), help="default: ./cluster")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help="of the first node")
    options = parser.parse_args()
    if not 1 <= options.count <= NODES_MAX:
        parser.error(f"1 to {NODES_MAX} nodes")
    return options


def _wait_up(cluster: Cluster) -> bool:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        failed = list(cluster.ended())
        for name, code in failed:
            print(f"{name} has ended with code {code}:", file=sys.stderr)
            print(cluster.log(name).read_text(errors="replace")[-2000:], file=sys.stderr)
        if failed:
            return False
        if sum(node["state"] == "up" for node in cluster.nodes()) >= len(cluster.names):
            return True
        time.sleep(POLL_S)
    print(
        f"not all nodes are up after {START_S_MAX:g} s; their logs: {shown(cluster.folder)}/*.log"
    )
    return True


def _explain(cluster: Cluster) -> None:
    colour = text.wants_colour(sys.stdout)
    print("\n".join(cluster_text.nodes(cluster.nodes(), width=None, colour=colour)))
    first, last = (shown(cluster.root(name)) for name in (cluster.names[0], cluster.names[-1]))
    print(
        f"""
In another terminal, at any of them:

  leoronic top --root {first}
  leoronic submit --root {last} --count 200 -- 'sleep 1; hostname; echo $LEORONIC_NODE'
  leoronic nodes --root {first}
  leoronic exec --root {first} --all -- 'echo I am $LEORONIC_NODE'
  leoronic stop --root {last}

or `cd {first}`, and leave out --root. Ctrl-C stops them all.""",
        flush=True,
    )


def shown(path: Path) -> str:
    """As it would be typed here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _stop(cluster: Cluster) -> None:
    now = False
    while True:
        try:
            cluster.stop(now=now)
            deadline = time.monotonic() + STOP_S_MAX
            while cluster.is_up() and time.monotonic() < deadline:
                time.sleep(POLL_S)
            if now or not cluster.is_up():
                return
            print(f"some still run after {STOP_S_MAX:g} s: ending them", flush=True)
            now = True
        except KeyboardInterrupt:
            now = True


if __name__ == "__main__":
    sys.exit(main())
