"""A file that tells which tasks really ran, and what must be true of it afterwards."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from integration.harness import ENDED, Node, wait_until
from leoronic.core import commands

PAGE = 500


class Witness:
    """Tasks append a line to it, and have it on the disk before they go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.acknowledged: dict[str, list[str]] = {}  # task -> the nodes said to hold it
        self.unrecorded: Counter[str] = Counter()  # task -> runs of which no disk need tell
        self._read: dict[str, int] = {}  # node -> how many lines were looked at when it was wiped
        path.touch()

    def command(self, then: str = "true") -> str:
        """A command that leaves its line, then does `then`."""
        file = shlex.quote(str(self.path))
        line = '"$LEORONIC_TASK_ID $LEORONIC_ATTEMPT $LEORONIC_NODE"'
        return f"echo {line} >> {file}; sync {file}; {then}"

    def submit(self, node: Node, *tasks: Mapping[str, Any]) -> list[str]:
        """Submit, and remember what was acknowledged."""
        answer = node.ask(commands.Submit(), json.dumps(list(tasks)).encode())
        for task in answer["ids"]:
            self.acknowledged[task] = answer["held_by"]
        found: list[str] = answer["ids"]
        return found

    def destroy(self, node: str) -> None:
        """The disk of `node`, which is down, is wiped: nobody need know of what it alone held.

        That is what it alone was said to hold, and what it ran.
        """
        for task, held_by in list(self.acknowledged.items()):
            if node in held_by:
                left = [holder for holder in held_by if holder != node]
                self.acknowledged[task] = left
                if not left:
                    del self.acknowledged[task]
        lines = self.path.read_text().splitlines()
        for line in lines[self._read.get(node, 0) :]:
            task, _, where = line.split()
            self.unrecorded[task] += where == node
        self._read[node] = len(lines)

    def runs(self) -> Counter[str]:
        """Task -> how often it ran."""
        return Counter(line.split()[0] for line in self.path.read_text().splitlines())


def wait_agreement(
    nodes: Iterable[Node], tasks: Iterable[str], within_s: float = 60.0
) -> dict[str, dict[str, Any]]:
    """Wait until all tasks have ended and every node tells the same of each; what they tell."""
    nodes, wanted = list(nodes), set(tasks)
    told: list[dict[str, dict[str, Any]]] = []

    def look() -> bool:
        told[:] = [everything(node) for node in nodes]
        return all(
            {task for task, shown in here.items() if shown["state"] in ENDED} >= wanted
            for here in told
        ) and all(_outcomes(here, wanted) == _outcomes(told[0], wanted) for here in told)

    def story() -> list[object]:
        return [
            (
                node.root.name,
                [
                    (t, here.get(t, {}).get("state"))
                    for t in sorted(wanted)
                    if here.get(t, {}).get("state") not in ENDED
                ][:10],
                [t for t in sorted(wanted) if _outcome(here.get(t)) != _outcome(told[0].get(t))][
                    :5
                ],
            )
            for node, here in zip(nodes, told, strict=False)
        ]

    wait_until(look, "one outcome for each, the same on every node", within_s=within_s, story=story)
    return told[0]


def everything(node: Node) -> dict[str, dict[str, Any]]:
    """All task objects of a node, by id."""
    found: dict[str, dict[str, Any]] = {}
    before = None
    while True:
        page = node.ask(commands.List(limit=PAGE, before=before))
        for task in page["tasks"]:
            found[task["id"]] = task
        if not page["more"]:
            return found
        before = page["tasks"][-1]["order"]


def check_runs(witness: Witness, told: Mapping[str, Mapping[str, Any]]) -> int:
    """What was acknowledged ran; what ran twice is explained by a suspicion. How many ran twice."""
    runs = witness.runs()
    twice = 0
    for task in witness.acknowledged:
        attempts = told[task]["attempts"]
        if told[task]["state"] == "succeeded":
            assert runs[task] >= 1, f"{task} succeeded and never ran"
        if runs[task] > 1:
            twice += 1
            recorded = len(attempts) + witness.unrecorded[task]
            assert recorded >= runs[task], (task, runs[task], attempts)
            # All but one failed, or were given up by somebody, or made on two sides of a split.
            explained = [a for a in attempts if a["state"] in ("lost", "failed") or a["given_up"]]
            doubled = len(attempts) - len({a["attempt"] for a in attempts})
            known = len(explained) + doubled + witness.unrecorded[task]
            assert known >= runs[task] - 1, (task, runs[task], attempts)
    return twice


def _outcomes(told: Mapping[str, Mapping[str, Any]], tasks: set[str]) -> dict[str, object]:
    return {task: _outcome(told.get(task)) for task in tasks}


def _outcome(shown: Mapping[str, Any] | None) -> object:
    if shown is None:
        return None
    return (shown["state"], shown["node"], shown["attempt"], shown["exit_code"])
