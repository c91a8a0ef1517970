"""Output that outlives its node: what is too large to travel with its outcome, others copy.

The copy of what a run printed is kept by the first node after the run's own, in ring order of those
that are there. It pulls it from that node; once it is whole and on disk it says so in its journal,
so all nodes know where the output is.

By level: it looks at what nobody keeps a copy of, soon after something has ended somewhere, when
nodes come and go, and now and then. Between two such looks an idle node does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

from leoronic.actors.asking import ask
from leoronic.actors.keeper_messages import OutputEnded
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_files import (
    Copy,
    copy_name,
    remove_parts,
    room_left,
    whole_file,
)
from leoronic.actors.own_output import CHUNK_BYTES
from leoronic.actors.peer_commands import ReadPart
from leoronic.core.entries import Kept
from leoronic.core.outcome import StreamRef
from leoronic.core.queue_messages import Append, Appended, AppendFailed
from leoronic.core.ring import owner_of
from leoronic.core.view import View
from leoronic.errors import DiskFull, LeoronicError, Refused, Unavailable
from leoronic.journal.reads import Reads
from leoronic.journal.rows import Uncopied
from leoronic.runtime.actor import NO_REPLY, Actor

TRANSFERS_MAX = 2
# While there was something to do lately it looks this often, else this seldom.
BUSY_S = 5.0
IDLE_S = 60.0
# Right after an end there are often more of them.
GATHER_S = 0.2
# So many of what nobody copied are looked at first; more only if none of them is for this node.
LOOK_MAX = 256
LOOK_FAR_MAX = 16_384
CHUNK_S = 30.0
APPEND_S = 60.0
RETRY_S_MIN = 5.0
RETRY_S_MAX = 3600.0
FAILED_MAX = 10_000
RESERVE_BYTES = 1024 * 1024 * 1024
RESERVE_SHARE = 0.05


Key = tuple[str, int, str, str]


class Source(NamedTuple):
    """A stream of a run of another node, of which there is no copy. `ref`: where it is there."""

    task: str
    attempt: int
    node: str
    stream: str
    size: int
    ended_at: float
    ref: StreamRef | None = None

    @property
    def key(self) -> Key:
        """(task, attempt, node, stream)."""
        return self[:4]


class OutputKeeper(Actor):
    """Keeps copies in `output_dir`."""

    def __init__(self, output_dir: Path, nodes: Nodes) -> None:
        self._output_dir = output_dir
        self._nodes = nodes
        self._look = asyncio.Event()
        self._failed: dict[Key, tuple[float, float]] = {}
        """By run and stream: when it may be tried again (by the loop's clock), and the pause."""
        self._token = 0
        self._appends: dict[int, asyncio.Future[None]] = {}

    async def started(self) -> None:
        """Remove what is half done, and begin."""
        self._journal = self.context.find("journal")
        self._questions = self.context.find("questions")
        await asyncio.to_thread(remove_parts, self._output_dir)
        self.context.spawn(self._run(), "keep")

    async def handle(self, message: Any) -> Any:
        """Hints to look, and the journal's answers."""
        match message:
            case View():
                self._nodes.see(message)
                self._look.set()
            case OutputEnded():
                self._look.set()
            case Appended(token=token) | AppendFailed(token=token):
                future = self._appends.pop(token, None)
                if future is not None and not future.done():
                    if isinstance(message, AppendFailed):
                        future.set_exception(message.error)
                    else:
                        future.set_result(None)
            case _:
                return await super().handle(message)
        return NO_REPLY

    # ---- looking ----

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        busy_until = loop.time() + IDLE_S
        while True:
            if await self._keep_some():
                busy_until = loop.time() + IDLE_S
            pause_s = BUSY_S if loop.time() < busy_until else IDLE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._look.wait()
            if self._look.is_set():
                await asyncio.sleep(GATHER_S)
                self._look.clear()

    async def _keep_some(self) -> bool:
        """Copy what can be copied now. Whether there was something to do."""
        any_kept = False
        at_once = asyncio.Semaphore(TRANSFERS_MAX)
        while True:
            try:
                sources = await self._find()
            except Unavailable:
                return True  # The journal is between two lives.
            if not sources:
                return any_kept
            # Each is kept by now, or put off: none is found again.
            done = await asyncio.gather(*(self._keep(source, at_once) for source in sources))
            any_kept = any_kept or any(done)

    def _wards(self) -> list[str]:
        """Ids of the nodes and ghosts that are there whose output this node is to keep."""
        alive, me = self._nodes.alive(), self._nodes.me
        found = []
        for node in alive:
            others = [one for one in alive if one != node]
            if node != me and owner_of(node, others) == me:
                found.append(node)
        ghosts = (ghost for ghost in self._nodes.view.ghosts.values() if ghost.alive)
        return [*found, *(ghost.id for ghost in ghosts if owner_of(ghost.id, alive) == me)]

    async def _find(self) -> list[Source]:
        """What this node is to copy and can try now, at most `LOOK_MAX`."""
        wards = self._wards()
        now = asyncio.get_running_loop().time()
        limit = LOOK_MAX if wards else 0
        while limit:

            def look(reads: Reads, limit: int = limit) -> tuple[list[Source], bool]:
                found = reads.outputs_to_keep(limit)
                mine = [one for one in found if one.node in wards and self._is_due(one, now)]
                sources = [_source(reads, one) for one in mine[:LOOK_MAX]]
                return sources, len(found) >= limit

            sources, more = await self._journal.call(look, timeout_s=30.0)
            if sources or not more:
                return list(sources)
            limit = 0 if limit >= LOOK_FAR_MAX else min(4 * limit, LOOK_FAR_MAX)
        return []

    def _is_due(self, one: Uncopied, now: float) -> bool:
        return self._failed.get(one[:4], (0.0, 0.0))[0] <= now

    # ---- copying ----

    async def _keep(self, source: Source, at_once: asyncio.Semaphore) -> bool:
        """Copy one stream. Whether there is a copy now; if not, it is tried again later."""
        async with at_once:
            try:
                await self._copy(source)
            except (LeoronicError, OSError) as error:
                self._put_off(source, error)
                return False
        self._failed.pop(source.key, None)
        return True

    def _put_off(self, source: Source, error: LeoronicError | OSError) -> None:
        _, pause_s = self._failed.pop(source.key, (0.0, RETRY_S_MIN / 2))
        # What is gone stays so.
        gone = isinstance(error, Refused) and not isinstance(error, DiskFull)
        pause_s = RETRY_S_MAX if gone else min(2 * pause_s, RETRY_S_MAX)
        while len(self._failed) >= FAILED_MAX:
            del self._failed[next(iter(self._failed))]
        self._failed[source.key] = (asyncio.get_running_loop().time() + pause_s, pause_s)
        self.context.log.info(
            "output not copied",
            task=source.task,
            attempt=source.attempt,
            peer=source.node,
            why=str(error),
            again_s=pause_s,
        )

    async def _copy(self, source: Source) -> None:
        name = copy_name(*source.key)
        if whole_file(self._output_dir, name).size != source.size:
            room = room_left(self._output_dir, RESERVE_BYTES, RESERVE_SHARE)
            if source.size > room:
                raise DiskFull(f"no room for {source.size} bytes in {self._output_dir}")
            copy = Copy(self._output_dir, name)
            try:
                await self._pull(source, copy)
                await asyncio.to_thread(copy.finish, min(source.ended_at, time.time()))
            finally:
                copy.close()
        kept = Kept(source.task, source.attempt, source.node, source.stream, source.size)
        await self._append(kept)

    async def _pull(self, source: Source, copy: Copy) -> None:
        while copy.size < source.size:
            limit = min(CHUNK_BYTES, source.size - copy.size)
            part = ReadPart(*source.key, copy.size, limit, ref=source.ref)
            answer = await ask(self._questions, source.node, part, CHUNK_S)
            if not answer.blob or len(answer.blob) > limit:
                raise Unavailable(
                    f"{self._nodes.name(source.node)} sent {copy.size} of {source.size} bytes"
                )
            await asyncio.to_thread(copy.write, answer.blob)

    async def _append(self, entry: Kept) -> None:
        self._token += 1
        token = self._token
        self._appends[token] = done = asyncio.get_running_loop().create_future()
        try:
            await self._journal.cast(Append(self.context.name, token, [entry]))
            async with asyncio.timeout(APPEND_S):
                await done
        except TimeoutError:
            raise Unavailable("the journal did not answer") from None
        finally:
            self._appends.pop(token, None)


def _source(reads: Reads, one: Uncopied) -> Source:
    """With what is known of how its run ended."""
    for run in reads.attempts(one.task):
        if (run.attempt, run.node) == (one.attempt, one.node) and run.ended_at is not None:
            ref = getattr(run.outcome, one.stream) if run.outcome is not None else None
            return Source(*one, run.ended_at, ref)
    return Source(*one, 0.0)
