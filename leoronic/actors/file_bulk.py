"""Connections for files: opened when there is something to fetch or to serve, gone soon after.

Nothing of them is imported, and no thread is alive, while there is nothing to do.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from leoronic.actors.file_calls import FolderBytes, FolderPage, FolderPart
from leoronic.actors.file_disk import FileDisk, is_corrupt
from leoronic.actors.peer_port import PeerPort
from leoronic.core.addresses import best_first
from leoronic.core.file_effects import ChunkCame, ChunkMissed, FoundCorrupt, PullChunk
from leoronic.core.peer import REASON_MAX
from leoronic.core.view import View
from leoronic.errors import BadRequest, LeoronicError, MailboxFull, NotFound, Refused, Unavailable
from leoronic.runtime.actor import ActorContext
from leoronic.wire.bulk import BUSY, CORRUPT, NOT_HERE, PURPOSES, REFUSED, Missed, Page
from leoronic.wire.preface import Preface

if TYPE_CHECKING:
    from leoronic.actors.bulk_asking import Got
    from leoronic.actors.bulk_client import BulkClient
    from leoronic.actors.bulk_greeting import Opened
    from leoronic.actors.bulk_server import BulkServer, PartUnderWay
    from leoronic.blobs.hashing import Bytes

# Longer than connections stay open that nobody uses.
CLOSE_AFTER_S = 45.0
PROBLEMS_TOLD_MAX = 256
_ERRORS: dict[str, type[LeoronicError]] = {
    BUSY: MailboxFull,
    CORRUPT: Refused,
    NOT_HERE: NotFound,
    REFUSED: BadRequest,
}
# Each may take seconds, if nothing answers there.
PLACES_MAX = 4


class _Served:
    """What others may fetch: the blobs on `disk`. For the threads that serve."""

    def __init__(self, disk: FileDisk, found_corrupt: Callable[[str], None]) -> None:
        self._disk = disk
        self._found_corrupt = found_corrupt
        self._loop = asyncio.get_running_loop()

    def read_chunk(self, digest: str, index: int) -> Bytes:
        """As `BlobStore.read_chunk`; what is found to be damaged is told."""
        store = self._disk.store
        was_here = store.has(digest)
        try:
            return store.read_chunk(digest, index)
        except LeoronicError as error:
            if was_here and is_corrupt(error):
                self._loop.call_soon_threadsafe(self._found_corrupt, digest)
            raise

    def under_way(self, digest: str) -> PartUnderWay | None:
        """As `BlobStore.under_way`."""
        return self._disk.store.under_way(digest)


class FileBulk:
    """For the actor of `context`, on the loop. `ask_to_call(node)`: have that node call this one.

    What `pull` is asked for is answered by a message to the actor.
    """

    def __init__(
        self,
        context: ActorContext,
        disk: FileDisk,
        port: PeerPort,
        node: Callable[[], str],
        ask_to_call: Callable[[str], None],
    ) -> None:
        self._context = context
        self._disk = disk
        self._port = port
        self._node = node
        self._ask_to_call = ask_to_call
        self._places: dict[str, tuple[str, ...]] = {}  # where each node that is there listens
        self._ghosts: frozenset[str] = frozenset()
        self._client: BulkClient | None = None
        self._server: BulkServer | None = None
        self._under_way = 0
        self._told: set[tuple[str, str]] = set()
        port.serve(PURPOSES, self._take)

    def see(self, view: View) -> None:
        """Who is there, and where."""
        self._ghosts = frozenset(view.ghosts.keys() - view.members.keys())
        before = self._places
        self._places = {
            node: tuple(_places(member.address, member.about.addresses))
            for node, member in view.members.items()
            if member.alive and node != view.me
        }
        if self._client is not None:
            for node in before.keys() - self._places.keys():
                self._client.drop(node, "it is not there any more")

    def pull(self, message: PullChunk) -> None:
        """Fetch a chunk into its part."""
        digest, index, node = message
        part = None if self._disk.is_untouched else self._disk.store.under_way(digest)
        if part is None:
            self._answer(message, Missed(0, "", "it is not fetched any more"))
            return
        asked = self._count(self._asks().pull(node, part, index))
        asked.add_done_callback(lambda done: self._pulled(message, done))

    async def read_folder(self, message: FolderPage | FolderPart) -> Page | FolderBytes:
        """See these calls."""
        if isinstance(message, FolderPage):
            asked = self._asks().list_page(*message)
        else:
            asked = self._asks().read_part(*message)
        got = await self._count(asked)
        match got:
            case Missed():
                raise _ERRORS.get(got.code, Unavailable)(got.reason)
            case Page():
                return got
        assert got is not None, "no chunk was asked for"
        return FolderBytes(*got)

    def call_back(self, node: str, places: tuple[str, ...] = ()) -> None:
        """`node`, which listens at `places`, wants something and cannot call: call and serve it."""
        places = places or self._places.get(node, ())
        if places:
            self._serves().call(node, places)

    def close(self) -> None:
        """End all of it."""
        # The next life of the actor may have begun.
        self._port.stop([one for one in PURPOSES if self._port.taker(one) == self._take])
        for one in (self._client, self._server):
            if one is not None:
                one.close()

    # ---- asking ----

    def _asks(self) -> BulkClient:
        if self._client is None:
            from leoronic.actors.bulk_client import BulkClient  # noqa: PLC0415 - see the module

            self._client = BulkClient(
                standing=self._port.who_i_am,
                node=self._node,
                addresses=lambda node: self._places.get(node, ()),
                ask_to_call=self._ask_to_call,
            )
            self._context.call_after(CLOSE_AFTER_S, self._close_client)
        return self._client

    def _count(self, asked: asyncio.Future[Got]) -> asyncio.Future[Got]:
        self._under_way += 1
        asked.add_done_callback(self._uncount)
        return asked

    def _uncount(self, _done: asyncio.Future[Got]) -> None:
        self._under_way -= 1

    def _pulled(self, message: PullChunk, done: asyncio.Future[Got]) -> None:
        got = done.result()
        self._answer(message, got if isinstance(got, Missed) else None)

    def _answer(self, message: PullChunk, missed: Missed | None) -> None:
        digest, index, node = message
        if missed is None:
            self._context.send_now(ChunkCame(digest, index))
            return
        # That the other side found its own to be damaged is honest of it.
        corrupt = missed.code == CORRUPT and not missed.request
        reason = missed.reason[:REASON_MAX]
        self._context.send_now(ChunkMissed(digest, index, node, reason, corrupt))

    def _close_client(self) -> None:
        """Its threads end with it."""
        assert self._client is not None
        if self._under_way or self._client.connections:
            self._context.call_after(CLOSE_AFTER_S, self._close_client)
            return
        self._client.close()
        self._client = None

    # ---- serving ----

    def _take(self, found: socket.socket, theirs: Preface) -> None:
        self._serves().take(found, theirs)

    def _serves(self) -> BulkServer:
        if self._server is None:
            from leoronic.actors.bulk_server import BulkServer  # noqa: PLC0415 - see the module

            self._server = BulkServer(
                _Served(self._disk, self._found_corrupt),
                self._disk.root,
                standing=self._port.who_i_am,
                node=self._node,
                on_offered=self._offered,
                on_problem=self._problem,
                is_ghost=lambda ghost: ghost in self._ghosts,
            )
        return self._server

    def _offered(self, opened: Opened) -> None:
        self._asks().adopt(opened)

    def _found_corrupt(self, digest: str) -> None:
        self._context.send_now(FoundCorrupt(digest))

    def _problem(self, who: str, reason: str) -> None:
        """Tell people, once for each."""
        if (who, reason) not in self._told:
            if len(self._told) >= PROBLEMS_TOLD_MAX:
                self._told.clear()
            self._told.add((who, reason))
            self._context.log.warning("files not sent", peer=who, reason=reason)


def _places(address: str, others: Iterable[str]) -> list[str]:
    """Where to call: first where the messages go."""
    found = ([address] if address else []) + best_first(others)
    return list(dict.fromkeys(found))[:PLACES_MAX]
