"""What a node or a ghost notes of itself, from one life of its core to the next."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from leoronic.durable import replace_file


def next_life(path: Path) -> int:
    """A number for this life of the core: greater than all before, even if the clock went back.

    Microseconds since 1970, as two copies of a folder that start together must not have the same:
    who has the greater one makes way. It is less than 2**52 until the year 2112.
    """
    try:
        last = int(path.read_text())
    except (OSError, ValueError):
        last = 0
    life = max(time.time_ns() // 1_000, last + 1)
    # On a full disk it starts all the same: only a clock that goes back now would harm.
    with contextlib.suppress(OSError):
        replace_file(path, f"{life}\n".encode())
    return life


def note(path: Path, line: str) -> None:
    """Have the file hold this line; one that does is left alone, as the disk may be full."""
    try:
        if path.read_text() == line + "\n":
            return
    except (OSError, ValueError):
        pass
    replace_file(path, f"{line}\n".encode())
