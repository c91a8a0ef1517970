"""Stdout and stderr of a node or a ghost: who reads them, and that writing to them never fails."""

from __future__ import annotations

import io
import sys
from typing import Any


def logs_are_text(log_format: str | None) -> bool:
    """Whether lines are for a person. `log_format`: `json`, `text`, None to find out."""
    return log_format == "text" or (log_format is None and sys.stderr.isatty())


class _Output(io.FileIO):
    """A descriptor to write to; what it does not take is dropped.

    A terminal that was closed, a pipe nobody reads, a full disk: a node goes on without its log.
    """

    def write(self, data: Any) -> int:
        """Write some of `data`; how many bytes are done with."""
        try:
            written: int | None = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def keep_writing() -> None:
    """From now on no write to stdout or stderr fails, in this process and its forks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            continue  # It was closed before the start.
        stream.flush()
        raw = _Output(stream.fileno(), "w", closefd=False)
        lasting = io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True
        )
        setattr(sys, name, lasting)
