"""Where other nodes can be called, as the node here knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from leoronic.core.commands import Command, Locate

FRESH_S = 30.0


class Places:
    """Addresses of nodes, asked for by `ask` and kept for a while. For the loop's thread only."""

    def __init__(self, ask: Callable[[Command], Awaitable[Any]]) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, list[str]]] = {}

    async def addresses(self, node: str) -> Sequence[str]:
        """HOST:PORT of the peer port of `node` (its id), the best first; empty if it has none.

        Raises what the node answers.
        """
        now = asyncio.get_running_loop().time()
        until, known = self._known.get(node, (0.0, []))
        if now < until:
            return known
        told = await self._ask(Locate(node=node))
        found = [str(address) for address in told["addresses"]]
        self._known[node] = (now + FRESH_S, found)
        return found

    def forget(self, node: str) -> None:
        """It was not met there: ask again next time."""
        self._known.pop(node, None)

    def met(self, node: str, address: str) -> None:
        """It was met at `address`: try that first the next time."""
        until, known = self._known.get(node, (0.0, []))
        if address in known:
            self._known[node] = (until, [address, *(one for one in known if one != address)])
