"""A process in another environment that measures when asked: JSON lines over its pipes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from integration.bench.install import Unavailable

ANSWER_TIMEOUT_S = 120.0


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own, and all that is in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Side:
    """One such process; `ready` is the first thing it says."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        with (folder / "side.err").open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._errors = folder / "side.err"
        try:
            self._answer(30.0)
        except Unavailable:
            self.close()
            raise

    def ask(self, what: str, count: int) -> list[float]:
        """Have it measure: seconds. Raises `Unavailable` if it does not answer."""
        stdin = cast("IO[bytes]", self.process.stdin)
        try:
            stdin.write(json.dumps({"do": what, "count": count}).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise Unavailable(f"it has ended: {self._last_error()}") from None
        found: list[float] = self._answer(ANSWER_TIMEOUT_S)
        return found

    def _answer(self, timeout_s: float) -> list[float]:
        stdout = cast("IO[bytes]", self.process.stdout)
        if not select.select([stdout], [], [], timeout_s)[0]:
            raise Unavailable(f"no answer within {timeout_s:g} s")
        line = stdout.readline()
        if not line:
            raise Unavailable(f"it has ended: {self._last_error()}")
        try:
            found: list[float] = json.loads(line)
        except ValueError:
            raise Unavailable(f"no answer but {line[:80]!r}") from None
        return found

    def _last_error(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "without a word"

    def close(self) -> None:
        """End it and all that it started."""
        ended(self.process)
