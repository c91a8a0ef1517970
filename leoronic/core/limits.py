"""The limits of one attempt, and which of them ended it."""

from __future__ import annotations

from leoronic.core.attempt_events import ShellExited
from leoronic.core.run import Run

# A bash needs some memory of its own before it runs anything: under a smaller limit the kernel
# would kill it while it starts, and a task that asked for "1 KiB" could never run.
MEMORY_LIMIT_MIN = 16 * 1024 * 1024


def limit_reason(run: Run, done: ShellExited) -> str:
    """Which limit ended it. A command that coped with being refused succeeded, and says nothing."""
    if done.exit_code == 0:
        return ""
    if done.memory_killed:
        return f"killed: memory {size_text(max(run.memory, MEMORY_LIMIT_MIN))}"
    if done.pids_refused:
        return f"pids limit of {run.pids} reached"
    return ""


def size_text(size: int) -> str:
    """A size in bytes for a person: in the largest binary unit that leaves at least 1."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"
