"""What becomes of a party in a child that the process forks: nothing; it stays the parent's.

A fork shares open connections, but has no thread with the loop. Without this, a child that lives on
would keep the connections open after its parent has died, and nobody would notice that death; and
who asked for anything in the child would wait for ever.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What has descriptors that are not for children."""

    def forked(self) -> None:
        """This is a child now, with the same memory: close descriptors, refuse all use."""


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()
_registered: list[bool] = []


def watch(one: Forkable) -> None:
    """From now on `one.forked()` is called in each child that this process forks."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_in_child)
    _known.add(one)


def forget(one: Forkable) -> None:
    """It has no descriptors any more."""
    _known.discard(one)


def close_quietly(descriptor: int) -> None:
    """Close it, if it is open."""
    try:
        os.close(descriptor)
    except OSError:
        return


def _in_child() -> None:
    for one in list(_known):
        one.forked()
    _known.clear()
