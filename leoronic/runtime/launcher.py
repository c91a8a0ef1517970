"""How a host process is started: by the keeper's fork, or as a fresh Python.

A fork of the preloaded keeper takes about 1 ms and shares its memory; a fresh Python takes 0.1 s
or more and needs no keeper, which suits tests and actors of users.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any, Protocol


class Launcher(Protocol):
    """Starts host processes and tells how they ended."""

    async def start(self, name: str, arguments: dict[str, Any]) -> int:
        """Start the host known as `name`; returns its pid. Raises `LeoronicError`."""
        ...

    async def status(self, pid: int) -> int | None:
        """Exit code of a process that is known to be over, -N for signal N; None: unknown."""
        ...


class ExecLauncher:
    """Starts hosts as `python -m leoronic.runtime.host`; the name is `module:callable`.

    `arguments` are passed to the callable, except those of the host itself (see `run_host`).
    """

    def __init__(self, python: str = sys.executable, env: dict[str, str] | None = None) -> None:
        self._python = python
        self._env = env
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    async def start(self, name: str, arguments: dict[str, Any]) -> int:
        """Start a Python of its own session."""
        # vfork, about 1 ms: shorter than asking a thread to do it.
        process = subprocess.Popen(  # noqa: ASYNC220
            [self._python, "-m", "leoronic.runtime.host", name, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            env=self._env,
            start_new_session=True,
        )
        self._processes[process.pid] = process
        return process.pid

    async def status(self, pid: int) -> int | None:
        """The exit code, at once: the process is over."""
        process = self._processes.pop(pid, None)
        if process is None:
            return None
        return await asyncio.to_thread(process.wait)
