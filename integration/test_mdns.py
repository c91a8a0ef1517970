"""Real mDNS, on the loopback alone: being found, a change of address, and the goodbye."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from leoronic.actors.mdns import Announcement, Mdns, Sighting

DEADLINE_S = 20.0
HOST = "127.0.0.1"


class Ear:
    """What one node hears of others, and its announcement."""

    def __init__(self, port: int) -> None:
        # Other tests, and real nodes, may be announced here at the same time.
        self.node = f"test{uuid.uuid4().hex[:8]}"
        self.port = port
        self.heard: dict[str, Sighting] = {}
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mdns = Mdns(self._sighted, lambda work, name: self._spawn(work))

    async def announce(self, *addresses: str, name: str = "attic") -> None:
        """Tell others."""
        told = Announcement(self.node, name, ("f1", "f2"), (1, 2), addresses, self.port)
        await self.mdns.announce(told)

    async def until(self, node: str, *, name: str = "attic") -> Sighting:
        """Wait until `node` was heard of under that name."""
        async with asyncio.timeout(DEADLINE_S):
            while node not in self.heard or self.heard[node].name != name:
                self._news.clear()
                await self._news.wait()
        return self.heard[node]

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sighted(self, sighting: Sighting) -> None:
        self.heard[sighting.node] = sighting
        self._news.set()


@asynccontextmanager
async def listening(*ports: int) -> AsyncIterator[list[Ear]]:
    ears = [Ear(port) for port in ports]
    try:
        for ear in ears:
            await ear.mdns.open(HOST)
        yield ears
    finally:
        for ear in ears:
            await ear.mdns.close()


async def test_two_nodes_find_each_other() -> None:
    """Each hears the other's id, name, clusters and address, whoever came first."""
    async with listening(22581, 22582) as (one, two):
        await one.announce("127.0.0.1:22581")
        await two.announce("127.0.0.1:22582")
        expected = Sighting(one.node, "attic", ("f1", "f2"), ("127.0.0.1:22581",))
        assert expected == await two.until(one.node)
        assert ("127.0.0.1:22582",) == (await one.until(two.node)).addresses


async def test_a_change_is_heard() -> None:
    """What a node tells anew replaces what it told before."""
    async with listening(22583, 22584) as (one, two):
        await one.announce("127.0.0.1:22583")
        await two.until(one.node)
        await one.announce("127.0.0.1:22583", "[::1]:22583", name="shed")
        assert "[::1]:22583" in (await two.until(one.node, name="shed")).addresses


async def test_a_new_identity() -> None:
    """A node that takes another id is announced by that."""
    async with listening(22587, 22588) as (one, two):
        await one.announce("127.0.0.1:22587")
        first = one.node
        await two.until(first)
        one.node = f"{first}x"
        await one.announce("127.0.0.1:22587")
        assert ("127.0.0.1:22587",) == (await two.until(one.node)).addresses


async def test_closing_is_quick_and_may_be_repeated() -> None:
    """With the goodbye it takes less than what an ordered stop allows; nothing is left open."""
    async with listening(22585) as (one,):
        await one.announce("127.0.0.1:22585")
        async with asyncio.timeout(4.0):
            await one.mdns.close()
            await one.mdns.close()


async def test_an_address_that_is_not_there() -> None:
    """It is an `OSError`, which is tried again later."""
    with pytest.raises(OSError, match=r".+"):
        await Ear(22586).mdns.open("192.0.2.77")
