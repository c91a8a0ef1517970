"""What comes over a connection faster than its actor takes it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from leoronic.runtime.host_frames import Inflow
from leoronic.runtime.ref import LocalRef
from leoronic.wire.protocol import FrameProtocol
from tests.runtime.actors import Gated, child, running, until


class Transport:
    """Notes whether it was told to read."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False


async def test_reading_stops_while_the_actor_cannot_take_more() -> None:
    """Beyond the mailbox and `waiting_max` the connection is not read, until all is delivered."""
    gated = Gated()
    async with running(child("gated", lambda: gated, mailbox_max=1)) as tree:
        ref = tree.find("gated")
        assert isinstance(ref, LocalRef)
        transport = Transport()
        protocol = FrameProtocol(lambda *_: None, lambda *_: None)
        protocol.transport = cast(Any, transport)
        inflow = Inflow(waiting_max=2)
        for number in range(3):
            inflow.add(protocol, ref, number)
        assert transport.reading
        inflow.add(protocol, ref, 3)
        assert not transport.reading
        for number in (4, 5):
            inflow.add(protocol, ref, number)
        await asyncio.sleep(0)
        assert not transport.reading
        gated.gate.set()
        await until(lambda: gated.seen == [0, 1, 2, 3, 4, 5])
        assert transport.reading
