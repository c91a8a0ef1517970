"""A host process: one actor in a process of its own, reached over a unix socket.

The actor is initialised first; only then does the socket exist, so being able to connect means
being ready. One owner is connected at a time: a newer one replaces the older. A frame that is not
understood closes that connection and harms nothing else. What is emitted while no owner is
connected is dropped; an actor that must not lose anything repeats by level when asked.

TERM stops the actor in order. A host that does not survive ends when its owner has been gone for
`ORPHAN_S` seconds. The process ends with 0 if the actor ended normally, else with 1, and its
supervisor, in another process, decides what comes next.

`python -m leoronic.runtime.host module:callable JSON` is how `ExecLauncher` starts one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from leoronic.errors import LeoronicError, ProtocolError
from leoronic.runtime.actor import Actor
from leoronic.runtime.cell import Cell
from leoronic.runtime.host_frames import ErrorPart, FromHost, Inflow, Outflow, ToHost
from leoronic.runtime.log import get_logger
from leoronic.runtime.loop import run
from leoronic.runtime.ref import ActorRef, Call, Directory, LocalRef
from leoronic.wire.codec import Codec, to_json
from leoronic.wire.frames import Frame
from leoronic.wire.protocol import FrameProtocol
from leoronic.wire.unix import listen_unix, peer_of

ORPHAN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What the supervisor tells a host; see `ChildSpec` for the meanings. Plain JSON data."""

    name: str
    socket: str
    start_s: float
    shutdown_s: float
    mailbox_max: int
    survives: bool


class RemoteCall(Call):
    """A call that came over the socket."""

    __slots__ = ("_answered", "_number", "_outflow", "_protocol")

    def __init__(
        self, message: Any, number: int, protocol: FrameProtocol, outflow: Outflow
    ) -> None:
        super().__init__(message)
        self._number = number
        self._protocol = protocol
        self._outflow = outflow
        self._answered = False

    @property
    def done(self) -> bool:
        """Whether it was answered, or whoever asked is gone."""
        return self._answered or self._protocol.closed

    def answer(self, result: Any) -> None:
        """Send `result` back."""
        self._send(FromHost(answer=self._number, result=result))

    def fail(self, error: LeoronicError) -> None:
        """Send `error` back."""
        self._send(FromHost(answer=self._number, error=ErrorPart.of(error)))

    def _send(self, answer: FromHost[Any]) -> None:
        if not self.done:
            self._answered = True
            self._outflow.answer(answer)


class OwnerRef(ActorRef):
    """The owner, seen from the host: emitted messages go to whoever is connected."""

    __slots__ = ("protocol",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.protocol: FrameProtocol | None = None

    async def call(self, message: Any, timeout_s: float = 0.0) -> Any:
        """Not possible: an owner is told, not asked."""
        raise NotImplementedError("the owner of a hosted actor takes no calls from it")

    async def cast(self, message: Any) -> None:
        """Emit, waiting while the owner is slow."""
        self.cast_nowait(message)
        if self.protocol is not None:
            await self.protocol.drained()

    def cast_nowait(self, message: Any) -> None:
        """Emit; dropped if no owner is connected."""
        if self.protocol is not None:
            self.protocol.send(to_json(FromHost(emit=message)))


class Host:
    """Runs one actor and serves its owner until the actor ends."""

    def __init__(self, actor: Actor, settings: HostSettings) -> None:
        if actor.takes is None:
            raise ValueError(f"{type(actor).__name__} does not say what it takes")
        self._settings = settings
        frame_type: Any = ToHost
        self._codec: Codec[ToHost[Any]] = Codec(frame_type[actor.takes])
        self._log = get_logger(actor=settings.name)
        self._owner = OwnerRef("owner")
        self._ref = LocalRef(settings.name)
        directory = Directory()
        directory.add(self._ref)
        self._cell = Cell(
            actor,
            self._ref,
            directory,
            mailbox_max=settings.mailbox_max,
            owner=self._owner,
            on_exit=self._actor_ended,
        )
        self._inflow = Inflow(0)
        self._outflow: Outflow | None = None
        self._orphaned: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[int] | None = None

    async def serve(self) -> int:
        """Initialise, listen, and return the exit code once the actor has ended."""
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signal_number, self._stop)
        await self._cell.start(self._settings.start_s)
        listener = listen_unix(self._settings.socket)
        try:
            server = await loop.create_unix_server(self._accept, sock=listener)
            self._watch_for_owner()
            code = await self._over
            server.close()
        finally:
            # Unlinked before the process ends: who finds the file may expect an answer.
            with contextlib.suppress(FileNotFoundError):
                Path(self._settings.socket).unlink()
        if self._owner.protocol is not None:
            self._owner.protocol.close()
        return code

    # the owner's connection

    def _accept(self) -> FrameProtocol:
        return FrameProtocol(self._received, self._closed, self._opened)

    def _opened(self, protocol: FrameProtocol) -> None:
        assert protocol.transport is not None
        _pid, uid = peer_of(protocol.transport.get_extra_info("socket"))
        if uid != os.getuid():
            protocol.abort(ProtocolError(f"user {uid} may not own this host"))
            return
        older, self._owner.protocol = self._owner.protocol, protocol
        self._outflow = Outflow(protocol)
        if older is not None:
            older.close(ProtocolError("a newer owner connected"))
        if self._orphaned is not None:
            self._orphaned.cancel()
            self._orphaned = None

    def _received(self, protocol: FrameProtocol, frame: Frame) -> None:
        if protocol is not self._owner.protocol:
            return
        delivery = self._codec.decode(frame.json)
        item = delivery.message
        if delivery.call is not None:
            assert self._outflow is not None
            item = RemoteCall(item, delivery.call, protocol, self._outflow)
        self._inflow.add(protocol, self._ref, item)

    def _closed(self, protocol: FrameProtocol, reason: Exception | None) -> None:
        if isinstance(reason, ProtocolError):
            self._log.warning("owner_disconnected", reason=reason.message)
        if protocol is self._owner.protocol:
            self._owner.protocol = None
            self._watch_for_owner()

    def _watch_for_owner(self) -> None:
        if not self._settings.survives and self._owner.protocol is None:
            loop = asyncio.get_running_loop()
            self._orphaned = loop.call_later(ORPHAN_S, self._stop)

    # the end

    def _stop(self) -> None:
        # `_actor_ended` ends the process; the reference keeps the task from being collected.
        self._stopping = asyncio.ensure_future(self._cell.stop(self._settings.shutdown_s))

    def _actor_ended(self, cell: Cell, error: BaseException | None) -> None:
        self._inflow.close()
        if error is not None:
            self._log.error("hosted_actor_crashed", exc_info=error)
        if self._over is not None and not self._over.done():
            self._over.set_result(0 if error is None else 1)


def run_host(factory: Callable[[], Actor], host: dict[str, Any]) -> int:
    """Run `factory()` as a host process until it ends; returns the exit code.

    `host` is what the supervisor passed as the launcher's argument of that name. To be called
    where no event loop runs yet: in a process that the keeper forked, or a fresh one.
    """
    settings = HostSettings(**host)
    return run(lambda: Host(factory(), settings).serve())


def main(arguments: list[str]) -> int:
    """`module:callable` and the arguments as JSON."""
    target, text = arguments
    options = json.loads(text)
    host = options.pop("host")
    module, _, name = target.partition(":")
    make = getattr(importlib.import_module(module), name)
    return run_host(partial(make, **options), host)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
