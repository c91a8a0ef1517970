"""Frames between parties: sans-IO, with the buffers of pickle protocol 5 beside the pickle.

    frame = u64 body_length | u8 kind | u8 n_buffers | u64 length of each buffer | body | buffers

All little endian. The body is a pickle; the other side is of the same user or holds the cookie,
and could run any code here anyway. Large buffers are neither joined nor copied when they are
written, and are read from the socket into the memory in which they stay.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import NamedTuple

from leoronic.errors import ProtocolError

HEADER = struct.Struct("<QBB")
BUFFERS_MAX = 255
# A copy of less is cheaper than the lengths, the slices and the calls that it saves.
BUFFER_BYTES_MIN = 16 * 1024
# What nobody sends: a damaged length must not become an attempt to get that much memory.
FRAME_BYTES_MAX = 64 * 1024**3
READ_BYTES = 256 * 1024

Said = tuple[int, object]
"""A kind (`said.py`) and the body that goes with it."""


def encode(kind: int, body: object) -> list[bytes | memoryview]:
    """The parts of one frame, to be written in this order.

    A `pickle.PickleBuffer` in `body` (or in what it is made of) arrives as a memoryview, if it is
    large, else as bytes or a bytearray.
    """
    buffers: list[memoryview] = []

    def keep_apart(buffer: pickle.PickleBuffer) -> bool:
        """False: it travels beside the pickle."""
        with buffer.raw() as raw:
            is_small = raw.nbytes < BUFFER_BYTES_MIN
        if is_small or len(buffers) == BUFFERS_MAX:
            return True
        buffers.append(buffer.raw())
        return False

    data = pickle.dumps(body, 5, buffer_callback=keep_apart)
    header = HEADER.pack(len(data), kind, len(buffers))
    if not buffers:
        return [header + data] if len(data) < BUFFER_BYTES_MIN else [header, data]
    lengths = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    return [header + lengths, data, *buffers]


class _Shape(NamedTuple):
    kind: int
    body: int
    buffers: tuple[int, ...]
    head: int  # bytes of the header and the lengths

    @property
    def total(self) -> int:
        return self.head + self.body + sum(self.buffers)


class FrameReader:
    """Turns a byte stream into what was said. Bytes are read into `room()`, then `filled`."""

    def __init__(self) -> None:
        self._scratch = bytearray(READ_BYTES)
        self._view = memoryview(self._scratch)
        self._start = 0
        self._end = 0
        self._large: _Large | None = None

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._large is not None:
            return self._large.room()
        return self._view[self._end :]

    def filled(self, count: int) -> list[Said]:
        """`count` bytes of `room()` have been written: what they complete, in order.

        Raises `ProtocolError` on what is no frame.
        """
        if self._large is not None:
            self._large.filled(count)
            if not self._large.is_whole:
                return []
            said = self._large.said()
            self._large = None
            return [said]
        self._end += count
        return list(self._take())

    def feed(self, data: bytes) -> list[Said]:
        """As `room` and `filled`, for bytes that are somewhere else."""
        found: list[Said] = []
        rest = memoryview(data)
        while rest:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            found += self.filled(count)
        return found

    def _take(self) -> Iterator[Said]:
        while (shape := self._shape()) is not None:
            there = self._end - self._start
            if shape.total > there:
                if shape.total > READ_BYTES // 4:
                    begun = self._view[self._start + shape.head : self._end]
                    self._large = _Large(shape, begun)
                    self._start = self._end = 0
                break
            at = self._start + shape.head
            self._start += shape.total
            body = self._view[at : at + shape.body]
            at += shape.body
            buffers = []
            for length in shape.buffers:
                buffers.append(memoryview(bytearray(self._view[at : at + length])))
                at += length
            yield shape.kind, _load(body, buffers)
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            rest = bytes(self._view[self._start : self._end])
            self._scratch[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _shape(self) -> _Shape | None:
        """Of the next frame, once enough of it is there."""
        there = self._end - self._start
        if there < HEADER.size:
            return None
        body, kind, count = HEADER.unpack_from(self._scratch, self._start)
        head = HEADER.size + 8 * count
        if there < head:
            return None
        lengths = struct.unpack_from(f"<{count}Q", self._scratch, self._start + HEADER.size)
        shape = _Shape(kind, body, lengths, head)
        if shape.total > FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {shape.total} bytes is over the limit")
        return shape


class _Large:
    """A frame that is read into its own memory: the body and each buffer apart."""

    def __init__(self, shape: _Shape, begun: memoryview) -> None:
        self._kind = shape.kind
        try:
            self._parts = [memoryview(bytearray(length)) for length in (shape.body, *shape.buffers)]
        except MemoryError:
            raise ProtocolError(f"no memory for a frame of {shape.total} bytes") from None
        self._part = 0
        self._at = 0
        self._skip_full()
        while begun:
            room = self.room()
            count = min(len(room), len(begun))
            room[:count] = begun[:count]
            begun = begun[count:]
            self.filled(count)

    @property
    def is_whole(self) -> bool:
        return self._part == len(self._parts)

    def room(self) -> memoryview:
        return self._parts[self._part][self._at :]

    def filled(self, count: int) -> None:
        self._at += count
        self._skip_full()

    def _skip_full(self) -> None:
        while self._part < len(self._parts) and self._at == len(self._parts[self._part]):
            self._part += 1
            self._at = 0

    def said(self) -> Said:
        return self._kind, _load(self._parts[0], self._parts[1:])


def _load(body: memoryview, buffers: list[memoryview]) -> object:
    try:
        return pickle.loads(body, buffers=buffers)
    except Exception as error:  # Whatever a damaged pickle raises.
        raise ProtocolError(f"not what a party says: {type(error).__name__}: {error}") from error
