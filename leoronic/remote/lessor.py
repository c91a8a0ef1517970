"""Whom a worker works for: while it can be reached the worker stays, else it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from leoronic.remote.assignment import Address
from leoronic.remote.gone import PartyGone
from leoronic.remote.party import Party

RETRY_S = 0.25
AGAIN_S = 0.01
# Where the lessor was, nobody listens: as sure as it can be that it has ended.
NOBODY_S = 1.0


class Lessor:
    """Keeps a connection with `address`. `on_gone(reason)` is called once there is no hope.

    `is_needed`: False for a detached actor, which only says once that it is there.
    """

    def __init__(
        self,
        party: Party,
        address: Address,
        *,
        orphan_s: float,
        is_needed: bool,
        on_gone: Callable[[str], None],
    ) -> None:
        self._party = party
        self._address = address
        self._orphan_s = orphan_s
        self._is_needed = is_needed
        self._on_gone = on_gone

    async def stay(self) -> None:
        """Connect, again and again; returns when it is of no use any more."""
        since = time.monotonic()
        was_there = False
        while True:
            try:
                channel = await self._party.dial(*self._address)
            except PartyGone as error:
                if not self._is_needed:
                    return
                away_s = time.monotonic() - since
                if error.nobody_listens and (not was_there or away_s > NOBODY_S):
                    self._on_gone(f"whom it worked for has ended: {error}")
                    return
                if away_s > self._orphan_s:
                    self._on_gone(f"whom it worked for is away for {away_s:.0f} s: {error}")
                    return
                await asyncio.sleep(RETRY_S)
                continue
            was_there = True
            await channel.lost()
            since = time.monotonic()
            # The party hears of it in this turn of the loop too, perhaps later.
            await asyncio.sleep(AGAIN_S)
