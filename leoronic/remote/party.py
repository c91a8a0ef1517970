"""A process that takes part in calls: it listens, calls others, and has the loop for both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from leoronic.client.locate import STATE_FOLDER
from leoronic.core.commands import Command
from leoronic.errors import NodeUnreachable
from leoronic.remote import forks
from leoronic.remote.channel import Channel
from leoronic.remote.dialling import Dialling
from leoronic.remote.gone import PartyGone
from leoronic.remote.listening import Listening
from leoronic.remote.node_door import NodeDoor
from leoronic.remote.places import Places
from leoronic.remote.said import Hello
from leoronic.remote.threads import LoopThread
from leoronic.remote.tls import Tls

T = TypeVar("T")
Handler = Callable[[Channel, object], None]
START_S_MAX = 20.0
STOP_S_MAX = 5.0
# Connections of other machines that have not proved that they hold the cookie; when one more comes,
# the oldest of them goes.
STRANGERS_MAX = 64

__all__ = ["Handler", "Party", "PartyGone"]


class Party:
    """`party` is its id, unique in the cluster: `d-JOB` of a driver, `TASK.ATTEMPT` of a worker.

    `root` is the folder of the node here. `handlers[kind](channel, body)` takes what others say,
    `on_channel(channel)` is told of each new connection (of both directions), `on_lost(channel,
    reason)` of each that has ended. All are to be set before `start`, and are called on the loop's
    thread.
    """

    def __init__(self, root: str, party: str, *, job: str = "") -> None:
        self.root = root
        self.id = party
        self.job = job
        self.node = ""
        self.info: dict[str, object] = {}
        self.handlers: dict[int, Handler] = {}
        self.on_channel: Callable[[Channel], None] = lambda channel: None
        self.on_lost: Callable[[Channel, str], None] = lambda channel, reason: None
        self._state_dir = Path(root) / STATE_FOLDER
        self._thread = LoopThread(f"leoronic {party}")
        self.loop = self._thread.loop
        self.post = self._thread.post
        self.run = self._thread.run
        self._open: dict[tuple[str, str], list[Channel]] = {}
        self._channels: set[Channel] = set()
        self._is_running = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.Task[None], None] = {}
        self._door: NodeDoor
        self._dialling: Dialling
        self._listening: Listening
        self._tls: Tls

    # ---- from any thread ----

    def start(self) -> None:
        """Start the thread and listen. Raises `NodeUnreachable`, `OSError`."""
        try:
            self.node = (self._state_dir / "node").read_text().strip()
        except OSError as error:
            raise NodeUnreachable(f"no node in {self.root}: {error.strerror}") from error
        self._thread.start()
        try:
            self.run(self._begin()).result(START_S_MAX)
        except BaseException:
            self._thread.stop()
            raise
        self._is_running = True

    def stop(self, reason: str = "it ends") -> None:
        """Close all connections and end the thread; once is enough."""
        if self._is_running:
            self._is_running = False
            with contextlib.suppress(TimeoutError, RuntimeError):
                self.run(self._end(reason)).result(STOP_S_MAX)
        self._thread.stop()

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return self._thread.is_here

    # ---- on the loop's thread ----

    async def dial(self, node: str, party: str) -> Channel:
        """A connection to `party` on `node` (ids), an open one if there is. Raises `PartyGone`."""
        found = self.channel(node, party)
        return found if found is not None else await self._dialling.dial(node, party)

    def channel(self, node: str, party: str) -> Channel | None:
        """The open connection to it, the oldest of them, if there is one."""
        found = self._open.get((node, party))
        # One that has just ended is here until its end is told.
        return next((one for one in found if not one.closed), None) if found else None

    def channels(self) -> list[Channel]:
        """All that are open."""
        return [one for found in self._open.values() for one in found if not one.closed]

    async def ask(self, command: Command, blob: bytes = b"", *, again: bool = True) -> Any:
        """As `NodeDoor.ask`."""
        return await self._door.ask(command, blob, again=again)

    async def read_logs(self, task: str, stream: str, bytes_max: int) -> bytes:
        """As `NodeDoor.read_logs`."""
        return await self._door.read_logs(task, stream, bytes_max)

    async def _begin(self) -> None:
        self._door = NodeDoor(self.root)
        self._tls = Tls(self._state_dir, lambda: self.node)
        places = Places(self.ask)
        self._dialling = Dialling(
            self._state_dir, lambda: self.node, places, self._tls, self._new_channel
        )
        self._listening = Listening(
            self._state_dir, self.id, self._accept_local, self._accept_handed
        )
        self._listening.begin()
        forks.watch(self)

    def forked(self) -> None:
        """This is a child that the process has forked: the party stays the parent's."""
        self._thread.forked()
        self._listening.forked()
        for channel in self._channels:
            forks.close_quietly(channel.descriptor)

    async def _end(self, reason: str) -> None:
        forks.forget(self)
        self._listening.end()
        for channel in list(self._channels):
            channel.close(reason)
        self._door.close()
        # What was said last leaves, unless the other side does not read.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX / 2):
                await asyncio.gather(*(channel.lost() for channel in self._channels))
        for channel in list(self._channels):
            channel.abort(reason)

    # ---- connections ----

    def _new_channel(self) -> Channel:
        ours = Hello(self.id, self.node, self.job, info=self.info)
        channel = Channel(
            ours,
            on_said=self._said,
            on_closed=self._closed,
            on_opened=self._opened,
        )
        self._channels.add(channel)
        return channel

    def _accept_local(self, found: socket.socket) -> None:
        self._spawn(self._connect_local(found))

    async def _connect_local(self, found: socket.socket) -> None:
        found.setblocking(False)
        await self.loop.connect_accepted_socket(self._new_channel, found)

    def _accept_handed(self, found: socket.socket, line: bytes) -> None:
        # Anybody who reaches the port can come as far as this.
        if len(self._strangers) >= STRANGERS_MAX:
            next(iter(self._strangers)).cancel()
        task = self._spawn(self._connect_handed(found, line))
        self._strangers[task] = None
        task.add_done_callback(lambda done: self._strangers.pop(done, None))

    async def _connect_handed(self, found: socket.socket, line: bytes) -> None:
        with contextlib.suppress(OSError, PartyGone):
            await self._tls.called(found, line, self._new_channel)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _opened(self, channel: Channel) -> None:
        key = (channel.peer.node, channel.peer.party)
        self._open.setdefault(key, []).append(channel)
        self.on_channel(channel)

    def _closed(self, channel: Channel, reason: str) -> None:
        self._channels.discard(channel)
        if not channel.was_open:
            return
        key = (channel.peer.node, channel.peer.party)
        found = self._open.get(key, [])
        if channel in found:
            found.remove(channel)
        if not found:
            self._open.pop(key, None)
        self.on_lost(channel, reason)

    def _said(self, channel: Channel, kind: int, body: object) -> None:
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(channel, body)
