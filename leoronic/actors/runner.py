"""The executor's actor: between the scheduler and the runner process.

It hosts `ExecutorMachine`, asks the runner process for its inventory whenever the two are connected
anew, and looks at the machine on the executor's behalf: which files exist, how much disk is free.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leoronic.core import executor
from leoronic.core.effects import Attached, Detached, Send
from leoronic.core.executor import ExecutorMachine
from leoronic.core.executor_messages import RunnerDown
from leoronic.core.peer import CheckFiles, FilesPresent
from leoronic.core.resources import Capacity
from leoronic.core.run import TakeInventory
from leoronic.errors import CallTimeout, Unavailable
from leoronic.runtime.actor import NO_REPLY
from leoronic.runtime.machine import MachineActor

DISK_EVERY_S = 30.0
PATHS_MAX = 10_000


class _LookAtDisk:
    """Time to see how much room there is."""


class ExecutorActor(MachineActor):
    """`node` gives the node's id once the journal is open; `capacity` measures the machine.

    `ghost`: it is a ghost's.
    """

    def __init__(
        self,
        node: Callable[[], str],
        name: str,
        root: Path,
        capacity: Callable[[], Capacity],
        tags: tuple[str, ...],
        *,
        ghost: bool = False,
    ) -> None:
        super().__init__(
            lambda: ExecutorMachine(
                node(), name, capacity(), tags, str(root), ghost=ghost, python=sys.executable
            )
        )
        self._node = node
        self._root = root
        self._capacity = capacity
        self._looking: set[str] = set()  # for whom files are being looked for

    async def started(self) -> None:
        """Ask the journal, then the runner, what was running."""
        await super().started()
        await self.feed(executor.Start())
        self.context.spawn(self._take_inventory(), "inventory")
        self.context.send_after(DISK_EVERY_S, _LookAtDisk())

    async def handle(self, message: Any) -> Any:
        """Notices about the runner process and questions about files; the rest is the machine's."""
        match message:
            case Attached():
                self.context.spawn(self._take_inventory(), "inventory")
            case Detached():
                await self.feed(RunnerDown())
            case CheckFiles():
                self._check_files(message)
            case _LookAtDisk():
                await self.feed(self._capacity())
                self.context.send_after(DISK_EVERY_S, message)
            case _:
                return await super().handle(message)
        return NO_REPLY

    def _check_files(self, message: CheckFiles) -> None:
        """Look beside everything else: a file on a server that is gone may keep us waiting."""
        if message.node not in self._looking:
            self._looking.add(message.node)
            self.context.spawn(self._look(message), f"files for {message.node}")

    async def _look(self, message: CheckFiles) -> None:
        try:
            paths = message.paths[:PATHS_MAX]
            present = await asyncio.to_thread(lambda: frozenset(filter(self._exists, paths)))
        finally:
            self._looking.discard(message.node)
        me = self._node()
        to = "scheduler" if message.node == me else f"scheduler@{message.node}"
        self.perform([Send(to, FilesPresent(me, present))])

    async def _take_inventory(self) -> None:
        host = self.context.get("runner_host")
        while host is not None:
            try:
                inventory = await host.call(TakeInventory(), timeout_s=30.0)
            except CallTimeout:
                continue  # A machine that stood still for a while: nobody else will ask.
            except Unavailable:
                return  # It is not there yet, or gone again: `Attached` follows.
            self.context.send_now(inventory)
            return

    def _exists(self, path: str) -> bool:
        try:
            return (self._root / path).exists()
        except (OSError, ValueError):
            return False


def measure_capacity(
    root: Path,
    cpus: float | None,
    memory: int | None,
    storage: int | None,
    resources: dict[str, float],
) -> Capacity:
    """What this machine has for tasks; given values win over measured ones."""
    count = len(os.sched_getaffinity(0)) if cpus is None else cpus
    return Capacity(
        cpus_milli=int(count * 1000),
        memory=_physical_memory() if memory is None else memory,
        storage=_free_storage(root) if storage is None else storage,
        resources=tuple(sorted(resources.items())),
    )


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_storage(root: Path) -> int:
    """Free bytes, in steps of 64 MiB: it is an offer, and need not change with every file."""
    usage = os.statvfs(root)
    step = 64 * 1024 * 1024
    return usage.f_bavail * usage.f_frsize // step * step
