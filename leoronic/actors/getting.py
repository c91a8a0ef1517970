"""`get`: the files that a task left, from wherever they are, through this node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from leoronic.actors.cluster import Cluster
from leoronic.actors.file_calls import Advance, Fetch, FindLost, ReadBlob
from leoronic.actors.output_reading import Item
from leoronic.actors.progress import with_progress
from leoronic.actors.views import real_runs, winner
from leoronic.core.blob import CHUNK_BYTES, FileRef
from leoronic.core.commands import Get
from leoronic.errors import BadRequest, LeoronicError, NotFound, Refused, Unavailable
from leoronic.journal.rows import AttemptRow
from leoronic.runtime.ref import ActorRef

FETCH_S_MAX = 24 * 3600.0
READ_S = 60.0
# Fetched together: many small files, or a few large ones.
BATCH_FILES_MAX = 64
BATCH_BYTES_MAX = 64 * 1024 * 1024
_ENDED = ("succeeded", "failed", "cancelled")


class Getting:
    """`store` None: this node keeps no files."""

    def __init__(self, cluster: Cluster, store: ActorRef | None) -> None:
        self._cluster = cluster
        self._store = store

    async def get(self, command: Get) -> AsyncIterator[Item]:
        """The stream of `commands.Get`."""
        task = await self._cluster.resolve(command.id)
        row = await self._last_run(task)
        outputs = row.outcome.outputs if row is not None and row.outcome is not None else ()
        problems = (
            row.outcome.output_problems if row is not None and row.outcome is not None else ()
        )
        by_path = {file.path: file for file in outputs}
        for path, offset in command.have.items():
            if path not in by_path:
                raise NotFound(f"{task} left no file {path}")
            if not 0 <= offset <= by_path[path].size:
                raise BadRequest(f"{path} has {by_path[path].size} bytes, not {offset} and more")
        wanted = [file for file in outputs if file.path in command.have]
        async for item in self._send_all(wanted, command.have):
            yield item
        shown = [
            {"path": file.path, "size": file.size, "mode": file.mode, "digest": file.digest}
            for file in outputs
        ]
        result = {
            "task": task,
            "attempt": row.attempt if row is not None else 0,
            "files": shown,
            "problems": list(problems),
        }
        yield {"result": result}, b""

    async def _last_run(self, task: str) -> AttemptRow | None:
        """The run whose outcome is the task's, else the last that left something."""
        [described] = await self._cluster.tasks([task])
        if "count" in described:
            last = described["count"] - 1
            raise Refused(f"{task} is an array: ask for an element, {task}.0 to {task}.{last}")
        rows: list[AttemptRow] = await self._cluster.ask(lambda reads: reads.attempts(task))
        runs = [run for run in real_runs(rows) if run.outcome is not None]
        won = winner(runs)
        if won is None and described["state"] not in _ENDED:
            raise Refused(
                f"{task} is {described['state']}: its files are kept when it ends "
                f"(`leoronic wait {task}`)"
            )
        left = [run for run in runs if run.outcome is not None and run.outcome.outputs]
        return won or (left[-1] if left else None)

    async def _send_all(self, wanted: list[FileRef], have: dict[str, int]) -> AsyncIterator[Item]:
        """What nobody seems to have is sought together, beside the rest, and told when known."""
        lost = await self._lost(wanted)
        absent = [file for file in wanted if file.digest in lost]
        seeking = asyncio.ensure_future(self._seek(absent))
        try:
            for batch in _batches([file for file in wanted if file.digest not in lost]):
                async for item in self._send(batch, have):
                    yield item
                if absent and seeking.done():
                    async for item in self._send_found(absent, seeking.result(), have):
                        yield item
                    absent = []
            async for item in self._send_found(absent, await seeking, have):
                yield item
        finally:
            seeking.cancel()

    async def _lost(self, files: list[FileRef]) -> frozenset[str]:
        if self._store is None or not files:
            return frozenset()
        asked = FindLost(tuple({file.digest: None for file in files}))
        try:
            lost: frozenset[str] = await self._store.call(asked, timeout_s=READ_S)
        except LeoronicError:
            return frozenset()  # Each is asked for anyway.
        return lost

    async def _seek(self, files: list[FileRef]) -> dict[str, str]:
        """Have these here. Why some cannot be had, by path."""
        if not files:
            return {}
        missing: dict[str, str] = {}
        try:
            reasons = await _Fetching(self._store, tuple(files))(None)
        except LeoronicError as error:
            return {file.path: error.message for file in files}
        for file in files:
            if file.digest in reasons:
                missing[file.path] = reasons[file.digest]
        return missing

    async def _send_found(
        self, files: list[FileRef], missing: dict[str, str], have: dict[str, int]
    ) -> AsyncIterator[Item]:
        """Those that are here now; of the others, why not: that first."""
        for file in files:
            if file.path in missing:
                yield {"path": file.path, "problem": missing[file.path]}, b""
        for file in files:
            if file.path not in missing:
                async for item in self._read(file, have[file.path]):
                    yield item

    async def _send(self, batch: list[FileRef], have: dict[str, int]) -> AsyncIterator[Item]:
        missing: dict[str, str] = {}
        async for item in self._fetch(tuple(batch), missing):
            yield item
        async for item in self._send_found(batch, missing, have):
            yield item

    async def _fetch(
        self, files: tuple[FileRef, ...], missing: dict[str, str]
    ) -> AsyncIterator[Item]:
        """Have them here. What cannot be had is told in `missing`, by its path."""
        try:
            async for item, blob in with_progress(_Fetching(self._store, files), "fetched"):
                if "result" not in item:
                    yield item, blob
                    continue
                reasons = item["result"]
                missing |= {f.path: reasons[f.digest] for f in files if f.digest in reasons}
        except LeoronicError as error:
            missing |= {file.path: error.message for file in files}

    async def _read(self, file: FileRef, offset: int) -> AsyncIterator[Item]:
        """All bytes from `offset` on; one item at least."""
        tries = 2
        while True:
            # To the end of a chunk: each is checked as a whole.
            limit = CHUNK_BYTES - offset % CHUNK_BYTES
            try:
                data = await self._part(file, offset, limit) if offset < file.size else b""
            except LeoronicError as error:
                tries -= 1
                refetched: dict[str, str] = {file.path: error.message}
                if tries and isinstance(error, NotFound):
                    # It was found to be damaged, or removed just now: others may have it.
                    refetched = {}
                    async for item in self._fetch((file,), refetched):
                        yield item
                if refetched:
                    yield {"path": file.path, "problem": refetched[file.path]}, b""
                    return
                continue
            yield {"path": file.path, "offset": offset}, data
            offset += len(data)
            if offset >= file.size:
                return

    async def _part(self, file: FileRef, offset: int, limit: int) -> bytes:
        if self._store is None:
            raise Unavailable("this node keeps no files")
        data: bytes = await self._store.call(ReadBlob(file.digest, offset, limit), timeout_s=READ_S)
        if not data:
            raise NotFound(f"{file.path} ends too soon")
        return data


class _Fetching:
    """What `with_progress` is to do."""

    def __init__(self, store: ActorRef | None, files: tuple[FileRef, ...]) -> None:
        self._store = store
        self._files = files

    async def __call__(self, advance: Advance | None) -> dict[str, str]:
        if self._store is None:
            raise Unavailable("this node keeps no files")
        fetch = Fetch(self._files, advance)
        missing: dict[str, str] = await self._store.call(fetch, timeout_s=FETCH_S_MAX)
        return missing


def _batches(files: list[FileRef]) -> Iterator[list[FileRef]]:
    batch: list[FileRef] = []
    for file in files:
        size = sum(one.size for one in batch) + file.size
        if batch and (len(batch) >= BATCH_FILES_MAX or size > BATCH_BYTES_MAX):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch
