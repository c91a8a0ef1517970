"""Nodes of which there are only the connections, for tests: real sockets on loopback."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from leoronic.actors.link import Link
from leoronic.actors.peers import PeersActor
from leoronic.actors.peers_messages import Describe, Described
from leoronic.core.membership_messages import Found
from leoronic.core.peer import LinkUp
from leoronic.core.view import About
from leoronic.runtime.loop import new_event_loop
from leoronic.runtime.supervisor import Tree
from leoronic.wire.cookie import write_cookies
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test on the loop of a real node."""

    async def bounded(*arguments: Any, **named: Any) -> None:
        # pytest's own limit cannot interrupt this loop.
        async with asyncio.timeout(30):
            await test(*arguments, **named)

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(bounded(*arguments, **named))

    return run


class Peer:
    """One node: its actor `peers`, and stand-ins for those around it."""

    def __init__(self, folder: Path, node: str, life: int, **settings: Any) -> None:
        self.node = node
        self.cookies = folder / f"{node}-{life}.cookie"
        write_cookies(self.cookies, settings.pop("cookies", [COOKIE]))
        self.membership = settings.pop("membership", None) or Recorder()
        self.replication = settings.pop("replication", None) or Recorder()
        self.runner = Recorder()
        self.questions = Recorder()
        self.copied: list[str] = []
        self.rejoin: list[str] = []
        self.port = 0
        self.tree: Tree
        self.actor: PeersActor
        self._settings = settings
        self.about = About(name=f"name-{node}", version="0.3", life=life)

    def listening(self, port: int) -> None:
        self.port = port

    def make(self) -> PeersActor:
        settings = {"host": "127.0.0.1", "port": 0, **self._settings}
        self.actor = PeersActor(
            node=lambda: self.node,
            about=lambda: self.about,
            cookies=self.cookies,
            on_copied=self.copied.append,
            on_rejoin=self.rejoin.append,
            on_listening=self.listening,
            **settings,
        )
        return self.actor

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def tell(self, message: Any) -> None:
        await self.tree.find("peers").cast(message)

    async def find(self, *others: Peer) -> None:
        """Discovery has found these."""
        await self.tell(Found([other.address for other in others], "static x"))

    async def describe(self) -> Described:
        return await self.tree.find("peers").call(Describe())  # type: ignore[no-any-return]

    async def links(self) -> list[str]:
        return [link.node for link in (await self.describe()).links]

    async def reason_at(self, address: str) -> str:
        """Why nobody was met at `address`, once that is known."""
        while True:
            for place in (await self.describe()).places:
                if place.address == address and place.reason:
                    return place.reason

    async def up(self, *nodes: str) -> list[LinkUp]:
        """Wait until membership was told of connections to these."""
        found = await self.membership.until(
            lambda messages: {*nodes} <= {m.node for m in messages if isinstance(m, LinkUp)}
        )
        return [message for message in found if isinstance(message, LinkUp)]


@asynccontextmanager
async def peer_in(folder: Path, node: str, life: int = 1, **settings: Any) -> AsyncIterator[Peer]:
    peer = Peer(folder, node, life, **settings)
    async with running(
        child("membership", lambda: peer.membership),
        child("replication", lambda: peer.replication, mailbox_max=8),
        child("runner", lambda: peer.runner),
        child("questions", lambda: peer.questions),
        child("peers", peer.make),
    ) as tree:
        peer.tree = tree
        yield peer


def only_link(peer: Peer) -> Link:
    (link,) = peer.actor._links.all()
    return link


@asynccontextmanager
async def linked(folder: Path, **settings: Any) -> AsyncIterator[tuple[Peer, Peer]]:
    """Two nodes that are connected, and know it; aaa has called. `settings` are those of bbb."""
    async with peer_in(folder, "aaa") as a, peer_in(folder, "bbb", **settings) as b:
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")
        yield a, b
