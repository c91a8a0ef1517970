"""One connection on which this node asks: a thread that sends requests and takes their answers.

Several requests are under way at once, so that the other side always has work. A chunk goes from
the socket into a buffer; other threads check it and write it to the disk, while the next one comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple, Protocol

from leoronic.actors.bulk_buffers import Buffers
from leoronic.actors.bulk_greeting import BulkRefused, Opened, told
from leoronic.actors.bulk_stream import STALL_S, BulkStream
from leoronic.blobs.hashing import Corrupt
from leoronic.core.blob import ChunkList
from leoronic.errors import LeoronicError, ProtocolError
from leoronic.wire.bulk import (
    ANSWER_BYTES_MAX,
    BUSY,
    CORRUPT,
    FAILED,
    REFUSED,
    UNREACHABLE,
    Bytes,
    GetChunk,
    GetPage,
    GetPart,
    Missed,
    Page,
    Request,
    decode_answer,
    encode,
)
from leoronic.wire.hello import Refused, shortened

# One that is not needed for so long is closed.
IDLE_S = 30.0


class ChunkSink(Protocol):
    """Where the chunks of a blob go; see `blobs/part.py`."""

    digest: str
    chunks: ChunkList

    def write_chunk(self, index: int, data: memoryview) -> bool:
        """Check and keep it. Raises `Corrupt` and other `LeoronicError`s."""


class FileBytes(NamedTuple):
    """A part of a file of another node; `size` and `mtime_ns` of the file as it was then."""

    data: bytearray
    size: int
    mtime_ns: int


Got = FileBytes | Page | Missed | None
"""What came of a request; None: the chunk has been checked and is in its `ChunkSink`."""


@dataclass(slots=True, eq=False)
class Wanted:
    """A request for `node`. Of a chunk: `into`, and its size in bytes; of a part: the most."""

    node: str
    request: Request
    bytes_max: int
    future: asyncio.Future[Got]
    into: ChunkSink | None = None
    tries: int = 0


class Asking:
    """One connection to `node`; `open` makes it, in the thread, and `start` starts that.

    On the loop, `on_got` is called for each request that has its answer, and `on_end` once, with
    why it ended: code and reason of a `Missed`. `left` are those without an answer then.
    """

    def __init__(
        self,
        node: str,
        open: Callable[[], Opened],
        *,
        buffers: Buffers,
        writers: Executor,
        on_got: Callable[[Asking, Wanted, Got], None],
        on_end: Callable[[Asking, str, str], None],
        stall_s: float = STALL_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self.node = node
        self.under_way = 0
        """Requests without an answer; only the loop changes it."""
        self.retiring = False
        self.is_open = False
        self._open = open
        self._buffers = buffers
        self._writers = writers
        self._on_got = on_got
        self._on_end = on_end
        self._stall_s = stall_s
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._stream: BulkStream | None = None
        self._ending = False
        self._unsent: deque[Wanted] = deque()
        self._sent: deque[Wanted] = deque()
        self._numbers = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def start(self) -> None:
        """Connect."""
        threading.Thread(target=self._run, name="bulk-client", daemon=True).start()

    def ask(self, wanted: Wanted) -> None:
        """One request more. On the loop."""
        self.under_way += 1
        with self._lock:
            self._unsent.append(wanted)
            self._rouse()

    def left(self) -> tuple[list[Wanted], list[Wanted]]:
        """Once it has ended: the requests that were sent, and those that were not."""
        return list(self._sent), list(self._unsent)

    def end(self) -> None:
        """From any thread: close it, whatever is under way."""
        with self._lock:
            self._ending = True
            self._rouse()
            if self._stream is not None:
                self._stream.abort()

    def _rouse(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    # ---- the thread ----

    def _run(self) -> None:
        code, reason = UNREACHABLE, "the connection ended"
        try:
            self._converse()
        except BulkRefused as error:
            code = BUSY if error.reason_code == BUSY else UNREACHABLE
            reason = error.message
        except (LeoronicError, OSError) as error:
            reason = told(error)
        finally:
            with self._lock:
                self._ending = True
                wake, self._wake = self._wake, -1
                os.close(wake)
            if self._stream is not None:
                self._stream.close()
            self._tell(self._on_end, self, code, shortened(reason))

    def _converse(self) -> None:
        opened = self._open()
        with self._lock:
            self._stream = stream = opened.stream
            if self._ending:
                return
        self.is_open = True
        while True:
            self._send_all(stream)
            try:
                begun = stream.wait(self._stall_s if self._sent else self._idle_s, self._wake)
            except TimeoutError:
                if self._sent:
                    raise
                return
            if begun:
                self._take(stream)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            if self._ending:
                return

    def _send_all(self, stream: BulkStream) -> None:
        while True:
            with self._lock:
                if not self._unsent:
                    return
                wanted = self._unsent.popleft()
                self._sent.append(wanted)
            self._numbers += 1
            stream.send(encode(_numbered(wanted.request, self._numbers)))

    def _take(self, stream: BulkStream) -> None:
        bytes_max = self._sent[0].bytes_max if self._sent else 0
        json, size = stream.receive(ANSWER_BYTES_MAX, bytes_max)
        said = decode_answer(json)
        if isinstance(said, Refused):
            raise BulkRefused(shortened(said.reason), said.code)
        if not self._sent or said.request != self._numbers - len(self._sent) + 1:
            raise ProtocolError("it answers what was not asked")
        wanted = self._sent[0]
        if size and not isinstance(said, Bytes):
            raise ProtocolError(f"{type(said).__name__} has bytes with it")
        match wanted.request, said:
            case _, Missed():
                self._got(wanted, said)
            case GetChunk(), Bytes():
                self._take_chunk(stream, wanted, size)
            case GetPart(), Bytes(_, file_size, mtime_ns):
                data = bytearray(size)
                stream.receive_into(memoryview(data))
                self._got(wanted, FileBytes(data, file_size, mtime_ns))
            case GetPage(), Page():
                self._got(wanted, said)
            case _:
                raise ProtocolError(f"{type(said).__name__} is no answer to what was asked")

    def _take_chunk(self, stream: BulkStream, wanted: Wanted, size: int) -> None:
        buffer = self._buffers.take(size, self._stall_s)
        try:
            with memoryview(buffer) as whole, whole[:size] as view:
                stream.receive_into(view)
            try:
                self._writers.submit(self._keep, wanted, buffer, size)
            except RuntimeError:
                raise ConnectionAbortedError("this node stops") from None
            self._sent.popleft()
        except BaseException:
            self._buffers.give(buffer)
            raise

    def _keep(self, wanted: Wanted, buffer: mmap, size: int) -> None:
        """In a thread of the writers: check a chunk, and write it."""
        assert wanted.into is not None
        assert isinstance(wanted.request, GetChunk)
        got: Got = None
        try:
            with memoryview(buffer) as whole, whole[:size] as view:
                wanted.into.write_chunk(wanted.request.index, view)
        except Corrupt as error:
            got = Missed(0, CORRUPT, shortened(error.message))
        except LeoronicError as error:
            got = Missed(0, FAILED, shortened(error.message))
        except OSError as error:
            got = Missed(0, FAILED, shortened(told(error)))
        finally:
            self._buffers.give(buffer)
        self._tell(self._on_got, self, wanted, got)

    def _got(self, wanted: Wanted, got: Got) -> None:
        self._sent.popleft()
        self._tell(self._on_got, self, wanted, got)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        # The loop may have ended before this thread.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)


def missed(code: str, reason: str) -> Missed:
    """One of this side's own."""
    assert code in (BUSY, CORRUPT, FAILED, REFUSED, UNREACHABLE)
    return Missed(0, code, shortened(reason))


def _numbered(request: Request, number: int) -> Request:
    match request:
        case GetChunk(_, digest, index):
            return GetChunk(number, digest, index)
        case GetPart(_, path, offset, limit):
            return GetPart(number, path, offset, limit)
        case GetPage(_, after):
            return GetPage(number, after)
