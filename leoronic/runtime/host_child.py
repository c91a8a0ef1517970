"""The supervisor's side of a host process: finds or starts it, watches it, restarts it.

When the process ends, its connection closes at once, whoever its parent is; that is a normal end
only if it is known to have exited with 0. When only the connection is lost and the process may
survive, it is connected to again, a few times a minute; its owner hears `Detached` and `Attached`.
Beyond that a lost connection counts as the child's end: the restart connects to a process that
survives, or replaces one that does not, bounded by the supervisor's intensity.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leoronic.core.effects import Attached, Detached
from leoronic.core.tree import ChildSpec
from leoronic.errors import ActorGone, LeoronicError, ProtocolError
from leoronic.runtime.child import Child, OnExit, Statistics
from leoronic.runtime.host import HostSettings
from leoronic.runtime.host_frames import FromHost, Inflow
from leoronic.runtime.launcher import Launcher
from leoronic.runtime.log import get_logger
from leoronic.runtime.process import Process
from leoronic.runtime.ref import ActorRef, Directory
from leoronic.runtime.remote_ref import RemoteRef
from leoronic.wire.codec import Codec
from leoronic.wire.frames import Frame
from leoronic.wire.protocol import FrameProtocol
from leoronic.wire.unix import connect_unix, peer_of

# A host that has just been started is asked this often whether it listens.
KNOCK_S_MIN = 0.002
KNOCK_S_MAX = 0.025
# How long to wait for a process's end to be seen after its connection closed, to say how it ended.
EXIT_SEEN_S = 0.25
# The same for one that is ended anyway if it lives on: a busy machine takes its time.
EXIT_AWAITED_S = 2.0
EMITS_WAITING_MAX = 4096
# So often is a lost connection made anew without counting as the child's end.
REATTACHED_MAX = 5
REATTACHED_WITHIN_S = 60.0


class HostChild(Child):
    """An actor in a host process of its own."""

    spec: ChildSpec

    def __init__(
        self, spec: ChildSpec, directory: Directory, on_exit: OnExit, launcher: Launcher
    ) -> None:
        super().__init__(spec, on_exit)
        self._directory = directory
        self._launcher = launcher
        frame_type: Any = FromHost
        self._codec: Codec[FromHost[Any]] = Codec(frame_type[spec.gives])
        self._stopping = False
        self._protocol: FrameProtocol | None = None
        self._process: Process | None = None
        self._ending: asyncio.Task[None] | None = None
        self._inflow = Inflow(EMITS_WAITING_MAX)
        self._reattached: deque[float] = deque(maxlen=REATTACHED_MAX)
        self.ref = RemoteRef(spec.name, spec.mailbox_max)
        directory.add(self.ref)

    @property
    def running(self) -> bool:
        """Whether it is connected."""
        return self._protocol is not None

    @property
    def pid(self) -> int | None:
        """The host's process id, while it is known to run."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Connect to the living process if it may survive; else start one and connect to it."""
        self._stopping = False
        living = connect_unix(self.spec.socket)
        if living is not None and not self.spec.survives:
            await self._end_leftover(living)
            living = None
        if living is not None:
            self._process = Process(peer_of(living)[0])
            try:
                await self._attach(living, fresh=False)
            except BaseException:
                self._process.close()
                self._process = None
                raise
            return
        self._remove_socket()
        assert isinstance(self.spec.factory, str)
        pid = await self._launcher.start(self.spec.factory, self._arguments())
        self._process = Process(pid)
        try:
            await self._attach(await self._knock(self._process), fresh=True)
        except BaseException:
            process, self._process = self._process, None
            if process is not None:
                await process.end(0.0)
                await self._launcher.status(process.pid)
            raise

    async def stop(self, *, survivors: bool) -> None:
        """TERM, then KILL after `shutdown_s`; one that survives is only let go."""
        self._stopping = True
        if self._ending is not None:
            await self._ending
        process = self._process
        if process is not None:
            if survivors or not self.spec.survives:
                # Still connected: what it says while it stops is heard.
                await process.end(self.spec.shutdown_s)
                await self._launcher.status(process.pid)
                self._remove_socket()
            process.close()
            self._process = None
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.close()
        self.ref.detach()
        self._inflow.close()

    def forget(self) -> None:
        """Take its name out of the directory."""
        self._directory.remove(self.name)

    def statistics(self) -> list[Statistics]:
        """As `LocalChild.statistics`; `mailbox` counts unanswered calls, `handled` all sent."""
        [line] = super().statistics()
        line |= {
            "host": "process",
            "pid": self.pid,
            "mailbox": self.ref.waiting,
            "mailbox_high": self.ref.answers_high,
            "mailbox_max": self.spec.mailbox_max,
            "handled": self.ref.sent,
            "lost": self.ref.lost,
        }
        return [line]

    # starting

    def _arguments(self) -> dict[str, Any]:
        settings = HostSettings(
            name=self.spec.name,
            socket=self.spec.socket,
            start_s=self.spec.start_s,
            shutdown_s=self.spec.shutdown_s,
            mailbox_max=self.spec.mailbox_max,
            survives=self.spec.survives,
        )
        return {"host": asdict(settings), **self.spec.arguments}

    def _remove_socket(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self.spec.socket).unlink()

    async def _end_leftover(self, living: socket.socket) -> None:
        """A host of an earlier life of this supervisor still listens, but may not survive it."""
        leftover = Process(peer_of(living)[0])
        living.close()
        await leftover.end(self.spec.shutdown_s)
        leftover.close()

    async def _knock(self, process: Process) -> socket.socket:
        """Wait until it listens. Raises ActorGone if it ends first, TimeoutError."""
        pause_s = KNOCK_S_MIN
        async with asyncio.timeout(self.spec.start_s):
            while True:
                connection = connect_unix(self.spec.socket)
                if connection is not None:
                    return connection
                if await process.wait_over(pause_s):
                    raise self._how_it_ended(process, await self._launcher.status(process.pid))
                pause_s = min(KNOCK_S_MAX, pause_s * 2)

    async def _attach(self, connection: socket.socket, *, fresh: bool) -> None:
        pid, uid = peer_of(connection)
        if uid != os.getuid():
            connection.close()
            raise ProtocolError(f"{self.spec.socket} belongs to user {uid}")
        loop = asyncio.get_running_loop()
        protocol = FrameProtocol(self._received, self._closed)
        await loop.create_unix_connection(lambda: protocol, sock=connection)
        assert self._process is not None
        assert self._process.pid == pid, "somebody else listens there"
        self._protocol = protocol
        self.ref.attach(protocol)
        self._tell_owner(Attached(self.name, fresh))

    # talking

    def _received(self, protocol: FrameProtocol, frame: Frame) -> None:
        message = self._codec.decode(frame.json)
        if message.answer is not None:
            self.ref.answered(message)
        elif message.emit is not None:
            owner = self._owner()
            if owner is not None:
                self._inflow.add(protocol, owner, message.emit)

    def _owner(self) -> ActorRef | None:
        return self._directory.get(self.spec.owner) if self.spec.owner is not None else None

    def _tell_owner(self, notice: Attached | Detached) -> None:
        owner = self._owner()
        if owner is not None and self._protocol is not None:
            self._inflow.add(self._protocol, owner, notice)

    # ending

    def _closed(self, protocol: FrameProtocol, reason: Exception | None) -> None:
        if protocol is not self._protocol:
            return
        if not self._stopping:
            self._tell_owner(Detached(self.name))
        self._protocol = None
        self.ref.detach()
        if not self._stopping:
            process, self._process = self._process, None
            assert process is not None
            self._ending = asyncio.create_task(self._report(process, reason))

    async def _report(self, process: Process, reason: Exception | None) -> None:
        error: ActorGone | None
        within_s = EXIT_SEEN_S if self.spec.survives else EXIT_AWAITED_S
        if await process.wait_over(within_s):
            status = await self._launcher.status(process.pid)
            error = None if status == 0 else self._how_it_ended(process, status)
        else:
            told = reason.message if isinstance(reason, LeoronicError) else "connection lost"
            if await self._reattach(process, told):
                self._ending = None
                return
            error = ActorGone(f"{self.name}: {told}; process {process.pid} still runs")
            if not self.spec.survives:
                await process.end(self.spec.shutdown_s)
        process.close()
        self._ending = None
        self._on_exit(self, error)

    async def _reattach(self, process: Process, told: str) -> bool:
        """Connect again to a process that lives on; False if it is not to be, or fails."""
        now = asyncio.get_running_loop().time()
        often = len(self._reattached) == REATTACHED_MAX
        if not self.spec.survives or self._stopping:
            return False
        if often and now - self._reattached[0] < REATTACHED_WITHIN_S:
            return False
        self._reattached.append(now)
        try:
            connection = connect_unix(self.spec.socket)
            if connection is None:
                return False
            if peer_of(connection)[0] != process.pid:
                connection.close()
                return False
            self._process = process
            await self._attach(connection, fresh=False)
        except (OSError, LeoronicError):
            self._process = None
            return False
        get_logger(actor=self.name).warning("reattached", reason=told, pid=process.pid)
        return True

    def _how_it_ended(self, process: Process, status: int | None) -> ActorGone:
        how = (
            "ended"
            if status is None
            else f"was killed by signal {-status}"
            if status < 0
            else f"ended with {status}"
        )
        return ActorGone(f"{self.name}: process {process.pid} {how}")
