"""The calls of `file_calls.py`, answered: blobs made, fetched, read, and put into the folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from leoronic.actors.file_calls import (
    PIN_S,
    Advance,
    Fetch,
    FindLost,
    MakeBlobs,
    Makings,
    PutFile,
    ReadBlob,
)
from leoronic.actors.file_disk import FileDisk, is_corrupt
from leoronic.core.blob import BlobRef, FileRef
from leoronic.core.file_effects import (
    FetchBlobs,
    FetchState,
    FoundCorrupt,
    HereNow,
    Pin,
    Progress,
    WhoHas,
)
from leoronic.errors import DiskFull, LeoronicError, NotFound, Unavailable

TELL_EVERY_S = 0.2


class Store(Protocol):
    """The actor, as these calls need it."""

    async def feed(self, message: Any) -> None:
        """Tell the machine."""

    async def ask_machine(self, message: Any) -> Any:
        """Ask the machine. Raises what it answers with."""

    async def in_thread(
        self, work: Callable[[], Any], *, keys: Sequence[str] = (), long: bool = False
    ) -> Any:
        """Have it done beside everything else, in order with what has one of `keys` in common.

        Raises what `work` raises, if it is a `LeoronicError`.
        """

    async def make_room(self, size: int) -> None:
        """Have removed what may go, as there is no room for so many bytes."""

    def algorithm(self) -> str:
        """That new blobs are to be named with."""


class FileDoors:
    """For the actor `store`."""

    def __init__(self, store: Store, disk: FileDisk) -> None:
        self._store = store
        self._disk = disk

    def answer(self, message: Any) -> Awaitable[Any] | None:
        """The answer to a call, or None if it is not for the doors."""
        match message:
            case MakeBlobs(folder, paths, advance):
                return self._make(MakeBlobs(folder, paths, advance))
            case Fetch(files, advance):
                return self._fetch(files, advance)
            case FindLost(digests):
                return self._store.ask_machine(WhoHas(digests))
            case ReadBlob(digest, offset, limit):
                return self._read(digest, offset, limit)
            case PutFile(file):
                return self._put(file)
        return None

    async def _make(self, message: MakeBlobs) -> Makings:
        folder, paths, advance = message
        size = 0
        if advance is not None:
            size = await self._store.in_thread(partial(self._disk.size_of, folder, paths))
        loop = asyncio.get_running_loop()
        gone = False

        def progress(done: int) -> None:
            if gone:
                raise Unavailable("nobody waits for it any more")
            if advance is not None:
                loop.call_soon_threadsafe(advance, done, max(done, size))

        work = partial(self._disk.make, folder, paths, self._store.algorithm(), progress)
        try:
            made: Makings = await self._store.in_thread(work, long=True)
            if any(isinstance(one, DiskFull) for one in made):
                wanted = await self._store.in_thread(partial(self._disk.size_of, folder, paths))
                await self._store.make_room(wanted)
                made = await self._store.in_thread(work, long=True)
        finally:
            gone = True
        blobs = {one.blob: None for one in made if not isinstance(one, LeoronicError)}
        await self._keep(list(blobs))
        return made

    async def _keep(self, blobs: Sequence[BlobRef]) -> None:
        """They are here, and stay until somebody has said what they are for."""
        if blobs:
            await self._store.feed(HereNow(tuple(blobs)))
            await self._store.ask_machine(Pin(tuple(blob.digest for blob in blobs), PIN_S))

    async def _fetch(self, files: Sequence[FileRef], advance: Advance | None) -> dict[str, str]:
        digests = tuple(dict.fromkeys(file.digest for file in files))
        await self._store.ask_machine(Pin(digests, PIN_S))
        fetched = asyncio.ensure_future(self._store.ask_machine(FetchBlobs(digests)))
        try:
            while advance is not None and not fetched.done():
                await asyncio.wait({fetched}, timeout=TELL_EVERY_S)
                await self._tell(files, digests, advance)
            missing: dict[str, str] = await fetched
            return missing
        finally:
            fetched.cancel()

    async def _tell(
        self, files: Sequence[FileRef], digests: tuple[str, ...], advance: Advance
    ) -> None:
        state: dict[str, Progress] = await self._store.ask_machine(FetchState(digests))
        sizes = {file.digest: file.size for file in files}
        advance(sum(one.done_bytes for one in state.values()), sum(sizes.values()))

    async def _read(self, digest: str, offset: int, limit: int) -> bytes:
        data: bytes = await self._checked(digest, partial(self._disk.read, digest, offset, limit))
        return data

    async def _put(self, file: FileRef) -> None:
        await self._checked(file.digest, partial(self._disk.put, file))

    async def _checked(self, digest: str, work: Callable[[], Any]) -> Any:
        """Do something with a blob that may turn out to be damaged, or gone."""
        try:
            return await self._store.in_thread(work, keys=[digest])
        except LeoronicError as error:
            if is_corrupt(error):
                await self._store.feed(FoundCorrupt(digest))
                raise NotFound(error.message) from None
            raise
