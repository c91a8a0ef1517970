"""What `top` shows: the answers of a node put together. Plain data, no terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from leoronic.client.cluster_text import GONE
from leoronic.client.connection import Client
from leoronic.client.outcomes import ENDED
from leoronic.core.commands import List, Nodes, Show, Status
from leoronic.errors import Refused

LISTED_TASKS_MAX = 200
RECENT_TASKS_MAX = 100
DETAILS_AT_ONCE_MAX = 25

Task = Mapping[str, Any]


class Snapshot:
    """The cluster as its node last told of it; `lost` while that does not answer."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.nodes: list[dict[str, Any]] = []
        self.running: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []
        self.ended: deque[dict[str, Any]] = deque(maxlen=RECENT_TASKS_MAX)
        self.lost = False
        self._names: dict[str, dict[str, Any]] = {}

    def poll(self, client: Client) -> None:
        """Ask for everything at once; two dozen milliseconds at most, whatever is queued."""
        asked = [
            client.send(command)
            for command in (
                Status(),
                Nodes(),
                List(state="running", limit=LISTED_TASKS_MAX),
                List(state="waiting", limit=LISTED_TASKS_MAX),
            )
        ]
        status, nodes, running, waiting = [client.answer(number) for number in asked]
        self.status = status
        self.nodes = nodes["nodes"]
        self.running = running["tasks"]
        self.waiting = waiting["tasks"]
        self._names = {task["id"]: task for task in (*self.running, *self.waiting)}
        self._fill_in(client)
        self.lost = False

    def _fill_in(self, client: Client) -> None:
        """Ask what the newest ended tasks were: short ones come and go between two polls."""
        unknown = [task for task in self.newest_ended()[:DETAILS_AT_ONCE_MAX] if is_bare(task)]
        asked = [(task, client.send(Show(task["id"]))) for task in unknown]
        for task, number in asked:
            try:
                task.update(client.answer(number))
            except Refused:
                task["command"] = ""

    def seed_ended(self, client: Client) -> None:
        """The tasks that had ended before the watching began, as far as the newest tell."""
        asked = [client.send(List(state=state, limit=RECENT_TASKS_MAX)) for state in ENDED]
        found = [task for number in asked for task in client.answer(number)["tasks"]]
        found.sort(key=lambda task: task.get("finished_at") or "")
        self.ended.clear()
        self.ended.extend(found[-RECENT_TASKS_MAX:])

    def take_change(self, item: dict[str, Any]) -> None:
        """One item of `Watch`."""
        if item["state"] in ENDED:
            known = self._names.get(item["id"], {})
            self.ended.append(known | {"finished_at": item.get("at")} | item)

    def newest_ended(self) -> list[dict[str, Any]]:
        """Last ended first."""
        return list(reversed(self.ended))

    def here(self) -> dict[str, Any]:
        """The node object of the node that was asked; {} before the first answer."""
        name = self.status.get("node", {}).get("id")
        return next((node for node in self.nodes if node.get("id") == name), {})

    def whole(self) -> dict[str, Any]:
        """All nodes that are there as if they were one: `cpus`, `memory` and `free` added up.

        What a node has not told yet counts as free.
        """
        found: dict[str, Any] = {"free": {}}
        there = [node for node in self.nodes if node["state"] not in GONE]
        for name in ("cpus", "memory"):
            wholes = [node.get(name) or 0 for node in there]
            found[name] = sum(wholes)
            found["free"][name] = sum(
                (node.get("free") or {}).get(name, whole)
                for node, whole in zip(there, wholes, strict=True)
            )
        return found

    def as_data(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "status": self.status,
            "nodes": self.nodes,
            "running": self.running,
            "waiting": self.waiting,
            "ended": self.newest_ended(),
        }


def is_bare(task: Task) -> bool:
    """Whether nothing but a change is known of the task."""
    return "command" not in task
