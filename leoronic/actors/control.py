"""The control socket: ROOT/.leoronic/control.sock, guarded by file permissions.

Each connection may have some requests under way; more of them wait in the socket. What one client
does wrong (random bytes, huge frames, never reading) costs that client its connection and nobody
else anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from leoronic.actors.following import Following
from leoronic.actors.locating import Locating
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_reading import Item
from leoronic.actors.progress import with_progress
from leoronic.actors.surface import make_surface
from leoronic.actors.views import change_object, error_object
from leoronic.actors.watchers import Watchers
from leoronic.core import commands
from leoronic.core.commands import Command, Request
from leoronic.core.queue_messages import QueueStarted, TasksChanged, Watching
from leoronic.core.view import AskView, View
from leoronic.errors import LeoronicError, NotFound, ProtocolError, Refused, Unavailable
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.wire.codec import Codec, to_json
from leoronic.wire.frames import Frame, FrameDecoder
from leoronic.wire.protocol import FrameProtocol
from leoronic.wire.unix import listen_unix

CONNECTIONS_MAX = 2048
REQUESTS_MAX = 64
# The ids of the biggest submission fit.
SEND_BYTES_MAX = 32 * 1024 * 1024
COMMAND_BYTES_MAX = 4 * 1024 * 1024
# Requests under way may have so many bytes, of one connection and of all of them; a single one of
# any size always fits. Of all, only submissions count: questions go on meanwhile.
CONNECTION_BYTES_MAX = 32 * 1024 * 1024
SUBMISSION_BYTES_MAX = 256 * 1024 * 1024
WATCH_S = 3600.0

_codec: Codec[Request] = Codec(Request)


class _Client:
    """One connection: its frames that wait, and its requests that are being answered.

    One of these at a time, who holds `large`, has something large to send to it.
    """

    def __init__(self) -> None:
        self.protocol: FrameProtocol
        self.tasks: set[asyncio.Task[None]] = set()
        self.waiting: deque[Frame] = deque()
        self.bytes_under_way = 0
        self.large = asyncio.Lock()


class ControlActor(Actor):
    """Serves the socket at `path`."""

    def __init__(self, path: Path, output_dir: Path, info: NodeInfo, nodes: Nodes) -> None:
        self._path = path
        self._output_dir = output_dir
        self._info = info
        self._nodes = nodes
        self._clients: set[_Client] = set()
        self._submission_bytes = 0
        # Connections whose next submission waits for those of others, in order.
        self._held_up: dict[_Client, None] = {}
        self._watchers = Watchers(lambda: self._watching(True), lambda: self._watching(False))

    async def started(self) -> None:
        """Listen."""
        context = self.context
        self._queue = context.find("queue")
        surface = make_surface(
            context, self._info, self._nodes, self._output_dir, context.get("questions")
        )
        self._cluster = surface.cluster
        self._answers = surface.answers
        self._following = Following(surface.cluster, self._watchers, surface.sources)
        self._locating = Locating(surface.cluster, self._watchers, self._nodes)
        membership = context.get("membership")
        if membership is not None:
            with contextlib.suppress(Unavailable):
                membership.cast_nowait(AskView(context.name))
        # An earlier life that crashed has left its file.
        self._path.unlink(missing_ok=True)
        listener = listen_unix(str(self._path))
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(self._accept, sock=listener, backlog=1024)
        self.context.spawn(self._close_at_end(server), "socket")

    async def stopping(self) -> None:
        """Let nobody in any more."""
        self._path.unlink(missing_ok=True)

    async def _close_at_end(self, server: asyncio.Server) -> None:
        """Close every connection when this ends, a crash included: its clients would wait."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for client in list(self._clients):
                client.protocol.close()

    async def handle(self, message: Any) -> Any:
        """The queue's reports, and who is there."""
        match message:
            case View():
                self._on_view(message)
            case TasksChanged(changes):
                self._watchers.offer(changes)
            case QueueStarted():
                if self._watchers.wake_all():
                    self._watching(True)
            case _:
                return await super().handle(message)
        return NO_REPLY

    def _on_view(self, view: View) -> None:
        self._nodes.see(view)
        questions = self.context.get("questions")
        if questions is not None:
            # What is asked of a node that is gone fails.
            with contextlib.suppress(Unavailable):
                questions.cast_nowait(view)
        self.context.spawn(self._tell_newcomers(), "newcomers")

    async def _tell_newcomers(self) -> None:
        # A cookie file that can't be read is told to whoever asks for it.
        with contextlib.suppress(Refused):
            await self._answers.joining.tell_newcomers()

    def _watching(self, on: bool) -> None:
        # A queue between two lives says `QueueStarted` when it is back.
        with contextlib.suppress(Unavailable):
            self._queue.cast_nowait(Watching(on))

    # ---- connections ----

    def _accept(self) -> FrameProtocol:
        client = _Client()
        client.protocol = FrameProtocol(
            lambda _, frame: self._on_frame(client, frame),
            lambda _, reason: self._on_closed(client, reason),
            lambda _: self._on_opened(client),
            decoder=FrameDecoder(json_bytes_max=COMMAND_BYTES_MAX),
            send_bytes_max=SEND_BYTES_MAX,
        )
        return client.protocol

    def _on_opened(self, client: _Client) -> None:
        if len(self._clients) >= CONNECTIONS_MAX:
            client.protocol.abort(ProtocolError(f"{CONNECTIONS_MAX} clients are connected"))
        else:
            self._clients.add(client)

    def _on_closed(self, client: _Client, reason: Exception | None) -> None:
        self._clients.discard(client)
        self._held_up.pop(client, None)
        client.waiting.clear()
        for task in client.tasks:
            task.cancel()
        if isinstance(reason, ProtocolError):
            self.context.log.warning("client disconnected", reason=reason.message)

    def _on_frame(self, client: _Client, frame: Frame) -> None:
        client.waiting.append(frame)
        self._next(client)

    def _next(self, client: _Client) -> None:
        while client.waiting and self._has_room(client, client.waiting[0]):
            frame = client.waiting.popleft()
            request = _codec.decode(frame.json)
            task = self.context.spawn(self._serve(client, request, frame.blob), "request")
            client.tasks.add(task)
            client.bytes_under_way += _size(frame)
            self._submission_bytes += len(frame.blob)
            sizes = _size(frame), len(frame.blob)
            task.add_done_callback(partial(self._served, client, *sizes))
        transport = client.protocol.transport
        if transport is not None:
            (transport.pause_reading if client.waiting else transport.resume_reading)()

    def _has_room(self, client: _Client, frame: Frame) -> bool:
        """Whether it may be worked on now. If others keep it from that, they wake it later."""
        if len(client.tasks) >= REQUESTS_MAX:
            return False
        if client.tasks and client.bytes_under_way + _size(frame) > CONNECTION_BYTES_MAX:
            return False
        bytes_then = self._submission_bytes + len(frame.blob)
        if frame.blob and self._submission_bytes and bytes_then > SUBMISSION_BYTES_MAX:
            self._held_up[client] = None
            return False
        return True

    def _served(self, client: _Client, size: int, blob_size: int, task: asyncio.Task[None]) -> None:
        client.tasks.discard(task)
        client.bytes_under_way -= size
        self._submission_bytes -= blob_size
        # Its own next submission is behind those that wait already.
        held_up, self._held_up = (self._held_up, {}) if blob_size else ({}, self._held_up)
        for other in dict.fromkeys([*held_up, client]):
            try:
                self._next(other)
            except ProtocolError as error:
                other.protocol.close(error)

    # ---- requests ----

    async def _serve(self, client: _Client, request: Request, blob: bytes) -> None:
        number = request.request
        try:
            stream = self._stream(client, request.command, blob)
            if stream is None:
                result = await self._answer(request.command, blob)
                client.protocol.send(to_json({"request": number, "result": result}))
            else:
                await self._pump(client, number, stream)
        except LeoronicError as error:
            client.protocol.send(to_json({"request": number, "error": error_object(error)}))

    async def _pump(self, client: _Client, number: int, stream: AsyncIterator[Item]) -> None:
        async for item, blob in stream:
            key = "result" if "result" in item else "item"
            content = item["result"] if key == "result" else item
            client.protocol.send(to_json({"request": number, key: content}), blob)
            await client.protocol.drained()

    def _stream(self, client: _Client, command: Command, blob: bytes) -> AsyncIterator[Item] | None:
        match command:
            case commands.Submit(progress=True):
                return with_progress(partial(self._answers.submit, command, blob), "stored")
            case commands.Wait():
                return self._following.wait(command)
            case commands.Logs():
                return self._following.logs(command, client.large)
            case commands.Watch():
                return self._watch()
            case _:
                return self._answers.files.stream(command)

    async def _watch(self) -> AsyncIterator[Item]:
        with self._watchers.subscribe() as subscription:
            while True:
                for change in await subscription.news(WATCH_S):
                    yield change_object(change, self._cluster.names()), b""

    async def _answer(self, command: Command, blob: bytes) -> Any:
        answers = self._answers
        match command:
            case commands.Submit():
                return await answers.submit(command, blob)
            case commands.Cancel(ids):
                return await answers.change("cancel", ids)
            case commands.Hold(ids):
                return await answers.change("hold", ids)
            case commands.Release(ids):
                return await answers.change("release", ids)
            case commands.Debug():
                return self._debug(command)
            case _:
                return await self._plain(command)(command)

    def _plain(self, command: Command) -> Callable[[Any], Awaitable[Any]]:
        answers, of_nodes, joining = self._answers, self._answers.of_nodes, self._answers.joining
        found: dict[type, Callable[[Any], Awaitable[Any]]] = {
            commands.Show: answers.show,
            commands.Locate: self._locating.locate,
            commands.List: answers.list_tasks,
            commands.Why: answers.why,
            commands.Redo: answers.redo,
            commands.Exec: answers.exec,
            commands.Splits: answers.splits,
            commands.Status: of_nodes.status,
            commands.Nodes: of_nodes.nodes,
            commands.TagAdd: of_nodes.tag,
            commands.TagDel: of_nodes.tag,
            commands.TagList: of_nodes.tag_list,
            commands.Drain: of_nodes.drain,
            commands.Join: joining.join,
            commands.Cookie: joining.cookie,
            commands.ListFiles: answers.files.list_files,
            commands.Stop: answers.stop,
        }
        return found[type(command)]

    def _debug(self, command: commands.Debug) -> dict[str, Any]:
        """Crash an actor on purpose."""
        self._answers.check_debug()
        ref = self.context.get(command.actor)
        cell = getattr(ref, "cell", None)
        if cell is None:
            raise NotFound(f"no actor {command.actor!r} runs in this process")
        cell.crash(RuntimeError(command.message))
        return {}


def _size(frame: Frame) -> int:
    return len(frame.json) + len(frame.blob)
