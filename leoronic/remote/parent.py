"""A worker ends with the runner that holds it.

Callers are connected with the worker itself, so they would go on to use it after its whole node was
killed, while the other nodes, which take it for lost, start it again somewhere else.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> bool:
    """Have the kernel kill this process with its parent; False if it cannot be told."""
    parent = os.getppid()
    try:
        told: int = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return False
    if os.getppid() != parent:
        # It ended in between, and that was not told.
        os.kill(os.getpid(), signal.SIGKILL)
    return told == 0
