"""Where the worker of a task is, as the node here knows it: an event for `CallerMachine`."""

from __future__ import annotations

import sys
from typing import Any

from leoronic.core import calls, commands
from leoronic.errors import LeoronicError, NodeUnreachable, NotFound
from leoronic.remote.party import Party
from leoronic.remote.post_mortem import how_it_ended

# Locate waits so long for a change before it answers all the same.
LOCATE_WAIT_S = 10.0
# A task that nobody knows may be one that was submitted just now.
UNKNOWN_S_MAX = 5.0
# Without the node here for so long, nothing will come of it any more.
NO_NODE_S_MAX = 60.0


class Finding:
    """Of the worker of one task. For the loop's thread."""

    def __init__(self, party: Party, task: str) -> None:
        self._party = party
        self._task = task
        self._known_until = party.loop.time() + UNKNOWN_S_MAX
        self._no_node_since = 0.0
        self._has_warned = False

    async def find(self, after_attempt: int, attempt: int, *, at_once: bool) -> object:
        """`Placed`, `Restarting`, `Ended`, or `Disconnected` if that cannot be told.

        `attempt` is the one that was called last. If a later one than `after_attempt` does not run,
        it waits a while for that, unless `at_once`.
        """
        wait_s = 0.0 if at_once else LOCATE_WAIT_S
        try:
            found = await self._party.ask(
                commands.Locate(self._task, wait_s=wait_s, after_attempt=after_attempt)
            )
        except LeoronicError as error:
            return self._not_told(error)
        self._no_node_since = 0.0
        state, latest, reason = found["state"], found["attempt"], found["reason"]
        if state in ("succeeded", "failed", "cancelled"):
            return calls.Ended(await how_it_ended(self._party, self._task))
        if state == "running" and latest > after_attempt:
            return calls.Placed(latest, found["node"], f"{self._task}.{latest}")
        if state == "held" and latest:
            return await self._lost_too_often(latest, attempt, reason)
        if not at_once:
            self._warn(reason)
        return _restarting(latest, attempt, reason)

    def _not_told(self, error: LeoronicError) -> object:
        now = self._party.loop.time()
        if isinstance(error, NotFound) and now >= self._known_until:
            return calls.Ended(f"there is no task {self._task} any more")
        if isinstance(error, NodeUnreachable):
            self._no_node_since = self._no_node_since or now
            if now - self._no_node_since > NO_NODE_S_MAX:
                return calls.Ended(error.message)
        return calls.Disconnected(error.message)

    async def _lost_too_often(self, latest: int, attempt: int, reason: str) -> object:
        """Its node, or runner, was lost with it: the node asks a person whether it goes on."""
        try:
            shown: dict[str, Any] = await self._party.ask(commands.Show(self._task))
            if shown["on_loss"] == "hold":
                # It was not to be restarted; nobody else would ever end it.
                await self._party.ask(commands.Cancel([self._task]))
                return calls.Ended(reason)
            await self._party.ask(commands.Release([self._task]))
        except LeoronicError as error:
            return calls.Disconnected(error.message)
        return _restarting(latest, attempt, reason)

    def _warn(self, reason: str) -> None:
        if reason and not self._has_warned:
            self._has_warned = True
            sys.stderr.write(f"leoronic: calls wait for {self._task}: {reason}\n")


def _restarting(latest: int, attempt: int, reason: str) -> object:
    if latest >= attempt:
        return calls.Restarting(latest, reason or "its process has ended")
    # That is known already: it still waits for its next process.
    return calls.Disconnected(reason)
