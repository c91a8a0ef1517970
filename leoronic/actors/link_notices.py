"""Who of this node is told which nodes it is connected with."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from leoronic.actors.link import Link
from leoronic.core.peer import LinkDown, LinkUp
from leoronic.errors import Unavailable
from leoronic.runtime.actor import ActorContext

NODES_TOLD = ("membership", "replication", "questions", "file_store")


class LinkNotices:
    """For the actor of `context`."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._notices: deque[LinkUp | LinkDown] = deque()
        self._telling = asyncio.Lock()

    async def up(self, link: Link) -> None:
        """It is open; returns once everybody is told."""
        self._notices.append(_link_up(link))
        await self._tell()

    def down(self, link: Link) -> None:
        """It is closed."""
        self._notices.append(LinkDown(link.node, link.reason))
        self._context.spawn(self._tell(), "link down")

    def all_down(self, links: list[Link]) -> None:
        """The connections end with their actor: told as far as there is room, as nothing waits."""
        for link in links:
            for name in NODES_TOLD:
                ref = self._context.get(name)
                if ref is not None:
                    with contextlib.suppress(Unavailable):
                        ref.cast_nowait(LinkDown(link.node, "the connections begin anew"))

    def again(self, links: list[Link], to: str) -> None:
        """The actor `to` begins anew, and has to hear of all `links`."""
        ref = self._context.get(to)
        for link in links:
            if ref is not None:
                self._context.spawn(ref.cast(_link_up(link)), f"links to {to}")

    async def _tell(self) -> None:
        """Tell all that is noted, in order, however full they are."""
        async with self._telling:
            while self._notices:
                notice = self._notices.popleft()
                for name in NODES_TOLD:
                    ref = self._context.get(name)
                    if ref is not None:
                        await ref.cast(notice)


def _link_up(link: Link) -> LinkUp:
    return LinkUp(link.node, link.hello.about, link.at, link.protocol)
