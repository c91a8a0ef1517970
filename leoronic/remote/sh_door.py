"""A connection to the node for tasks that are called: what is asked lasts over its restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from leoronic.client.aio import AsyncClient
from leoronic.core.commands import Command, Logs
from leoronic.errors import LeoronicError, NodeUnreachable

BACK_S_MAX = 30.0
TRY_AGAIN_S = 0.1


class ShDoor:
    """Asks the node in `root`. For the loop's thread only."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._submitting: dict[str, asyncio.Event] = {}

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run it on the loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._over)

    def announce(self, task: str) -> None:
        """That one is going to be submitted: others may name it already."""
        self._submitting[task] = asyncio.Event()

    def submitted(self, task: str) -> None:
        """It was, or was refused."""
        under_way = self._submitting.pop(task, None)
        if under_way is not None:
            under_way.set()

    async def wait_submitted(self, tasks: list[str]) -> None:
        """Until none of `tasks` is only going to be submitted."""
        for task in tasks:
            if task in self._submitting:
                await self._submitting[task].wait()

    async def ask(self, command: Command, blob: bytes = b"") -> Any:
        """The result, however long that takes. It must be harmless to ask twice.

        Raises what the node answers, or `NodeUnreachable` if it is gone for long.
        """
        while True:
            client = await self._connected()
            try:
                return await client.finish(command, blob)
            except NodeUnreachable:
                self._forget(client)

    async def read(self, logs: Logs) -> bytes:
        """What a task that has ended printed, from `logs.offset` on. Raises as `ask`."""
        while True:
            client = await self._connected()
            try:
                return b"".join(
                    [answer.blob async for answer in client.stream(logs) if not answer.last]
                )
            except NodeUnreachable:
                self._forget(client)

    def end(self) -> None:
        """Cancel all that runs."""
        for task in self._running:
            task.cancel()

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        # That the node is gone is told by what was asked; anything else is a bug.
        if error is not None and not isinstance(error, LeoronicError):
            task.get_loop().call_exception_handler({"message": "in sh", "exception": error})

    def _forget(self, client: AsyncClient) -> None:
        client.close()
        if self._client is client:
            self._client = None

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is not None:
                return self._client
            loop = asyncio.get_running_loop()
            until = loop.time() + BACK_S_MAX
            while True:
                try:
                    self._client = await AsyncClient.connect(self._root)
                except NodeUnreachable:
                    if loop.time() > until:
                        raise
                    await asyncio.sleep(TRY_AGAIN_S)
                else:
                    return self._client
