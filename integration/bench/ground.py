"""Machines for the benchmark: what runs on them is in their network namespaces, and ends there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from integration.bench.install import Unavailable
from integration.harness import kill, wait_until
from integration.lab import Lab, lab

POLL_S = 0.01


class Ground:
    """A `Lab`, and a file to which tasks append `MACHINE TASK` as they start."""

    def __init__(self, made: Lab, folder: Path) -> None:
        self.lab = made
        self.folder = folder
        self.runs = folder / "runs"
        self.runs.touch()
        self._processes: list[subprocess.Popen[bytes]] = []

    def inside(self, machine: str, *command: str) -> list[str]:
        """That command, on that machine, under that name of a host."""
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', machine)
        # Not by `ip netns exec`, which also mounts a /sys of its own, without cgroups.
        return ["nsenter", f"--net=/run/netns/{self.lab.space(machine)}", *named, *command]

    def spawn(
        self, machine: str, *command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start something on a machine; what it says goes to a file of its own."""
        said = self.folder / f"{machine}-{len(self._processes)}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                self.inside(machine, *command),
                cwd=self.folder,
                env={**os.environ, "MACHINE": machine, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def where(self) -> dict[str, list[str]]:
        """Task -> the machines on which it started, in this order."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for line in self.runs.read_text().splitlines():
            machine, _, task = line.partition(" ")
            found[task].append(machine)
        return found

    def wait_running(self, count: int, machine: str, within_s: float) -> None:
        """Wait until `count` tasks run, all of them there. Raises `Unavailable` if they don't."""
        deadline = time.monotonic() + within_s
        while len(seen := self.where()) < count:
            if time.monotonic() > deadline:
                raise Unavailable(f"{len(seen)} of {count} tasks run after {within_s:g} s")
            time.sleep(POLL_S)
        elsewhere = [machines for machines in seen.values() if machines != [machine]]
        if elsewhere:
            raise Unavailable(f"tasks run on {elsewhere}, not on {machine}")

    def pull(self, machine: str, within_s: float) -> float:
        """Take its link down; seconds until all that ran there has started elsewhere.

        Raises `Unavailable` if it does not within `within_s`.
        """
        began = time.monotonic()
        self.lab.pull(machine)
        while not all(set(machines) - {machine} for machines in self.where().values()):
            if time.monotonic() - began > within_s:
                raise Unavailable(f"not within {within_s:g} s")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def last_words(self) -> str:
        """The last line of what each of the processes said, for people."""
        found = []
        for said in sorted(self.folder.glob("*.log")):
            lines = said.read_text(errors="replace").strip().splitlines()
            found.append(f"{said.name}: {lines[-1][:200] if lines else ''}")
        return "; ".join(found)

    def close(self) -> None:
        """End everything on all machines."""
        for name in self.lab.names:
            for _ in range(20):
                told = subprocess.run(
                    ["ip", "netns", "pids", self.lab.space(name)],
                    capture_output=True, text=True, check=False,
                ).stdout  # fmt: skip
                if not told.strip():
                    break
                kill(*(int(pid) for pid in told.split()))
        for process in self._processes:
            process.wait()


def bridge_counters(made: Lab) -> dict[str, tuple[int, int]]:
    """Machine -> bytes that it has sent and received over its link so far."""
    told = subprocess.run(
        ["ip", "netns", "exec", made.space("hub"), "cat", "/proc/net/dev"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return parse_counters(told)


def parse_counters(told: str) -> dict[str, tuple[int, int]]:
    """The same of the text of `/proc/net/dev` on the bridge."""
    found = {}
    for line in told.splitlines():
        port, _, rest = line.strip().partition(":")
        if port.startswith("p-"):
            numbers = [int(word) for word in rest.split()]
            # What the bridge's end receives, the machine has sent.
            found[port.removeprefix("p-")] = (numbers[0], numbers[8])
    return found


def wait_meshed(made: Lab, within_s: float = 30.0) -> None:
    """Wait until each node sees all of them up."""
    wanted = dict.fromkeys(made.nodes, "up")
    for name, node in made.nodes.items():
        wait_until(
            lambda node=node: node.states() == wanted,  # type: ignore[misc]
            f"{name} sees all",
            within_s=within_s,
            story=lambda node=node: (node.states(), node.tail()),  # type: ignore[misc]
        )


@contextlib.contextmanager
def ground(folder: Path, names: Sequence[str]) -> Iterator[Ground]:
    """Machines on which nothing runs yet; afterwards nothing is left of them."""
    with lab(folder, names) as made:
        found = Ground(made, folder)
        try:
            yield found
        finally:
            found.close()
