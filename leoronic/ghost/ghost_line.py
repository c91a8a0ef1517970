"""The relay process's end of a ghost's connection: it takes no more than the core can deal with.

Two things hold it back. At most `WINDOW` frames are passed to the core and not dealt with there, so
that one ghost takes nothing from the others, and no mailbox fills up. And each has its pace
(`pace.py`), so that answering it leaves the core time for its own work.
"""

from __future__ import annotations

import asyncio

from leoronic.ghost.pace import Pace
from leoronic.wire.protocol import FrameProtocol

WINDOW = 16
# The core says how many it has dealt with each time it is so many.
TOLD_EVERY = 4


class GhostLine:
    """See the module."""

    def __init__(self, ghost: str, frames: FrameProtocol) -> None:
        self.ghost = ghost
        self.frames = frames
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(self._loop.time())
        self._under_way = 0
        self._pauses = False
        self._reads = True

    def came(self, size: int) -> None:
        """A frame of `size` bytes came, and was passed on."""
        self._under_way += 1
        pause_s = self._pace.take(size, self._loop.time())
        if pause_s and not self._pauses:
            self._pauses = True
            self._loop.call_later(pause_s, self._pause_is_over)
        self._decide()

    def taken(self, frames: int) -> None:
        """The core has dealt with so many."""
        self._under_way = max(0, self._under_way - frames)
        self._decide()

    def taken_all(self) -> None:
        """The core knows nothing of what was passed to it."""
        self.taken(self._under_way)

    def _pause_is_over(self) -> None:
        self._pauses = False
        self._decide()

    def _decide(self) -> None:
        reads = self._under_way < WINDOW and not self._pauses
        transport = self.frames.transport
        if reads == self._reads or transport is None or transport.is_closing():
            return
        self._reads = reads
        (transport.resume_reading if reads else transport.pause_reading)()
