"""A node of a program's own: in a temporary folder, for as long as the program lasts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from leoronic.client import Client, locate
from leoronic.core.commands import Stop
from leoronic.errors import LeoronicError, NodeUnreachable

START_S_MAX = 30.0
STOP_S_MAX = 10.0
LOOK_S = 0.003
LOG_CHARS_MAX = 2000
_PR_SET_PDEATHSIG = 1


class LocalNode:
    """Starts a node, and waits until it answers. Raises `NodeUnreachable`.

    It finds no others, and is found by none. It ends with this process, however that ends.
    """

    def __init__(self, cpus: float | None, resources: Mapping[str, float]) -> None:
        self.root = tempfile.mkdtemp(prefix="leoronic-")
        words = [sys.executable, "-m", "leoronic", "start", "--root", self.root]
        words += ["--listen", "127.0.0.1:0", "--no-discovery"]
        if cpus is not None:
            words += ["--cpus", f"{cpus:g}"]
        for name, amount in resources.items():
            words += ["--resource", f"{name}={amount:g}"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("LEORONIC_")
        }
        self._log = Path(self.root) / "node.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                words,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 - it takes no lock
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, with all that it runs, and take its folder away."""
        if self._process.poll() is None:
            with contextlib.suppress(LeoronicError), Client(self.root) as client:
                client.request(Stop(now=True))
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            # It leads a session of its own.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                locate.open_socket(self.root).close()
            except locate.NoNodeError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = self._log.read_text(errors="replace")[-LOG_CHARS_MAX:]
                    raise NodeUnreachable(f"the local node did not start: {text}") from None
                time.sleep(LOOK_S)
            else:
                return


def _end_with_parent() -> Callable[[], None] | None:
    """What the new process does so that the kernel ends it with this one, even after a kill -9."""
    if threading.current_thread() is not threading.main_thread():
        # The kernel would end it with the thread that started it.
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
