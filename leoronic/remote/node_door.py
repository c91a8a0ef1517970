"""The control socket of the node here, for a party: connected again when the node was restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from leoronic.client.aio import AsyncClient
from leoronic.core.commands import Command, Logs, Show
from leoronic.errors import NodeUnreachable

T = TypeVar("T")

# A node whose core was killed has another within a tenth of a second.
BACK_S_MAX = 10.0
TRY_AGAIN_S = 0.05
# A node that goes away whenever it is asked is not asked for ever.
REPEAT_S_MAX = 30.0


class NodeDoor:
    """Asks the node in `root`. For the loop's thread only."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, command: Command, blob: bytes = b"", *, again: bool = True) -> Any:
        """The result. `again`: ask once more if the node went away before it answered.

        Raises what the node answers; `NodeUnreachable` if it is gone for long; `CallTimeout`.
        """
        return await self._repeat(lambda client: client.request(command, blob), again=again)

    async def read_logs(self, task: str, stream: str, bytes_max: int) -> bytes:
        """The last `bytes_max` bytes that the latest attempt of `task` printed so far.

        Raises what the node answers; `NodeUnreachable`.
        """

        async def read(client: AsyncClient) -> bytes:
            # How much there is, is known of one that has ended.
            size = (await client.request(Show(task))).get(f"{stream}_bytes") or 0
            found = b""
            offset = max(0, size - bytes_max)
            async for answer in client.stream(Logs(task, stream, offset=offset)):
                found = (found + answer.blob)[-bytes_max:]
            return found

        return await self._repeat(read, again=True)

    async def _repeat(self, ask: Callable[[AsyncClient], Awaitable[T]], *, again: bool) -> T:
        loop = asyncio.get_running_loop()
        until = loop.time() + REPEAT_S_MAX
        while True:
            client = await self._connected()
            try:
                return await ask(client)
            except NodeUnreachable:
                self._forget(client)
                if not again or loop.time() > until:
                    raise

    def close(self) -> None:
        """End it; who waits gets `NodeUnreachable`."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _forget(self, client: AsyncClient) -> None:
        if self._client is client:
            client.close()
            self._client = None

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is not None:
                return self._client
            until = asyncio.get_running_loop().time() + BACK_S_MAX
            while True:
                try:
                    self._client = await AsyncClient.connect(self.root)
                except NodeUnreachable:
                    if asyncio.get_running_loop().time() > until:
                        raise
                    await asyncio.sleep(TRY_AGAIN_S)
                else:
                    return self._client
