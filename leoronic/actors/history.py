"""Forgets what is past retention: ended tasks, their attempts, entries and output.

A slice at a time, so that nobody waits for it. Only what all nodes hold is forgotten: else one that
comes back would bring it in again. Output is removed by age: the runner makes the files of tasks
that run young once an hour, and when they end, however long they print nothing. A copy of another
node's output is as old as the end of its run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from leoronic.actors.journal import Trim
from leoronic.core.replication_messages import AskStable
from leoronic.errors import Refused, Unavailable
from leoronic.runtime.actor import Actor

EVERY_S = 3600.0
SLICE_TASKS = 500
PAUSE_S = 0.05
# A file of output may hold tasks that ended up to this much after its last byte.
MARGIN_S = 86400.0


class HistoryActor(Actor):
    """Keeps `retention_s` seconds of history."""

    def __init__(self, output_dir: Path, retention_s: float) -> None:
        self._output_dir = output_dir
        self._retention_s = retention_s

    async def started(self) -> None:
        """Look now and then every hour."""
        self.context.spawn(self._run(), "trim")

    async def handle(self, message: Any) -> Any:
        """Takes no messages."""
        return await super().handle(message)

    async def _run(self) -> None:
        while True:
            before = time.time() - self._retention_s
            # On a full disk, or with a journal between two lives, it is tried again next time.
            with contextlib.suppress(Refused, Unavailable):
                await self._trim(before)
            await asyncio.to_thread(self._remove_output, before - MARGIN_S)
            await asyncio.sleep(EVERY_S)

    async def _trim(self, before: float) -> None:
        journal = self.context.find("journal")
        stable = await self.context.find("replication").call(AskStable(), timeout_s=60.0)
        if stable is None:
            return  # Somebody is away, or catching up: next time.
        forgotten = 0
        while count := await journal.call(Trim(before, SLICE_TASKS, stable), timeout_s=60.0):
            forgotten += count
            await asyncio.sleep(PAUSE_S)
        if forgotten:
            self.context.log.info("history forgotten", tasks=forgotten)

    def _remove_output(self, before: float) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in self._output_dir.iterdir():
                if path.is_file() and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
