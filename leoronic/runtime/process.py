"""Watching and ending a process that need not be our child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal


class Process:
    """A process that need not be our child, held by pidfd: its number cannot be reused under us."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = -1

    async def wait_over(self, timeout_s: float) -> bool:
        """Whether it is over, at the latest in `timeout_s` seconds."""
        if self._pidfd < 0:
            return True
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_reader(self._pidfd, over.set)
        try:
            async with asyncio.timeout(timeout_s):
                await over.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._pidfd)
        return True

    async def end(self, grace_s: float) -> None:
        """TERM it, KILL it after `grace_s` seconds, and wait until it is over."""
        if grace_s > 0:
            self._signal(signal.SIGTERM)
            if await self.wait_over(grace_s):
                return
        self._signal(signal.SIGKILL)
        await self.wait_over(60.0)

    def close(self) -> None:
        """Let go of it."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
