"""The asynchronous client: the same requests and streams, on an event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from leoronic.client import locate
from leoronic.client.asking import Asking
from leoronic.client.connection import (
    ANSWER_TIMEOUT_S,
    Answer,
    Client,
    parse_answer,
    request_json,
)
from leoronic.core.commands import Command, Logs, Watch
from leoronic.errors import CallTimeout, NodeUnreachable
from leoronic.wire.frames import Frame
from leoronic.wire.protocol import FrameProtocol


class AsyncClient(Asking):
    """A connection to one node, for any number of tasks of one loop. Made by `connect`."""

    def __init__(self, root: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.root = root
        self._timeout_s = timeout_s
        self._numbers = 0
        self._waiting: dict[int, asyncio.Queue[Answer]] = {}
        self._protocol = FrameProtocol(self._on_frame, self._on_closed)

    @classmethod
    async def connect(
        cls, root: str | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> AsyncClient:
        """Connect to the node in `root` (found as by `Client`). Raises `NodeUnreachable`."""
        try:
            client = cls(locate.find_root(root), timeout_s=timeout_s)
            raw = locate.open_socket(client.root)
        except locate.NoNodeError as error:
            raise NodeUnreachable(str(error)) from None
        sock = socket.socket(fileno=raw.detach())
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: client._protocol, sock=sock)
        return client

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what waits for an answer gets `NodeUnreachable`."""
        self._protocol.close()

    async def request(self, command: Command, blob: bytes = b"") -> Any:
        """Ask and wait for the result. Raises what the node answered, or `CallTimeout`."""
        number, answers = self._send(command, blob)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._protocol.drained()
                return (await answers.get()).result()
        except TimeoutError:
            raise CallTimeout(
                f"the node in {self.root} gave no answer within {self._timeout_s:.0f} s"
            ) from None
        finally:
            self._waiting.pop(number, None)

    async def stream(self, command: Command, blob: bytes = b"") -> AsyncIterator[Answer]:
        """Ask for a streamed answer: every `Answer`, the one with the result (`last`) too."""
        number, answers = self._send(command, blob)
        try:
            while True:
                answer = await answers.get()
                answer.result()
                yield answer
                if answer.last:
                    return
        finally:
            self._waiting.pop(number, None)

    async def finish(self, command: Command, blob: bytes = b"") -> Any:
        """See `Asking.finish`."""
        result: Any = None
        async for answer in self.stream(command, blob):
            result = answer.value
        return result

    async def output(
        self, task_id: str, stream: str = "stdout", *, attempt: int = 0, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """What a task printed, part by part; `follow`: until it has ended, over retries."""
        async for answer in self.stream(Logs(task_id, stream, follow, attempt)):
            if not answer.last:
                yield answer.blob

    async def watch(self) -> AsyncIterator[Any]:
        """What happens to tasks from now on, as it does: items of `commands.Watch`."""
        async for answer in self.stream(Watch()):
            yield answer.value

    async def get(self, task_id: str, folder: str = ".", *, replace: bool = False) -> Any:
        """See `Asking.get`."""
        # Writing files blocks, so it has a thread, and a connection, of its own.
        return await asyncio.to_thread(self._get, task_id, folder, replace)

    async def collect(self, folder: str) -> Any:
        """See `Asking.collect`."""
        return await asyncio.to_thread(self._collect, folder)

    def _get(self, task_id: str, folder: str, replace: bool) -> Any:
        with Client(self.root, timeout_s=self._timeout_s) as client:
            return client.get(task_id, folder, replace=replace)

    def _collect(self, folder: str) -> Any:
        with Client(self.root, timeout_s=self._timeout_s) as client:
            return client.collect(folder)

    def _send(self, command: Command, blob: bytes) -> tuple[int, asyncio.Queue[Answer]]:
        if self._protocol.closed:
            raise self._lost()
        self._numbers += 1
        # A stream's items wait here unbounded only while its reader is behind the socket.
        answers = self._waiting[self._numbers] = asyncio.Queue()
        self._protocol.send(request_json(self._numbers, command), blob)
        return self._numbers, answers

    def _on_frame(self, protocol: FrameProtocol, frame: Frame) -> None:
        answer = parse_answer(frame.json, frame.blob)
        answers = self._waiting.get(answer.request)
        if answers is not None:
            answers.put_nowait(answer)

    def _on_closed(self, protocol: FrameProtocol, reason: Exception | None) -> None:
        for number, answers in self._waiting.items():
            answers.put_nowait(Answer(number, True, None, b"", self._lost()))

    def _lost(self) -> NodeUnreachable:
        return NodeUnreachable(f"the node in {self.root} went away")
