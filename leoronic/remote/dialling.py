"""Calling another party: by its socket on this machine, by its node's peer port on others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from leoronic.errors import LeoronicError
from leoronic.remote.channel import Channel
from leoronic.remote.connecting import NoneAnswers, connect_any
from leoronic.remote.gone import PartyGone
from leoronic.remote.places import Places
from leoronic.remote.tls import Tls
from leoronic.wire.calls import socket_path
from leoronic.wire.unix import connect_unix

BUSY_S = 0.01
BUSY_TRIES_MAX = 500


class Dialling:
    """Makes channels; two that want the same at the same time share one."""

    def __init__(
        self,
        state_dir: Path,
        here: Callable[[], str],
        places: Places,
        tls: Tls,
        new_channel: Callable[[], Channel],
    ) -> None:
        self._state_dir = state_dir
        self._here = here
        self._places = places
        self._tls = tls
        self._new_channel = new_channel
        self._under_way: dict[tuple[str, str], asyncio.Task[Channel]] = {}

    async def dial(self, node: str, party: str) -> Channel:
        """A new channel to `party` on `node`, on which both have said who they are.

        Raises `PartyGone`.
        """
        key = (node, party)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._dial(node, party))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # Another may wait for it too.
        return await asyncio.shield(task)

    async def _dial(self, node: str, party: str) -> Channel:
        try:
            if node == self._here():
                channel = await self._local(party)
            else:
                channel = await self._remote(node, party)
            hello = await channel.opened
        except (OSError, LeoronicError) as error:
            if isinstance(error, PartyGone):
                raise
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise PartyGone(f"{party} cannot be reached: {why}") from error
        if (hello.node, hello.party) != (node, party):
            channel.close("another party answers than was called")
            raise PartyGone(f"{hello.party} answers instead of {party}")
        return channel

    async def _local(self, party: str) -> Channel:
        path = str(socket_path(self._state_dir, party))
        for _ in range(BUSY_TRIES_MAX):
            try:
                found = connect_unix(path)
                break
            except BlockingIOError:
                # Many call at once, and it is busy.
                await asyncio.sleep(BUSY_S)
        else:
            raise PartyGone(f"{party} takes no calls: too many wait")
        if found is None:
            raise PartyGone(f"{party} is not there", nobody_listens=True)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(self._new_channel, sock=found)
        return channel

    async def _remote(self, node: str, party: str) -> Channel:
        try:
            address, found = await connect_any(await self._places.addresses(node))
        except NoneAnswers as error:
            self._places.forget(node)
            raise PartyGone(f"the node of {party} cannot be called: {error}") from error
        self._places.met(node, address)
        return await self._tls.call(found, party, self._new_channel)
