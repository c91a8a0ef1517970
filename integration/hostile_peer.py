"""A peer that holds the cookie, greets as any node does, and then says whatever a test likes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import msgspec

from leoronic.core import peer
from leoronic.core.resources import Capacity
from leoronic.core.view import About
from leoronic.errors import ProtocolError
from leoronic.wire.cookie import fingerprint
from leoronic.wire.frames import FrameDecoder, encode_frame
from leoronic.wire.hello import Hello, Ping, Pong, Welcome, codec
from leoronic.wire.identity import make_identities
from leoronic.wire.preface import Preface

JOIN_S = 5.0


class Hostile:
    """One such peer, called `name`; `port` is the victim's."""

    def __init__(self, name: str, cookie: str, port: int) -> None:
        self.node = node = name.encode().hex().ljust(32, "0")[:32]
        self.port = port
        self.about = About(
            name, "1", 1, addresses=["127.0.0.1:9"], capacity=Capacity(1000, 1 << 30, 1 << 30)
        )
        self.have: dict[str, int] = {}  # the victim's vector, as it told
        self.pulls: list[peer.Pull] = []
        self._greeting = Preface((fingerprint(cookie),), "1").encode()
        [self._identity] = make_identities([cookie], node)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._decoder = FrameDecoder()

    async def join(self) -> None:
        """Connect until it is welcomed. Raises `TimeoutError`."""
        async with asyncio.timeout(JOIN_S):
            while True:
                try:
                    return await self._join()
                except (OSError, ProtocolError, ssl.SSLError):
                    # A connection that has just ended may be in the way.
                    await asyncio.sleep(0.02)

    async def _join(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._reader, self._writer, self._decoder = reader, writer, FrameDecoder()
        try:
            writer.write(self._greeting)
            await reader.readline()
            await writer.start_tls(self._identity.calling)
            for said in (Hello(self.node, self.about, 1, 1, 1), Welcome()):
                writer.write(encode_frame(codec.encode(said)))
            self.have, self.pulls = {}, []
            # Its first heartbeat, which has the whole of its vector, says that it welcomes us.
            while not any(isinstance(one, peer.Heartbeat) for one in await self.listen(JOIN_S)):
                pass
        except BaseException:
            writer.close()
            raise

    def send(self, text: bytes, blob: bytes = b"") -> None:
        """One frame, whatever stands in it."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._writer.write(encode_frame(text, blob))

    def tell(self, message: peer.PeerMessage) -> None:
        """One message, as a node would send it."""
        self.send(*peer.encode(message))

    async def listen(self, within_s: float) -> list[peer.PeerMessage]:
        """What came within that time. Raises `ConnectionResetError` if the connection has ended."""
        try:
            async with asyncio.timeout(within_s):
                data = await self._reader.read(1 << 20)
        except TimeoutError:
            return []
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from error
        if not data:
            raise ConnectionResetError("cut off")
        heard: list[peer.PeerMessage] = []
        for frame in self._decoder.feed(data):
            try:
                message = peer.decode(frame.json, frame.blob)
            except msgspec.ValidationError:
                said = codec.decode(frame.json)
                if isinstance(said, Ping):
                    self.send(codec.encode(Pong(said.number)))
                continue
            heard.append(message)
            if isinstance(message, peer.Heartbeat | peer.Have):
                self.have.update(message.have)
            elif isinstance(message, peer.Pull):
                self.pulls = [*self.pulls[-3:], message]
        return heard

    async def drain(self, within_s: float = 0.01) -> None:
        """Wait a while until what was sent has left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._writer.drain()

    def close(self) -> None:
        """Go without a word."""
        with contextlib.suppress(RuntimeError):
            self._writer.close()
