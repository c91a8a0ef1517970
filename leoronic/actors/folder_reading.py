"""The working directories of all nodes, read through this one: for `collect`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from leoronic.actors.bulk_folder import FolderWalk, read_part
from leoronic.actors.file_calls import FolderBytes, FolderPage, FolderPart
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_reading import Item
from leoronic.blobs.inside import STATE_FOLDER
from leoronic.blobs.placing import HALF
from leoronic.core.commands import ListFiles, ReadFiles
from leoronic.errors import BadRequest, LeoronicError, MailboxFull, Unavailable
from leoronic.runtime.ref import ActorRef
from leoronic.wire.bulk import PART_BYTES_MAX, Entry, Page

# With so many parts under way a slow connection is busy, and little memory is taken.
PART_BYTES = PART_BYTES_MAX // 4
AHEAD_MAX = 8
FILES_MAX = 1000
CALL_S = 120.0
BUSY_TRIES = 10
BUSY_PAUSE_S = 1.0
WALKS_MAX = 8
INBOX = "inbox"
# Behind everything in the inbox.
_BEHIND_INBOX = f"{INBOX}/\U0010ffff"
CHANGED = "it changed while it was read: collect again once it is complete"


class _Part(NamedTuple):
    """The part from `offset` on; `first` and `last` of those of its file."""

    path: str
    offset: int
    limit: int
    first: bool
    last: bool


class FolderReading:
    """`root` is this node's working directory. `store` reaches those of others."""

    def __init__(self, nodes: Nodes, root: Path, store: ActorRef | None) -> None:
        self._nodes = nodes
        self._root = root
        self._store = store
        # Walks through this node's directory, by the path behind which each goes on.
        self._walks: dict[str, FolderWalk] = {}

    # ---- pages ----

    async def list_files(self, command: ListFiles) -> dict[str, Any]:
        """The answer to `commands.ListFiles`."""
        node = self._nodes.find(command.node)
        page = await self._page(node, command.after)
        entries = [entry for entry in page.entries if not _is_state(entry)]
        after = page.entries[-1].path if page.entries else command.after
        if after.startswith(f"{INBOX}/"):
            after = _BEHIND_INBOX
        return {"entries": msgspec.to_builtins(entries), "more": page.more, "after": after}

    async def _page(self, node: str, after: str) -> Page:
        if node == self._nodes.me:
            walk = self._walks.pop(after, None) or FolderWalk(self._root)
            entries, more = await asyncio.to_thread(walk.page, after)
            if more and entries:
                self._walks[entries[-1].path] = walk
                while len(self._walks) > WALKS_MAX:
                    del self._walks[next(iter(self._walks))]
            return Page(0, entries, more)
        page: Page = await self._call(node, FolderPage(node, after))
        return page

    # ---- files ----

    async def read_files(self, command: ReadFiles) -> AsyncIterator[Item]:
        """The stream of `commands.ReadFiles`."""
        if len(command.files) > FILES_MAX:
            raise BadRequest(f"at most {FILES_MAX} files at once")
        if any(not 0 <= offset <= size for _, offset, size in command.files):
            raise BadRequest("an offset is in its file")
        node = self._nodes.find(command.node)
        parts = chain.from_iterable(_parts(*file) for file in command.files)
        under_way: deque[tuple[_Part, asyncio.Future[FolderBytes]]] = deque()
        stamp: tuple[int, int] | None = None  # None: the file in turn has failed
        try:
            for part in parts:
                under_way.append((part, asyncio.ensure_future(self._read(node, part))))
                if len(under_way) >= AHEAD_MAX:
                    item, stamp = await self._next(under_way, stamp)
                    if item is not None:
                        yield item
            while under_way:
                item, stamp = await self._next(under_way, stamp)
                if item is not None:
                    yield item
        finally:
            for _, waiting in under_way:
                waiting.add_done_callback(_seen)
                waiting.cancel()
        yield {"result": {}}, b""

    async def _next(
        self,
        under_way: deque[tuple[_Part, asyncio.Future[FolderBytes]]],
        stamp: tuple[int, int] | None,
    ) -> tuple[Item | None, tuple[int, int] | None]:
        """The item of the first part under way, if it has one, and how its file is now.

        Raises `Unavailable` if the node is gone.
        """
        part, waiting = under_way[0]
        try:
            found = await waiting
        except Unavailable:
            raise
        except LeoronicError as error:
            under_way.popleft()
            failed = part.first or stamp is not None
            return (_problem(part, error.message) if failed else None), None
        under_way.popleft()
        if part.first:
            stamp = (found.size, found.mtime_ns)
        if stamp is None:
            return None, None
        complete = len(found.data) == min(part.limit, max(found.size - part.offset, 0))
        if stamp != (found.size, found.mtime_ns) or not complete:
            return _problem(part, CHANGED), None
        if part.last and part.offset + len(found.data) != found.size:
            # It is not as it was listed: so much of it was not asked for.
            return _problem(part, CHANGED), None
        told = {
            "path": part.path,
            "offset": part.offset,
            "size": found.size,
            "mtime_ns": found.mtime_ns,
            "last": part.last,
        }
        return (told, bytes(found.data)), stamp

    async def _read(self, node: str, part: _Part) -> FolderBytes:
        if part.path == INBOX or part.path.startswith(f"{INBOX}/"):
            raise BadRequest(f"{part.path}: the inbox is not handed out")
        if node == self._nodes.me:
            return FolderBytes(
                *await asyncio.to_thread(read_part, self._root, part.path, part.offset, part.limit)
            )
        message = FolderPart(node, part.path, part.offset, part.limit)
        found: FolderBytes = await self._call(node, message)
        return found

    async def _call(self, node: str, message: FolderPage | FolderPart) -> Any:
        """Of a node that serves as many as it can, it is asked again."""
        for _ in range(BUSY_TRIES):
            try:
                return await self._there(node).call(message, timeout_s=CALL_S)
            except MailboxFull:
                await asyncio.sleep(BUSY_PAUSE_S)
        return await self._there(node).call(message, timeout_s=CALL_S)

    def _there(self, node: str) -> ActorRef:
        self._nodes.check_there(node)
        if self._store is None:
            raise Unavailable(f"{self._nodes.name(node)} can't be asked")
        return self._store


def _parts(path: str, offset: int, size: int) -> Iterator[_Part]:
    begin = offset
    while True:
        limit = min(PART_BYTES, max(size - begin, 1))
        last = begin + limit >= size
        yield _Part(path, begin, limit, first=begin == offset, last=last)
        begin += limit
        if last:
            return


def _seen(done: asyncio.Future[FolderBytes]) -> None:
    """Nobody waits for it any more, and nobody need be told how it ended."""
    if not done.cancelled():
        done.exception()


def _problem(part: _Part, why: str) -> Item:
    return {"path": part.path, "problem": why}, b""


def _is_state(entry: Entry) -> bool:
    """Whether it is the node's own, not its tasks'."""
    top = entry.path.partition("/")[0]
    return top in (STATE_FOLDER, INBOX) or entry.path.rpartition("/")[2].startswith(HALF)
