"""The clock that nobody sets."""

from __future__ import annotations

import time


def steady_s() -> float:
    """Seconds of a clock that nobody sets, and that goes on while this machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
