"""Frames: length-prefixed, sans-IO.

    frame = u32 json_length | u32 blob_length | json | blob          (big endian)

The JSON part is one message; the blob carries bytes that need not be JSON (a file of tasks, what a
task printed). Both lengths are checked before anything is buffered, so that a stranger who claims
4 GiB costs eight bytes of memory.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from leoronic.errors import ProtocolError

# The biggest message is a task to be run: 3 MiB of text, of which each byte may need six.
JSON_BYTES_MAX = 32 * 1024 * 1024
BLOB_BYTES_MAX = 16 * 1024 * 1024
HEADER = struct.Struct("!II")


class Frame(NamedTuple):
    """One frame as it came: the JSON text and the blob, either may be empty."""

    json: bytes
    blob: bytes


def encode_frame(json: bytes, blob: bytes = b"") -> bytes:
    """Bytes of one frame. Raises `ProtocolError` if a part is over its limit."""
    if len(json) > JSON_BYTES_MAX or len(blob) > BLOB_BYTES_MAX:
        raise ProtocolError(f"frame of {len(json)} + {len(blob)} bytes is over the limit")
    return HEADER.pack(len(json), len(blob)) + json + blob


class FrameDecoder:
    """Turns a byte stream into frames. Holds at most one unfinished frame."""

    def __init__(
        self, *, json_bytes_max: int = JSON_BYTES_MAX, blob_bytes_max: int = BLOB_BYTES_MAX
    ) -> None:
        self._json_bytes_max = json_bytes_max
        self._blob_bytes_max = blob_bytes_max
        self._buffer = bytearray()

    def allow(self, *, json_bytes_max: int, blob_bytes_max: int) -> None:
        """Other limits from now on: those of somebody who has said who it is."""
        self._json_bytes_max = json_bytes_max
        self._blob_bytes_max = blob_bytes_max

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order. Raises `ProtocolError` on a bad length."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        position = 0
        available = len(buffer)
        while available - position >= HEADER.size:
            json_length, blob_length = HEADER.unpack_from(buffer, position)
            if json_length > self._json_bytes_max or blob_length > self._blob_bytes_max:
                buffer.clear()
                raise ProtocolError(
                    f"frame of {json_length} + {blob_length} bytes is over the limit of "
                    f"{self._json_bytes_max} + {self._blob_bytes_max}"
                )
            middle = position + HEADER.size + json_length
            end = middle + blob_length
            if end > available:
                break
            frames.append(
                Frame(bytes(buffer[position + HEADER.size : middle]), bytes(buffer[middle:end]))
            )
            position = end
        if position:
            del buffer[:position]
        return frames

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame held now."""
        return len(self._buffer)
