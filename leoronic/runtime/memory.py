"""Keeps a process small: old machines have little memory, and an idle node should take little."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8


def one_arena() -> None:
    """Let all threads allocate from one heap, instead of each from one of its own (glibc)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free, but was kept, to the system (glibc)."""
    gc.collect()
    trim()


def trim() -> None:
    """As `give_back`, without looking for garbage: that would hold up the loop of a large node."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
