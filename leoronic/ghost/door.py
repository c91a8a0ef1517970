"""The actor `relay_host` of a node: it lets ghosts in, by a process that is there while they are.

The core takes what calls at the peer port. What calls `for=ghost` is handed to the relay process
(`ghost/relay_host.py`), which is started for the first and ended when the relay machine says that
none has been here for a while. Between the two it translates: the machine knows messages, the
process frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from leoronic.actors.peer_port import PeerPort
from leoronic.core import ghost_messages
from leoronic.core.effects import Attached, Detached
from leoronic.core.ghost_notices import (
    Came,
    EndRelay,
    HangUp,
    Heard,
    HungUp,
    RelayDown,
    RelayUp,
    Transmit,
)
from leoronic.core.tree import ChildSpec
from leoronic.errors import LeoronicError, NotFound, ProtocolError, Unavailable
from leoronic.ghost.relay_frames import (
    Connections,
    End,
    Ended,
    FromRelay,
    Opened,
    Pass,
    Passed,
    TakeConnections,
    Taken,
    ToRelay,
)
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.supervisor import Supervisor
from leoronic.wire.handing import hand_socket
from leoronic.wire.preface import Preface
from leoronic.wire.token import GHOST

PROCESS = "relay_process"
WAITING_MAX = 64
TAKE_S = 5.0
REPLACE_S = 0.1


class TellConnections(NamedTuple):
    """From a relay machine that has just begun: tell it `RelayUp`, if the process is there."""


class _Replace:
    """Time to take the place of an older process: its supervisor has started by now."""


class GhostDoor(Actor):
    """`port` is where others call; `supervisor` gives the one that is to run the relay process.

    `state_dir` is where its sockets go, `start` what is handed to it: see `RelayHostActor`.
    """

    def __init__(
        self,
        port: PeerPort,
        state_dir: Path,
        supervisor: Callable[[], Supervisor],
        node: Callable[[], str],
        relay: str = "relay",
    ) -> None:
        self._port = port
        self._state_dir = state_dir
        self._supervisor = supervisor
        self._node = node
        self._relay_name = relay
        self._handed = str(state_dir / "relay-in.sock")
        self._waiting: deque[tuple[socket.socket, bytes]] = deque()
        self._up = False
        self._work = asyncio.Lock()

    async def started(self) -> None:
        """From now on ghosts may call."""
        self._relay = self.context.find(self._relay_name)
        self._port.serve((GHOST,), self._take)
        if (self._state_dir / "relay.sock").exists():
            # That of a core which was killed: its ghosts wait for answers in vain.
            self.context.send_after(REPLACE_S, _Replace())

    async def stopping(self) -> None:
        """No more of them."""
        self._port.stop((GHOST,))
        for found, _ in self._waiting:
            found.close()

    async def handle(self, message: Any) -> Any:
        """What the relay machine says, and what its process tells."""
        match message:
            case Transmit(connection, said):
                text, blob = ghost_messages.encode(said)
                await self._say(Pass(connection, text.decode(), blob))
            case HangUp(connection):
                await self._say(End(connection))
            case Taken():
                await self._say(message)
            case EndRelay():
                self.context.spawn(self._end_process(), "end")
            case Opened(connection, ghost):
                await self._relay.cast(Came(connection, ghost))
            case Passed():
                await self._passed(message)
            case Ended(connection, reason):
                await self._relay.cast(HungUp(connection, reason))
            case _Replace():
                self.context.spawn(self._start_process(), "start")
            case Attached() | TellConnections():
                self.context.spawn(self._attached(), "attached")
            case Detached():
                self._up = False
                await self._relay.cast(RelayDown())
            case _:
                return await super().handle(message)
        return NO_REPLY

    async def _say(self, message: ToRelay) -> None:
        process = self.context.get(PROCESS)
        if process is None:
            return
        try:
            await process.cast(message)
        except Unavailable:
            pass  # Its connections are gone with it.
        except ProtocolError as error:
            # Whoever waits for it goes to another node; nobody else is harmed.
            self.context.log.error("too large for a ghost", reason=error.message)

    async def _passed(self, message: Passed) -> None:
        try:
            heard = ghost_messages.decode_from_ghost(message.text.encode(), message.blob)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = f"not what a ghost says: {error}"
            self.context.log.warning("ghost_misbehaves", reason=reason)
            await self._say(End(message.connection))
            await self._relay.cast(HungUp(message.connection, reason))
        else:
            await self._relay.cast(Heard(message.connection, heard, time.time()))

    # ---- the process ----

    def _take(self, found: socket.socket, theirs: Preface) -> None:
        """Somebody calls `for=ghost`."""
        line = theirs.encode().rstrip()
        if self._up and hand_socket(self._handed, found, line):
            return
        if self._up or len(self._waiting) >= WAITING_MAX:
            found.close()  # It calls again.
            return
        self._waiting.append((found, line))
        self.context.spawn(self._start_process(), "start")

    async def _start_process(self) -> None:
        async with self._work:
            if self.context.get(PROCESS) is not None:
                return
            spec = ChildSpec(
                name=PROCESS,
                factory="relay",
                host="process",
                socket=str(self._state_dir / "relay.sock"),
                takes=ToRelay,
                gives=FromRelay,
                owner=self.context.name,
                arguments={"node": self._node(), "handed": self._handed},
            )
            try:
                await self._supervisor().start_child(spec)
            except LeoronicError as error:
                self.context.log.error("no relay for ghosts", reason=error.message)
                self._drop_waiting()

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft()[0].close()

    async def _attached(self) -> None:
        """The process is there, maybe from before the relay machine was."""
        try:
            found = await self.context.find(PROCESS).call(TakeConnections(), timeout_s=TAKE_S)
        except (Unavailable, NotFound):
            return  # It is gone again.
        assert isinstance(found, Connections)
        came = tuple(Came(opened.connection, opened.ghost) for opened in found.opened)
        await self._relay.cast(RelayUp(came))
        self._up = True
        while self._waiting:
            hand_socket(self._handed, *self._waiting.popleft())

    async def _end_process(self) -> None:
        async with self._work:
            self._up = False
            with contextlib.suppress(NotFound, LeoronicError):
                await self._supervisor().stop_child(PROCESS)
            await self._relay.cast(RelayDown())
            # Who called meanwhile is not sent away.
            if self._waiting:
                self.context.spawn(self._start_process(), "start")
