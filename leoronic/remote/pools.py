"""All leases of this process: a pool for each shape of worker that its functions ask for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from leoronic.core import commands
from leoronic.errors import LeoronicError
from leoronic.remote.channel import Channel
from leoronic.remote.conversation import Conversation
from leoronic.remote.lease import Lease
from leoronic.remote.leases import Pool
from leoronic.remote.shapes import Shape, new_task_id, worker_task

if TYPE_CHECKING:
    from leoronic.remote.context import Context

# A short wait is no reason to start another process.
BLOCKED_S_MIN = 0.05


class Pools:
    """Finds the pool of a shape; knows how many workers wait, as each may be stood in for."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._pools: dict[Shape, Pool] = {}
        self._leases: dict[str, Lease] = {}
        self._self_blocked = 0
        self._stand_in_due = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def pool(self, shape: Shape) -> Pool:
        """The pool of that shape. From any thread."""
        found = self._pools.get(shape)
        if found is None:
            found = self._pools.setdefault(shape, Pool(self, shape))
        return found

    # ---- on the loop's thread ----

    @property
    def extras_left(self) -> int:
        """How many more leases without cpus there may be: one for each process that waits."""
        blocked = sum(lease.is_blocked for lease in self._leases.values())
        extras = sum(lease.is_extra for lease in self._leases.values())
        return blocked + self._self_blocked - extras

    def self_blocked(self, flag: bool) -> None:
        """A thread of the user's begins or ends to wait, in this process."""
        self._self_blocked += 1 if flag else -1
        if flag:
            self.calls_wait()

    def worker_blocked(self, channel: Channel, flag: bool) -> None:
        """A worker of ours begins or ends to wait."""
        route = self.context.routes.get(channel)
        lease = self._leases.get(route[0].target) if route is not None else None
        if lease is not None:
            lease.is_blocked = flag
            lease.pool.pump_soon()
            if flag:
                self.calls_wait()

    def worker_connected(self, channel: Channel, task: str, attempt: int) -> None:
        """A worker has come: one of ours?"""
        lease = self._leases.get(task)
        if lease is not None:
            lease.connected(channel, attempt)

    def worker_lost(self, conversation: Conversation) -> None:
        """A worker's connection has ended."""
        lease = self._leases.get(conversation.target)
        if lease is not None:
            lease.lost()

    def release_idle(self) -> None:
        """Give back now what has nothing to do: somebody else needs the cpus."""
        for pool in self._pools.values():
            pool.end_idle(0.0)

    async def request(self, pool: Pool, count: int, *, is_extra: bool) -> list[Lease]:
        """Submit tasks for `count` workers more. Raises `LeoronicError`."""
        task = worker_task(self.context, pool.shape, is_extra=is_extra)
        self.release_idle()
        # With ids of our own it does no harm to ask a restarted node once more.
        made = [Lease(pool, new_task_id("w"), is_extra=is_extra) for _ in range(count)]
        for lease in made:
            self._leases[lease.task] = lease
        text = b"\n".join(json.dumps({**task, "id": lease.task}).encode() for lease in made)
        try:
            await self.context.party.ask(commands.Submit(lines=True), text)
        except LeoronicError:
            for lease in made:
                self.gone(lease)
            raise
        return made

    def gone(self, lease: Lease) -> None:
        """That lease is over."""
        self._leases.pop(lease.task, None)

    def cancel_tasks(self, tasks: list[str]) -> None:
        """End them, whatever their state; whether that works is not waited for."""
        task = self.context.party.loop.create_task(self._cancel(tasks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Give all leases back."""
        unstarted = [lease.task for lease in self._leases.values() if not lease.end("it ends")]
        self._leases.clear()
        if unstarted:
            await self._cancel(unstarted)

    async def _cancel(self, tasks: list[str]) -> None:
        try:
            await self.context.party.ask(commands.Cancel(tasks))
        except LeoronicError:
            return  # A worker that comes later finds nobody, and ends by itself.

    def calls_wait(self) -> None:
        """Calls wait, or a process does: if both, somebody may stand in for that soon."""
        if not self._stand_in_due and self.extras_left > 0:
            self._stand_in_due = True
            self.context.party.loop.call_later(BLOCKED_S_MIN, self._stand_in)

    def _stand_in(self) -> None:
        self._stand_in_due = False
        for pool in self._pools.values():
            if self.extras_left > 0:
                pool.stand_in()
