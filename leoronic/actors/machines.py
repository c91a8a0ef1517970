"""The actors that are nothing but a machine: the queue and the scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable

from leoronic.actors.steady import steady_s
from leoronic.core import queue, scheduler
from leoronic.runtime.machine import MachineActor


class QueueActor(MachineActor):
    """Hosts `QueueMachine`; its memory comes from the journal each time it starts."""

    def __init__(self) -> None:
        super().__init__(queue.QueueMachine)

    async def started(self) -> None:
        """Ask the journal for the live tasks."""
        await super().started()
        await self.feed(queue.Start())


class SchedulerActor(MachineActor):
    """Hosts `SchedulerMachine`; the queue and the executors tell it what it must know.

    `node` gives the node's id once the journal is open.
    """

    def __init__(self, node: Callable[[], str]) -> None:
        super().__init__(
            lambda: scheduler.SchedulerMachine(node(), time.time_ns() // 1000), clock=steady_s
        )

    async def started(self) -> None:
        """Tell the queue that the scheduler is empty."""
        await super().started()
        await self.feed(scheduler.Start())
