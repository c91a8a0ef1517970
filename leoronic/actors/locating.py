"""Where a task runs and how its node is called: for those who talk to it without the node."""

from __future__ import annotations

import asyncio
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.nodes import Nodes
from leoronic.actors.watchers import Watchers
from leoronic.core.addresses import best_first
from leoronic.core.commands import Locate
from leoronic.errors import BadRequest

WAIT_S_MAX = 50.0
LOOK_AGAIN_S = 10.0
ADDRESSES_MAX = 16
_ENDED = ("succeeded", "failed", "cancelled")


class Locating:
    """Answers `Locate`."""

    def __init__(self, cluster: Cluster, watchers: Watchers, nodes: Nodes) -> None:
        self._cluster = cluster
        self._watchers = watchers
        self._nodes = nodes

    async def locate(self, command: Locate) -> dict[str, Any]:
        """See `Locate`."""
        if bool(command.id) == bool(command.node):
            raise BadRequest("locate what? give the id of a task or of a node")
        if not 0.0 <= command.wait_s <= WAIT_S_MAX:
            raise BadRequest(f"`wait_s` is 0 to {WAIT_S_MAX:g}")
        if command.node:
            node = self._nodes.find(command.node)
            self._nodes.check_there(node)
            return {"task": None, "state": "", "attempt": 0, "reason": "", **self._place(node)}
        task = await self._cluster.resolve(command.id)
        if not command.wait_s:
            return await self._look(task)
        return await self._wait(task, command)

    async def _wait(self, task: str, command: Locate) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + command.wait_s
        with self._watchers.subscribe([task]) as subscription:
            while True:
                found = await self._look(task)
                runs = found["state"] == "running" and found["attempt"] > command.after_attempt
                left_s = deadline - loop.time()
                if runs or found["state"] in _ENDED or left_s <= 0:
                    return found
                await subscription.news(min(left_s, LOOK_AGAIN_S))

    async def _look(self, task: str) -> dict[str, Any]:
        live = (await self._cluster.live([task])).get(task)
        if live is not None:
            # A task that waits again was somewhere, and is nowhere.
            node = live.node if live.state == "running" else ""
            state, attempt, reason = live.state, live.attempt, "; ".join(live.reasons)
        else:
            [ended] = await self._cluster.tasks([task])
            node, state, attempt = "", ended["state"], ended["attempt"]
            reason = ended["reason"] or _how(ended)
        found = {"task": task, "state": state, "attempt": attempt, "reason": reason}
        return {**found, **self._place(node)}

    def _place(self, node: str) -> dict[str, Any]:
        if not node:
            return {"node": "", "name": "", "addresses": [], "here": False}
        member = self._nodes.members().get(node)
        addresses: list[str] = []
        if member is not None:
            # First where the messages of nodes go.
            addresses = [member.address] if member.address else []
            addresses += best_first(member.about.addresses)
        return {
            "node": node,
            "name": self._nodes.name(node),
            "addresses": list(dict.fromkeys(addresses))[:ADDRESSES_MAX],
            "here": node == self._nodes.me,
        }


def _how(ended: dict[str, Any]) -> str:
    if ended.get("signal"):
        return f"signal {ended['signal']}"
    if ended.get("exit_code") is not None:
        return f"exit code {ended['exit_code']}"
    return ""
