"""Memory of large arguments: used again instead of given back to the system each time.

The system clears each page of fresh memory, and interrupts for it: filling a MiB of that takes 0.5
to 1.7 ms, filling one that was used before 0.07 ms. The C library gives freed memory back at once
if it is large. It is told to keep some.
"""

from __future__ import annotations

import ctypes

KEPT_BYTES_MAX = 256 * 1024 * 1024
# What is larger is given back at once. The library takes no more than this.
LARGE_BYTES_MIN = 32 * 1024 * 1024

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8


def keep_memory() -> bool:
    """Have this process keep up to `KEPT_BYTES_MAX` that was freed; False if it cannot be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # One pool for all threads: what one frees the next can use.
    settings = (
        (_ARENA_MAX, 1),
        (_MMAP_THRESHOLD, LARGE_BYTES_MIN),
        (_TRIM_THRESHOLD, KEPT_BYTES_MAX),
    )
    return all(mallopt(what, value) == 1 for what, value in settings)
