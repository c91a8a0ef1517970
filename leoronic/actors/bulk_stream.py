"""Frames over TLS on a blocking socket, for a thread of its own: bytes of files go by here.

The record layer works on memory, not on the socket: so one system call moves 256 KiB instead of a
record's 16, and bytes of a file are decrypted right into the buffer that they are wanted in.
Whatever waits has a deadline; a stream that has missed one is of no more use.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

from leoronic.errors import ProtocolError
from leoronic.wire.frames import HEADER
from leoronic.wire.identity import certified_node

# Nothing at all comes or goes for so long, or a frame is slower than a modem: it has failed.
STALL_S = 30.0
RATE_MIN_BYTES_S = 4096
RECEIVE_BYTES = 256 * 1024
SEND_BYTES = 64 * 1024


class BulkStream:
    """One connection. All but `abort` is for the one thread that has it.

    `socket` is open, and its first lines are exchanged. `stall_s`: see `STALL_S`.
    """

    def __init__(
        self,
        socket: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        stall_s: float = STALL_S,
    ) -> None:
        self._socket = socket
        self._stall_s = stall_s
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._received = memoryview(bytearray(RECEIVE_BYTES))
        self._until = 0.0

    def secure(self, until: float) -> str:
        """Begin TLS, until `time.monotonic()` is `until`; the node in the other's certificate.

        Raises `OSError`, of which `ssl.SSLError` is one.
        """
        self._until = until
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()
        return certified_node(self._tls.getpeercert())

    # ---- frames ----

    def send(self, json: bytes, blob: bytes | bytearray | memoryview = b"") -> None:
        """Send a frame. Raises `OSError`."""
        view = memoryview(blob)
        self._begin(len(json) + len(view))
        # With the first bytes of the blob, in one system call.
        self._tls.write(HEADER.pack(len(json), len(view)) + json)
        for begin in range(0, len(view), SEND_BYTES):
            self._tls.write(view[begin : begin + SEND_BYTES])
            self._flush()
        self._flush()

    def receive(self, json_bytes_max: int, blob_bytes_max: int = 0) -> tuple[bytes, int]:
        """The JSON part of the next frame, and how long the blob is that `receive_into` then takes.

        Raises `ProtocolError` if a part is over its limit, `OSError`.
        """
        self._begin(HEADER.size)
        head = bytearray(HEADER.size)
        self._read(memoryview(head))
        json_length, blob_length = HEADER.unpack(head)
        if json_length > json_bytes_max or blob_length > blob_bytes_max:
            raise ProtocolError(
                f"frame of {json_length} + {blob_length} bytes is over the limit of "
                f"{json_bytes_max} + {blob_bytes_max}"
            )
        self._begin(json_length)
        json = bytearray(json_length)
        self._read(memoryview(json))
        return bytes(json), blob_length

    def receive_into(self, view: memoryview) -> None:
        """Fill `view` with the blob, or a part of it. Raises `OSError`."""
        self._begin(len(view))
        self._read(view)

    def wait(self, within_s: float, wake: int | None = None) -> bool:
        """Wait for a frame to begin, or for `wake`, a descriptor, to become readable.

        Whether it has begun. Raises `TimeoutError` if neither happens.
        """
        if self._tls.pending() or self._incoming.pending:
            return True
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if wake is not None:
            waiting.register(wake, select.POLLIN)
        found = waiting.poll(within_s * 1000)
        if not found:
            raise TimeoutError(f"nothing came for {within_s:g} s")
        return any(descriptor == self._socket.fileno() for descriptor, _ in found)

    # ---- its end ----

    def abort(self) -> None:
        """From any thread: whatever its own thread waits for there fails at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # ---- bytes ----

    def _begin(self, size: int) -> None:
        self._until = time.monotonic() + self._stall_s + size / RATE_MIN_BYTES_S

    def _read(self, view: memoryview) -> None:
        position, length = 0, len(view)
        while position < length:
            try:
                # It is a record at most, 16 KiB.
                count = int(self._tls.read(length - position, view[position:]))
            except ssl.SSLWantReadError:
                self._fill()
                continue
            except ssl.SSLZeroReturnError:
                count = 0
            if not count:
                raise ConnectionResetError("it closed the connection")
            position += count

    def _fill(self) -> None:
        self._limit()
        count = self._socket.recv_into(self._received)
        if not count:
            raise ConnectionResetError("it closed the connection")
        self._incoming.write(self._received[:count])

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._limit()
            self._socket.sendall(self._outgoing.read())

    def _limit(self) -> None:
        left_s = min(self._stall_s, self._until - time.monotonic())
        if left_s <= 0:
            raise TimeoutError("it is too slow")
        self._socket.settimeout(left_s)
