"""Five machines, random faults from a seed, for minutes: `python -m integration.soak`.

Tasks are submitted all the while, at whatever node answers. At the end all is healed, and every
acknowledged task must have one outcome, the same on every node; what ran twice must be explained.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from integration.harness import Node, wait_until
from integration.lab import Lab, lab
from integration.witness import Witness, check_runs, wait_agreement
from leoronic.errors import LeoronicError

NAMES = "abcde"
PAUSE_S_MAX = 30.0
SUBMIT_EVERY_S = 0.5
AGREE_S = 120.0


class Soak:
    """One run. `counts`: how often each fault struck."""

    def __init__(self, lab: Lab, witness: Witness, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._lab = lab
        self._witness = witness
        self._chance = Random(seed)
        self._undo: list[tuple[float, str, str]] = []  # when, what, which machine
        self._away: set[str] = set()
        self._stopped: dict[str, list[int]] = {}
        self._refused = 0

    def run(self, for_s: float) -> dict[str, int]:
        """Strike and submit for so long, heal, check; what happened, in numbers."""
        end = time.monotonic() + for_s
        next_fault = time.monotonic() + 2.0
        while time.monotonic() < end:
            self._undo_due(time.monotonic())
            if time.monotonic() >= next_fault:
                self._strike()
                next_fault = time.monotonic() + self._chance.uniform(0.5, 8.0)
            self._submit()
            time.sleep(SUBMIT_EVERY_S)
        self._heal()
        nodes = list(self._lab.nodes.values())
        told = wait_agreement(nodes, self._witness.acknowledged, within_s=AGREE_S)
        twice = check_runs(self._witness, told)
        return {
            "tasks": len(self._witness.acknowledged),
            "ran twice": twice,
            "submissions refused": self._refused,
            **self.counts,
        }

    def _submit(self) -> None:
        name = self._chance.choice(NAMES)
        if name in self._away:
            return
        node = self._lab.nodes[name]
        work = f"sleep {self._chance.choice((0, 0.1, 0.5, 2, 8))}"
        task = {"command": self._witness.command(work), "retries": self._chance.choice((0, 1))}
        try:
            self._witness.submit(node, *[task] * self._chance.randint(1, 4))
        except (LeoronicError, OSError):
            self._refused += 1  # it is just being started

    # ---- faults ----

    def _strike(self) -> None:
        chance = self._chance
        kind = chance.choice(
            (
                "kill core",
                "kill all",
                "stop",
                "stop",
                "pull",
                "halves",
                "one way",
                "not transitive",
                "empty disk",
                "all down",
            )
        )
        name = chance.choice(NAMES)
        if name in self._away and kind != "halves":
            return
        self.counts[kind] += 1
        getattr(self, "_" + kind.replace(" ", "_"))(name)

    def _later(self, most_s: float, what: str, name: str = "") -> None:
        after_s = most_s * self._chance.random() ** 2
        self._undo.append((time.monotonic() + after_s, what, name))

    def _undo_due(self, now: float) -> None:
        due = [entry for entry in self._undo if entry[0] <= now]
        self._undo = [entry for entry in self._undo if entry[0] > now]
        for _, what, name in due:
            getattr(self, f"_{what}")(name)

    def _kill_core(self, name: str) -> None:
        for pid in self._lab.nodes[name].pids()[:1]:
            os.kill(pid, signal.SIGKILL)

    def _kill_all(self, name: str) -> None:
        self._away.add(name)
        self._lab.nodes[name].kill_all()
        self._later(20.0, "start", name)

    def _all_down(self, _name: str) -> None:
        for name in NAMES:
            if name not in self._away:
                self._kill_all(name)

    def _empty_disk(self, name: str) -> None:
        node = self._lab.nodes[name]
        self._away.add(name)
        node.kill_all()
        self._witness.destroy(name)
        for file in [*node.state.glob("leoronic.db*"), *node.state.glob("node")]:
            file.unlink()
        self._later(10.0, "start", name)

    def _start(self, name: str) -> None:
        node = self._lab.nodes[name]
        node.process = node.spawn()
        self._away.discard(name)

    def _stop(self, name: str) -> None:
        self._away.add(name)
        self._stopped[name] = self._lab.nodes[name].pids()
        for pid in self._stopped[name]:
            os.kill(pid, signal.SIGSTOP)
        self._later(PAUSE_S_MAX, "cont", name)

    def _cont(self, name: str) -> None:
        for pid in self._stopped.pop(name, []):
            os.kill(pid, signal.SIGCONT)
        self._away.discard(name)

    def _pull(self, name: str) -> None:
        self._lab.pull(name)
        self._later(30.0, "plug", name)

    def _plug(self, name: str) -> None:
        self._lab.plug(name)

    def _halves(self, _name: str) -> None:
        names = list(NAMES)
        self._chance.shuffle(names)
        at = self._chance.randint(1, 2)
        self._lab.split(names[:at], names[at:])
        self._later(30.0, "uncut")

    def _one_way(self, name: str) -> None:
        other = self._chance.choice([n for n in NAMES if n != name])
        self._lab.cut([(name, other)])
        self._later(30.0, "uncut")

    def _not_transitive(self, name: str) -> None:
        other = self._chance.choice([n for n in NAMES if n != name])
        self._lab.cut([(name, other), (other, name)])
        self._later(30.0, "uncut")

    def _uncut(self, _name: str) -> None:
        self._lab.heal()

    def _heal(self) -> None:
        for entry in sorted(self._undo):
            getattr(self, f"_{entry[1]}")(entry[2])
        self._undo.clear()
        self._lab.heal()
        nodes: list[Node] = list(self._lab.nodes.values())
        for node in nodes:
            wait_until(
                lambda node=node: list(node.states().values()).count("up") >= len(NAMES),
                f"{node.root.name} sees all",
                within_s=60,
                story=lambda node=node: (node.states(), node.tail()),
            )


def soak(folder: Path, seed: int, for_s: float) -> dict[str, int]:
    """Make the machines and run; raises AssertionError if anything was wrong."""
    with lab(folder, NAMES) as made:
        made.start(options=("--cpus", "2"))
        return Soak(made, Witness(folder / "witness"), seed).run(for_s)


def main() -> int:
    """Ten minutes by default."""
    parser = argparse.ArgumentParser(prog="python -m integration.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leoronic-soak-") as folder:
        print(soak(Path(folder), options.seed, options.minutes * 60))
    return 0


if __name__ == "__main__":
    sys.exit(main())
