"""A ghost is read no faster than the core deals with what it says."""

from __future__ import annotations

import asyncio

from leoronic.ghost.ghost_line import WINDOW, GhostLine
from leoronic.wire.protocol import FrameProtocol


class Reads(asyncio.Transport):
    """A transport that only knows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True

    def pause_reading(self) -> None:
        """Not from now on."""
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        """From now on."""
        assert not self.reads
        self.reads = True

    def is_closing(self) -> bool:
        """Never."""
        return False


def line() -> tuple[GhostLine, Reads]:
    """Of a ghost that has just called."""
    frames = FrameProtocol(lambda *_: None, lambda *_: None)
    transport = Reads()
    frames.connection_made(transport)
    return GhostLine("g", frames), transport


async def test_so_many_frames_are_under_way_at_most() -> None:
    """It goes on when the core has dealt with one, or has begun anew."""
    ghost, transport = line()
    for _ in range(WINDOW):
        assert transport.reads
        ghost.came(100)
    assert not transport.reads
    ghost.taken(1)
    assert transport.reads
    ghost.came(100)
    assert not transport.reads
    ghost.taken_all()
    assert transport.reads
    for _ in range(WINDOW - 1):
        ghost.came(100)
    assert transport.reads


async def test_who_says_too_much_waits_though_all_was_dealt_with() -> None:
    """A large burst is taken; then it has to pause."""
    ghost, transport = line()
    for _ in range(5):
        ghost.came(4 << 20)
        ghost.taken(1)
    assert not transport.reads
