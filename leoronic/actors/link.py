"""One connection to another node, from its first byte to its last.

    GREETING   one line each, in the clear (`wire/preface.py`)
    SECURING   TLS, both sides checked
    HELLO      `Hello`, answered by `Welcome` or `Refused` (`wire/hello.py`)
    OPEN       messages of `core/peer.py`
    CLOSED

What arrives is handed on in order. If its receiver is full, the rest waits and nothing more is
read, so that the other node waits as well. What is to be sent leaves once in a turn of the loop;
if too much of it waits, the other side does not keep up and the connection ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from socket import socket
from typing import Any

import msgspec

from leoronic.actors.first_line import LineProtocol, OtherPurpose, own_host, second_socket
from leoronic.core import peer
from leoronic.errors import LeoronicError, ProtocolError
from leoronic.wire.frames import BLOB_BYTES_MAX, JSON_BYTES_MAX, Frame, FrameDecoder
from leoronic.wire.hello import (
    OTHER,
    SAID,
    Hello,
    Ping,
    Pong,
    Refused,
    Said,
    Welcome,
    codec,
    shortened,
)
from leoronic.wire.identity import certified_node
from leoronic.wire.preface import Preface, decode_preface
from leoronic.wire.protocol import FrameProtocol

# Somebody who has not said who it is may make us keep so much.
HELLO_BYTES_MAX = 64 * 1024
EARLY_BYTES_MAX = 512 * 1024
UNSENT_BYTES_MAX = 32 * 1024 * 1024
SHUTDOWN_S = 2.0

GREETING, SECURING, HELLO, OPEN, CLOSED = "greeting", "securing", "hello", "open", "closed"


class LinkRefused(LeoronicError):
    """The connection cannot be, or ends: the message tells a person why. `code`: `wire/hello.py`.

    `by_us` if it was this node that refused.
    """

    def __init__(self, message: str, reason_code: str = OTHER, *, by_us: bool = True) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.by_us = by_us


class _SecureFrames(FrameProtocol):
    """Frames inside TLS. What comes before `start_tls` has returned waits for that."""

    def __init__(self, link: Link, decoder: FrameDecoder) -> None:
        super().__init__(
            lambda _, frame: link.on_frame(frame),
            lambda _, error: link.on_lost(error),
            decoder=decoder,
        )
        self._link = link
        self._early = b""
        self._tls_decoder = decoder
        self.received_bytes = 0

    def data_received(self, data: bytes) -> None:
        """As `FrameProtocol`, but the other side is told what was wrong with a frame."""
        self.received_bytes += len(data)
        if self.transport is None:
            if len(self._early) < EARLY_BYTES_MAX:
                self._early += data
            return
        try:
            frames = self._tls_decoder.feed(data)
        except ProtocolError as error:
            self._link.on_bad(error)
            return
        for frame in frames:
            self._link.on_frame(frame)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is established."""
        super().connection_made(transport)
        early, self._early = self._early, b""
        if early:
            self.received_bytes -= len(early)
            self.data_received(early)


