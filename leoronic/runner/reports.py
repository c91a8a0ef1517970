"""What warm shells say of the tasks that they run, and how long they stay without one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from leoronic.runner import spawn
from leoronic.runner.live import Live
from leoronic.runner.telling import Guard
from leoronic.runner.warm import WarmShell, WarmShells


class Reports:
    """Listens to the warm shells of one runner.

    `began` is told of the process of each task, perhaps more than once; `ended` of how it ended;
    `died` of a shell that said its last.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        guarded: Guard,
        idle_s: float,
        *,
        began: Callable[[Live, int], None],
        ended: Callable[[Live, spawn.Exit], None],
        died: Callable[[WarmShell], None],
    ) -> None:
        self._loop = loop
        self._guarded = guarded
        self._idle_s = idle_s
        self._began = began
        self._ended = ended
        self._died = died
        self._idle_timer: asyncio.TimerHandle | None = None
        self._readable = guarded(self._on_report)

    def listen(self, shell: WarmShell, warm: WarmShells) -> None:
        """Hear what this one says, and end those of `warm` that have nothing to do for long."""
        self._loop.add_reader(shell.report_fd, self._readable, shell, warm)
        self._close_idle_later(warm)

    def leave(self, shell: WarmShell) -> None:
        """It has died: nothing more is to be heard."""
        self._loop.remove_reader(shell.report_fd)

    def stop(self) -> None:
        """No timer fires any more."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _close_idle_later(self, warm: WarmShells) -> None:
        if self._idle_timer is None and warm.all:
            self._idle_timer = self._loop.call_later(
                self._idle_s, self._guarded(self._close_idle), warm
            )

    def _close_idle(self, warm: WarmShells) -> None:
        self._idle_timer = None
        warm.close_idle(self._loop.time())
        self._close_idle_later(warm)

    def _on_report(self, shell: WarmShell, warm: WarmShells) -> None:
        try:
            report = shell.read_report()
        except EOFError:
            self._died(shell)
            return
        live = shell.live
        if report is None or live is None:
            return
        self._began(live, report.pid)
        if report.ended is not None:
            self._ended(live, report.ended)
        else:
            self._wait_for_stopped(shell, report.pid, warm)

    def _wait_for_stopped(self, shell: WarmShell, pid: int, warm: WarmShells) -> None:
        """A stopped task would keep its warm shell spinning in `wait`: we wait instead."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            shell.go_on()
            return

        def ended() -> None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            if shell in warm.all:
                shell.go_on()

        self._loop.add_reader(pidfd, self._guarded(ended))
