"""One asyncio protocol for every stream socket: frames in, frames out, bounded both ways.

Frames sent during one turn of the loop leave as one write. A peer that does not read is cut off
once `send_bytes_max` waits for it: a slow reader costs bounded memory and nobody else's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from leoronic.errors import ProtocolError
from leoronic.wire.frames import Frame, FrameDecoder, encode_frame

SEND_BYTES_MAX = 256 * 1024 * 1024

OnFrame = Callable[["FrameProtocol", Frame], None]
OnClosed = Callable[["FrameProtocol", Exception | None], None]
OnOpened = Callable[["FrameProtocol"], None]


class FrameProtocol(asyncio.Protocol):
    """Frames over one connection. Callbacks run on the loop; an exception in one closes it."""

    def __init__(
        self,
        on_frame: OnFrame,
        on_closed: OnClosed,
        on_opened: OnOpened | None = None,
        *,
        decoder: FrameDecoder | None = None,
        send_bytes_max: int = SEND_BYTES_MAX,
    ) -> None:
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._on_opened = on_opened
        self._decoder = decoder or FrameDecoder()
        self._send_bytes_max = send_bytes_max
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._flush_scheduled = False
        self._reason: Exception | None = None
        self._can_send = asyncio.Event()
        self._can_send.set()
        self.transport: asyncio.Transport | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self.transport = cast(asyncio.Transport, transport)
        if self._on_opened is not None:
            self._on_opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came: hand on every frame they complete."""
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(self, frame)
                if self.transport is None:
                    return
        except ProtocolError as error:
            self.close(error)

    def pause_writing(self) -> None:
        """The peer is slow: `drained` waits from now on."""
        self._can_send.clear()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._can_send.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whoever."""
        self.transport = None
        self._can_send.set()
        self._on_closed(self, self._reason or exc)

    # our side

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any longer."""
        return self.transport is None or self.transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        """What was sent and still waits here for the socket."""
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return self._outgoing_bytes + waiting

    def send(self, json: bytes, blob: bytes = b"") -> None:
        """Queue one frame; it leaves with all others of this turn of the loop."""
        if self.transport is None:
            return
        data = encode_frame(json, blob)
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if self.unsent_bytes > self._send_bytes_max:
            self.abort(ProtocolError("the other side does not read what it asked for"))
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        self._outgoing_bytes = 0
        if self.transport is not None and data:
            self.transport.write(data)

    async def drained(self) -> None:
        """Wait until the peer has taken enough that more may be sent."""
        self._flush()
        await self._can_send.wait()

    def close(self, reason: Exception | None = None) -> None:
        """Send what is queued, then close. `reason` reaches `on_closed`."""
        if self._reason is None:
            self._reason = reason
        if self.transport is not None:
            self._flush()
            self.transport.close()

    def abort(self, reason: Exception | None = None) -> None:
        """Close at once, dropping what is queued."""
        if self._reason is None:
            self._reason = reason
        self._outgoing.clear()
        self._outgoing_bytes = 0
        if self.transport is not None:
            self.transport.abort()
