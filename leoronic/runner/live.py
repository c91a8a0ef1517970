"""What the runner process holds of one attempt that runs: its processes, pipes, group, timers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from leoronic.core.attempt_events import TimerKind
from leoronic.core.run import AttemptKey, Run
from leoronic.runner.cgroup import Group
from leoronic.runner.stream import Stream
from leoronic.runner.warm import WarmShell

WATCH_S_MIN = 0.01
WATCH_S_MAX = 0.25


class Live:
    """One attempt whose shell was started and whose outcome is not complete yet."""

    __slots__ = (
        "group",
        "key",
        "kill_sent",
        "marker",
        "output_told",
        "pid",
        "pidfd",
        "private_dir",
        "run",
        "shell",
        "shell_gone",
        "started",
        "started_at",
        "stderr",
        "stdout",
        "timers",
        "watch",
        "watch_s",
        "watched_limits",
        "write_ends",
    )

    def __init__(self, run: Run, marker: str, stdout: Stream, stderr: Stream) -> None:
        self.run = run
        self.key: AttemptKey = run.key
        self.marker = marker
        self.stdout = stdout
        self.stderr = stderr
        self.pid = 0
        self.pidfd = -1
        self.started = 0.0
        """By the loop's clock."""
        self.started_at = 0.0
        """In seconds since the epoch."""
        self.shell: WarmShell | None = None
        """The warm shell that runs it; None if it has a shell of its own."""
        self.shell_gone = False
        self.write_ends: list[int] = []
        """Open for the warm shell to open them in its turn."""
        self.group: Group | None = None
        self.private_dir: Path | None = None
        self.timers: dict[TimerKind, asyncio.TimerHandle] = {}
        self.output_told = False
        self.kill_sent = False
        self.watch: asyncio.TimerHandle | None = None
        self.watch_s = WATCH_S_MIN
        self.watched_limits = False
        """Its limits are not the kernel's business: see `watch.py`."""

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """stdout, stderr."""
        return self.stdout, self.stderr

    @property
    def output_ended(self) -> bool:
        """Both streams were read to their end."""
        return self.stdout.ended and self.stderr.ended

    def stream(self, name: str) -> Stream:
        """By name: `stdout` or `stderr`."""
        return self.stdout if name == "stdout" else self.stderr

    def pipes(self) -> list[str]:
        """The names of the pipes that are still open, as /proc shows them."""
        names = []
        for stream in self.streams:
            if stream.fd >= 0:
                with contextlib.suppress(OSError):
                    names.append(f"pipe:[{os.fstat(stream.fd).st_ino}]")
        return names

    def close_write_ends(self) -> None:
        """From here on, the streams end when the task's processes have ended."""
        for fd in self.write_ends:
            os.close(fd)
        self.write_ends.clear()

    def cancel_timers(self) -> None:
        """No timer of this attempt fires any more."""
        for handle in self.timers.values():
            handle.cancel()
        self.timers.clear()
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