class Link:
    """One connection, by the socket of `lines`. `address`: where we called, '' if we were called.

    `deliver(link, message)` hands a message on and returns None, or a task that ends once there was
    room for it. `on_closed(link)` is called once, whenever it ends; `reason` says why.
    """

    def __init__(
        self,
        address: str,
        lines: LineProtocol,
        *,
        deliver: Callable[[Link, peer.PeerMessage], asyncio.Task[None] | None],
        on_closed: Callable[[Link], None],
        on_unknown: Callable[[str], None],
        unsent_bytes_max: int = UNSENT_BYTES_MAX,
    ) -> None:
        self.address = address
        self.phase = GREETING
        self.node = ""
        self.hello: Hello
        self.version = ""
        self.protocol = 0
        self.cluster = ""
        self.reason = ""
        self.at = ""
        self.since = 0.0
        self.sent_bytes = 0
        self._deliver = deliver
        self._on_closed = on_closed
        self._on_unknown = on_unknown
        self._unsent_bytes_max = unsent_bytes_max
        self._lines = lines
        self._raw = lines.transport
        self._decoder = FrameDecoder(json_bytes_max=HELLO_BYTES_MAX, blob_bytes_max=0)
        self._frames = _SecureFrames(self, self._decoder)
        self._inbox: deque[Frame] = deque()
        self._waiting: asyncio.Task[None] | None = None
        self._holding = True
        loop = asyncio.get_running_loop()
        self._their_hello: asyncio.Future[Hello] = loop.create_future()
        self._their_verdict: asyncio.Future[None] = loop.create_future()
        self._pings: dict[int, asyncio.Future[bool]] = {}
        self._pings_sent = 0

    # ---- before it is open, in this order ----

    async def greet(self, ours: Preface) -> Preface:
        """Exchange the first lines. Raises `OtherPurpose`, `ProtocolError`, `OSError`."""
        if self.address:
            self._raw.write(ours.encode())
        line = await self._lines.line
        if self.phase == CLOSED:
            raise ConnectionResetError(self.reason)
        theirs = decode_preface(line)
        if not self.address:
            if theirs.purpose:
                raise OtherPurpose(theirs)
            # Only now, while nothing is read: the next bytes of the other side are TLS, not ours.
            self._raw.write(ours.encode())
        return theirs

    def detach(self) -> socket:
        """After `OtherPurpose`: this ends, and the connection goes on in the socket returned."""
        taken = second_socket(self._raw)
        self.close("it is not for messages")
        return taken

    def decline(self, ours: Preface) -> None:
        """After `OtherPurpose`: nobody takes such a connection here, which our line tells."""
        self._raw.write(ours.encode())
        self.close("nobody takes what it is for")

    async def secure(self, context: ssl.SSLContext, within_s: float) -> str:
        """Begin TLS; the id in the other's certificate. Raises `LinkRefused`, `OSError`."""
        self.phase = SECURING
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._raw,
                self._frames,
                context,
                server_side=not self.address,
                ssl_handshake_timeout=within_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except ssl.SSLError as error:
            raise LinkRefused(f"it cannot prove that it holds the cookie: {error.reason}") from None
        if transport is None:
            raise ConnectionResetError("it closed the connection")
        if self.phase == CLOSED:
            transport.abort()
            raise ConnectionResetError(self.reason)
        self.phase = HELLO
        self._frames.connection_made(transport)
        return certified_node(transport.get_extra_info("peercert"))

    async def exchange_hellos(self, mine: Hello) -> Hello:
        """Send ours and wait for theirs. Raises `LinkRefused`, `OSError`."""
        self._say(mine)
        self.hello = await self._their_hello
        self.node = self.hello.node
        return self.hello

    async def welcome(self) -> None:
        """Accept their Hello and wait until they accept ours. Raises `LinkRefused`, `OSError`."""
        # From now on the other side may send messages.
        self._decoder.allow(json_bytes_max=JSON_BYTES_MAX, blob_bytes_max=BLOB_BYTES_MAX)
        self._say(Welcome())
        await self._their_verdict

    def open(self, now: float) -> None:
        """Both have welcomed each other: messages may be sent. What comes waits for `begin`."""
        assert self.phase == HELLO
        self.phase = OPEN
        self.since = now

    def begin(self) -> None:
        """Hand on what has come, and what comes."""
        self._holding = False
        self._work()

    # ---- while it is open ----

    def send(self, message: peer.PeerMessage) -> None:
        """Send a message; lost if the connection is not open. Raises `ProtocolError` if too big."""
        if self.phase != OPEN:
            return
        json, blob = peer.encode(message)
        unsent = self.unsent_bytes
        if unsent and unsent + len(json) + len(blob) > self._unsent_bytes_max:
            self.close(f"it does not keep up: {unsent >> 20} MiB wait to be sent to it", abort=True)
            return
        self._send(json, blob)

    @property
    def unsent_bytes(self) -> int:
        """What was sent and has not left this process yet."""
        transport = self._frames.transport
        if transport is None:
            return 0
        return self._frames.unsent_bytes + self._raw.get_write_buffer_size()

    @property
    def own_host(self) -> str:
        """The address of this machine that it goes by."""
        return own_host(self._raw)

    @property
    def received_bytes(self) -> int:
        """What came in, without the cost of TLS."""
        return self._frames.received_bytes

    async def answers(self, within_s: float) -> bool:
        """Whether the other side answers now: False too if this is not open any more."""
        if self.phase != OPEN:
            return False
        self._pings_sent += 1
        number = self._pings_sent
        answer = self._pings[number] = asyncio.get_running_loop().create_future()
        self._say(Ping(number))
        try:
            async with asyncio.timeout(within_s):
                alive: bool = await answer
        except TimeoutError:
            return False
        else:
            return alive
        finally:
            del self._pings[number]

    def close(self, reason: str, *, tell: Refused | None = None, abort: bool = False) -> None:
        """End it, for `reason`. `tell` is sent to the other side before."""
        if self.phase == CLOSED:
            return
        if tell is not None and self._frames.transport is not None:
            self._say(Refused(shortened(tell.reason), tell.code))
        self.reason = reason
        self.phase = CLOSED
        if self._waiting is not None:
            self._waiting.cancel()
        self._inbox.clear()
        error = ConnectionResetError(reason)
        for future in (self._their_hello, self._their_verdict):
            _fail(future, error)
        for answer in self._pings.values():
            if not answer.done():
                answer.set_result(False)
        if self._frames.transport is not None:
            (self._frames.abort if abort else self._frames.close)(error)
        else:
            self._raw.close()
        self._on_closed(self)

    # ---- what comes ----

    def on_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self.close(str(error or "") or "it closed the connection")

    def on_bad(self, error: ProtocolError) -> None:
        """It sent what nobody may."""
        self.close(f"it sent what it must not: {error.message}", tell=Refused(error.message))

    def on_frame(self, frame: Frame) -> None:
        """A frame came."""
        if self.phase != CLOSED:
            self._inbox.append(frame)
            self._work()

    def _work(self) -> None:
        while self._inbox and self._waiting is None and self.phase in (HELLO, OPEN):
            if self._holding and self._their_verdict.done():
                return
            frame = self._inbox.popleft()
            try:
                self._take(frame)
            except ProtocolError as error:
                self.on_bad(error)

    def _take(self, frame: Frame) -> None:
        if self.phase == HELLO:
            self._take_said(codec.decode(frame.json))
            return
        try:
            message = peer.decode(frame.json, frame.blob)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._take_other(frame, error)
            return
        if message.node != self.node:
            raise ProtocolError(f"a message of {self.node} says that it is from {message.node}")
        waiting = self._deliver(self, message)
        if waiting is not None:
            self._pause(True)
            self._waiting = waiting
            waiting.add_done_callback(self._go_on)

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._waiting = None
        if not task.cancelled() and task.exception() is None and self.phase == OPEN:
            self._pause(False)
            self._work()

    def _pause(self, on: bool) -> None:
        transport = self._frames.transport
        if transport is not None:
            (transport.pause_reading if on else transport.resume_reading)()

    def _take_other(self, frame: Frame, error: Exception) -> None:
        """No message as we know them: what is said beside them, or a newer version's."""
        try:
            kind = _typed.decode(frame.json).type
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ProtocolError(f"not a message: {error}") from None
        if kind in SAID:
            self._take_said(codec.decode(frame.json))
        elif kind in KNOWN:
            raise ProtocolError(f"{kind}: {error}")
        else:
            self._on_unknown(kind[:100])

    def _take_said(self, said: Said) -> None:
        match said:
            case Ping(number):
                self._say(Pong(number))
            case Pong(number):
                answer = self._pings.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(True)
            case Refused(reason, code):
                refused = LinkRefused(shortened(reason), code, by_us=False)
                for future in (self._their_hello, self._their_verdict):
                    _fail(future, refused)
                if self.phase == OPEN:
                    self.close(f"it closed the connection: {refused.message}")
            case Hello() if not self._their_hello.done():
                self._their_hello.set_result(said)
            case Welcome() if self._their_hello.done() and not self._their_verdict.done():
                self._their_verdict.set_result(None)
            case _:
                raise ProtocolError(f"{type(said).__name__} comes twice or too early")

    # ---- what goes ----

    def _say(self, said: Said) -> None:
        self._send(codec.encode(said), b"")

    def _send(self, json: bytes, blob: bytes) -> None:
        self._frames.send(json, blob)
        self.sent_bytes += len(json) + len(blob)


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)
KNOWN = frozenset(found.__name__ for found in peer.RECEIVERS)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # Nobody need be waiting for it.
