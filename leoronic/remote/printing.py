"""What remote code prints: to this process' own output, and in lines to the driver.

The streams of the process stay what they are; Python's `sys.stdout` and `sys.stderr` write there
and to the driver. What writes to the descriptors directly is in the task's output only.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import IO

Line = tuple[str, str, str]
"""(stream, text, who)."""

PENDING_BYTES_MAX = 256 * 1024
LINE_BYTES_MAX = 16 * 1024
_ITEMS_MAX = 128


class Relay:
    """Lines on their way to the driver. `wake()` is called when there are some to `take`.

    Bounded: what comes while too much is pending is counted and left out.
    """

    def __init__(self, who: Callable[[], str], wake: Callable[[], None]) -> None:
        self._who = who
        self._wake = wake
        self._pending: list[Line] = []
        self._pending_bytes = 0
        self._left_out = 0
        self._process = os.getpid()

    def add(self, stream: str, data: bytes) -> None:
        """Lines that were printed, from whatever thread."""
        # A forked child has no thread that could send it.
        if os.getpid() != self._process:
            return
        if self._pending_bytes + len(data) > PENDING_BYTES_MAX:
            self._left_out += len(data)
            return
        is_first = not self._pending
        self._pending_bytes += len(data)
        self._pending.append((stream, data.decode(errors="backslashreplace"), self._who()))
        if is_first:
            self._wake()

    def take(self) -> list[Line]:
        """All that is pending, bounded; on the thread that sends it."""
        lines, self._pending = self._pending, []
        self._pending_bytes = 0
        left_out, self._left_out = self._left_out, 0
        if left_out:
            text = f"... {left_out:,} bytes are left out here; the task's logs have them\n"
            lines.append(("stderr", text, self._who()))
        return lines


class _Tee(io.RawIOBase):
    """The bytes below a text stream: written to the descriptor, and in lines to the relay."""

    def __init__(self, stream: str, descriptor: int, relay: Relay) -> None:
        super().__init__()
        self._stream = stream
        self._descriptor = descriptor
        self._relay = relay
        self._part = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False

    def write(self, data: object, /) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        count = len(view)
        text = self._part + bytes(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        end = text.rfind(b"\n") + 1
        if not end and len(text) > LINE_BYTES_MAX:
            end = len(text)
        self._part = text[end:]
        if end:
            self._relay.add(self._stream, text[:end])
        return count

    def flush_part(self) -> None:
        """Hand on a line that was begun."""
        part, self._part = self._part, b""
        if part:
            self._relay.add(self._stream, part)


def redirect(relay: Relay) -> Callable[[], None]:
    """Make `sys.stdout` and `sys.stderr` speak to the relay too; what is returned flushes them."""
    tees = []
    for name in ("stdout", "stderr"):
        old: IO[str] = getattr(sys, name)
        old.flush()
        tee = _Tee(name, old.fileno(), relay)
        # Buffers what is shorter than a line, so that each line is one call of the kernel.
        text = io.TextIOWrapper(
            io.BufferedWriter(tee),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, name, text)
        tees.append((text, tee))

    def flush() -> None:
        for text, tee in tees:
            text.flush()
            tee.flush_part()

    return flush
