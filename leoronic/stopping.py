"""Stopping in order: what runs may end first; the second time it is asked for, at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from leoronic.core.executor_messages import Abandon, SetDraining, WaitIdle
from leoronic.errors import Unavailable
from leoronic.runtime.log import Logger
from leoronic.runtime.supervisor import Tree

ASK_AGAIN_S = 0.05
# What runs is given 5 s to end by itself, as by `cancel`.
ABANDON_S = 8.0


class Stopping:
    """One for each core; to be made, as all else here, while the loop runs."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._asked = asyncio.Event()
        self._now = asyncio.Event()

    def ask(self, now: bool) -> None:
        """Drain, then stop; the second time, or with `now`, at once."""
        if now or self._asked.is_set():
            self._now.set()
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether it has been asked for."""
        return self._asked.is_set()

    async def wait_drained(self, tree: Tree) -> None:
        """Wait until a stop was asked for and nothing runs any more (or it is to be now)."""
        await self._asked.wait()
        executor = tree.find("runner")
        now = asyncio.ensure_future(self._now.wait())
        idle = asyncio.ensure_future(_idle(tree))
        self._log.info("draining", hint="a second TERM (ctrl-C) stops at once")
        await asyncio.wait([now, idle], return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        idle.cancel()
        await executor.cast(Abandon())
        with suppress(Unavailable):
            # Once nothing runs here, others may start it; but a stop does not wait for ever.
            await executor.call(WaitIdle(), timeout_s=ABANDON_S)


async def _idle(tree: Tree) -> None:
    executor = tree.find("runner")
    while True:
        try:
            await executor.call(SetDraining(True), timeout_s=10.0)
            await executor.call(WaitIdle(), timeout_s=3600.0)
        except Unavailable:
            # It is being restarted (let that happen), or there is still something running.
            await asyncio.sleep(ASK_AGAIN_S)
            continue
        return
