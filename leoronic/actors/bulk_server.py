"""Serves other nodes with chunks of blobs, and with files of the working directory.

Each connection has a thread, as nothing here may delay the loop. Those that have not proved who
they are have threads of their own, so that they cannot take the place of those that have.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from leoronic.actors.bulk_folder import FolderWalk, read_part
from leoronic.actors.bulk_greeting import BulkRefused, Opened, answer, call, told
from leoronic.actors.bulk_stream import STALL_S, BulkStream
from leoronic.actors.standing import Standing
from leoronic.blobs.hashing import Bytes as AnyBytes
from leoronic.blobs.hashing import Corrupt
from leoronic.errors import BadRequest, LeoronicError, NotFound, ProtocolError
from leoronic.wire.bulk import (
    AS_GHOST,
    CORRUPT,
    GHOST_FILES,
    GHOST_SERVE,
    NOT_HERE,
    REFUSED,
    REQUEST_BYTES_MAX,
    SERVE_FILES,
    Answer,
    Bytes,
    GetChunk,
    GetPage,
    GetPart,
    Missed,
    Page,
    Request,
    decode_request,
    encode,
)
from leoronic.wire.hello import BUSY, Refused, shortened
from leoronic.wire.preface import Preface

SERVED_MAX = 16
SERVED_PER_NODE_MAX = 4
STRANGERS_MAX = 16
# Who asks closes what it does not need; longer than it takes for that.
IDLE_S = 60.0


class PartUnderWay(Protocol):
    """A blob of which some chunks are here; see `blobs/part.py`."""

    def read_chunk(self, index: int) -> AnyBytes:
        """Raises `NotFound`, `Corrupt`."""


class ChunkSource(Protocol):
    """The blobs that are here; see `blobs/store.py`."""

    def read_chunk(self, digest: str, index: int) -> AnyBytes:
        """Raises `NotFound`, `BadRequest`, `Corrupt`."""

    def under_way(self, digest: str) -> PartUnderWay | None:
        """The part of it that has come."""


class BulkServer:
    """Serves from `store` and the directory `root`. To be used on the loop only.

    `standing` and `node` say who this node is, for each new connection; `standing` may be None
    while that is not known. `on_offered` gets a connection whose other end wants to serve this
    node (see `BulkClient.adopt`). `on_problem(who, reason)` is told why a connection ended that
    should not have, of strangers too, so perhaps often. Both are called on the loop.
    `is_ghost(id)`, called in threads: whether a ghost of that id is attached somewhere. Ghosts get
    chunks of blobs, whose digests they must know, and nothing of the directory.
    """

    def __init__(
        self,
        store: ChunkSource,
        root: Path,
        *,
        standing: Callable[[], Standing | None],
        node: Callable[[], str],
        on_offered: Callable[[Opened], None],
        on_problem: Callable[[str, str], None],
        is_ghost: Callable[[str], bool] = lambda _: False,
        stall_s: float = STALL_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._store = store
        self._root = root
        self._standing = standing
        self._node = node
        self._on_offered = on_offered
        self._on_problem = on_problem
        self._is_ghost = is_ghost
        self._stall_s = stall_s
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._strangers: dict[socket.socket, None] = {}
        # Who is served, by a number; the stream is there once it is open.
        self._served: dict[int, tuple[str, BulkStream | None]] = {}
        self._numbers = 0
        self._closed = False

    def take(self, found: socket.socket, theirs: Preface) -> None:
        """A connection that came with the line `theirs`, for one of `PURPOSES`; it is ours now."""
        standing = self._standing()
        if self._closed or standing is None:
            found.close()
            return
        with self._lock:
            if len(self._strangers) >= STRANGERS_MAX:
                oldest = next(iter(self._strangers))
                # Now, not once its thread notices: else the next one would find the same oldest.
                del self._strangers[oldest]
                _shut(oldest)
            self._strangers[found] = None
        self._start(self._called, found, theirs, standing, self._node())

    def call(self, node: str, addresses: Sequence[str]) -> None:
        """Call `node`, at the first of `addresses` where it answers, to serve it: it has asked."""
        standing = self._standing()
        if self._closed or standing is None:
            return
        number = self._admit(node)
        if number is not None:
            self._start(self._calling, number, node, tuple(addresses), standing, self._node())

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            self._closed = True
            for found in self._strangers:
                _shut(found)
            for _, stream in self._served.values():
                if stream is not None:
                    stream.abort()

    @property
    def serving(self) -> int:
        """How many connections it serves now."""
        return len(self._served)

    # ---- threads ----

    @staticmethod
    def _start(work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name="bulk-server", daemon=True).start()

    def _called(self, found: socket.socket, theirs: Preface, standing: Standing, me: str) -> None:
        who = _remote(found)
        try:
            opened = answer(found, theirs, standing, me, stall_s=self._stall_s)
        except (LeoronicError, OSError) as error:
            self._problem(who, error)
            return
        finally:
            with self._lock:
                self._strangers.pop(found, None)
        if theirs.purpose in AS_GHOST.values() and not self._is_ghost(opened.node):
            opened.refuse("no ghost of that id is attached to a node")
            return
        if theirs.purpose in (SERVE_FILES, GHOST_SERVE):
            self._tell(self._on_offered, opened)
            return
        number = self._admit(opened.node)
        if number is None:
            opened.refuse("it serves as many as it can: ask again later", BUSY)
            return
        try:
            opened.accept()
            self._serve(number, opened, chunks_only=theirs.purpose == GHOST_FILES)
        except OSError as error:
            self._problem(opened.node, error)
        finally:
            self._leave(number)
            opened.stream.close()

    def _calling(
        self, number: int, node: str, addresses: tuple[str, ...], standing: Standing, me: str
    ) -> None:
        try:
            for address in addresses:
                try:
                    opened = call(address, SERVE_FILES, standing, me, node, stall_s=self._stall_s)
                except (BulkRefused, ProtocolError, OSError) as error:
                    self._problem(node, error)
                    continue
                try:
                    self._serve(number, opened)
                finally:
                    opened.stream.close()
                return
        finally:
            self._leave(number)

    def _admit(self, node: str) -> int | None:
        """A number to be served under, if there is room."""
        with self._lock:
            same = sum(1 for other, _ in self._served.values() if other == node)
            if self._closed or len(self._served) >= SERVED_MAX or same >= SERVED_PER_NODE_MAX:
                return None
            self._numbers += 1
            self._served[self._numbers] = (node, None)
            return self._numbers

    def _leave(self, number: int) -> None:
        with self._lock:
            del self._served[number]

    def _serve(self, number: int, opened: Opened, *, chunks_only: bool = False) -> None:
        stream = opened.stream
        with self._lock:
            if self._closed:
                return
            self._served[number] = (opened.node, stream)
        walk = FolderWalk(self._root)
        try:
            while self._waits(stream):
                json, _ = stream.receive(REQUEST_BYTES_MAX)
                request = decode_request(json)
                if chunks_only and not isinstance(request, GetChunk):
                    raise ProtocolError(f"a ghost may not say {type(request).__name__}")
                said, blob = self._answer(request, walk)
                stream.send(encode(said), blob)
        except ProtocolError as error:
            with contextlib.suppress(OSError):
                stream.send(encode(Refused(shortened(error.message))))
            self._problem(opened.node, error)
        except ConnectionError:
            pass  # Who asked has gone, and knows why.
        except OSError as error:
            self._problem(opened.node, error)

    def _waits(self, stream: BulkStream) -> bool:
        """Wait for a request. False if none comes."""
        try:
            return stream.wait(self._idle_s)
        except TimeoutError:
            return False

    def _answer(self, request: Request, walk: FolderWalk) -> tuple[Answer, AnyBytes]:
        number = request.request
        try:
            match request:
                case GetChunk(_, digest, index):
                    return Bytes(number), self._read_chunk(digest, index)
                case GetPart(_, path, offset, limit):
                    part = read_part(self._root, path, offset, limit)
                    return Bytes(number, part.size, part.mtime_ns), part.data
                case GetPage(_, after):
                    return Page(number, *walk.page(after)), b""
        except Corrupt as error:
            return Missed(number, CORRUPT, shortened(error.message)), b""
        except BadRequest as error:
            return Missed(number, REFUSED, shortened(error.message)), b""
        except LeoronicError as error:
            return Missed(number, NOT_HERE, shortened(error.message)), b""

    def _read_chunk(self, digest: str, index: int) -> AnyBytes:
        try:
            return self._store.read_chunk(digest, index)
        except NotFound:
            part = self._store.under_way(digest)
            if part is None:
                raise
            return part.read_chunk(index)

    # ---- back to the loop ----

    def _problem(self, who: str, error: LeoronicError | OSError) -> None:
        self._tell(self._on_problem, who, told(error))

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        # The loop may have ended before this thread.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)


def _remote(found: socket.socket) -> str:
    try:
        host: str = found.getpeername()[0]
    except OSError:
        return "somebody"
    return host.removeprefix("::ffff:")


def _shut(found: socket.socket) -> None:
    """Whatever its thread waits for there fails at once."""
    with contextlib.suppress(OSError):
        found.shutdown(socket.SHUT_RDWR)
