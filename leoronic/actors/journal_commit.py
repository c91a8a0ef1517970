"""What one commit of the journal brings, and who is told of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from leoronic.actors.keeper_messages import OutputEnded
from leoronic.actors.room import Room
from leoronic.actors.telling import tell
from leoronic.core.entries import Finished, Numbered, Started, Submitted
from leoronic.core.file_effects import NewNeeds
from leoronic.core.queue_messages import Append, Appended, AppendFailed, Committed, Flip
from leoronic.core.replication_messages import Body, Take, TakeFailed, Taken, Written
from leoronic.core.run import AttemptKey
from leoronic.core.spec import TaskSpec
from leoronic.errors import DiskFull, LeoronicError, ProtocolError, Unavailable
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads
from leoronic.runtime.actor import ActorContext

SLICE_ENTRIES = 1000


class _Done(NamedTuple):
    """An append of the commit, and what is to be told of it: see `Appended`."""

    append: Append
    refused: frozenset[AttemptKey] = frozenset()
    unknown: frozenset[AttemptKey] = frozenset()
    number: int = 0


class Commit:
    """Written with `append` and `take`; once that is on the disk, `publish`, else `fail`.

    For the actor of `context`, which owns `journal`, in the file `path`. `count`: entries so far.
    """

    def __init__(
        self, context: ActorContext, path: Path, journal: Journal, reads: Reads, room: Room
    ) -> None:
        self.count = 0
        self._context = context
        self._path = path
        self._journal = journal
        self._reads = reads
        self._room = room
        self._appends: list[_Done] = []
        self._takes: list[tuple[Take, dict[str, int], str]] = []
        self._entries: list[Numbered] = []
        self._bodies: list[Body] = []
        self._orders: dict[str, int] = {}
        self._flips: list[Flip] = []
        self._have: dict[str, int] = {}

    @property
    def has_taken(self) -> bool:
        """Whether anything of other nodes is in it."""
        return bool(self._takes)

    async def append(self, append: Append) -> None:
        """Write one append in slices, so that the loop goes on meanwhile."""
        if isinstance(append.entries[0], Submitted) and not self._room.takes(append.entries):
            await self._tell_failed(append, _disk_full(self._path))
            return
        self._appends.append(_Done(append))
        refused: frozenset[AttemptKey] = frozenset()
        unknown: frozenset[AttemptKey] = frozenset()
        self.count += len(append.entries)
        before = self._journal.number
        remaining = iter(append.entries)
        while part := list(islice(remaining, SLICE_ENTRIES)):
            result = self._journal.write(part)
            self._entries += result.entries
            self._orders |= result.orders
            self._flips += result.flips
            refused |= result.refused
            unknown |= result.unknown
            if self._context.get("replication") is not None:
                self._bodies += result.bodies
            if len(part) == SLICE_ENTRIES:
                await asyncio.sleep(0)
        number = self._journal.number
        if number > before:
            self._have[self._journal.node] = number
        self._appends[-1] = _Done(append, refused | unknown, unknown, number)

    async def take(self, take: Take) -> None:
        """Write what others wrote, in slices; what comes before a fault in it is taken."""
        if not self._room.has(sum(len(body.text) for body in take.bodies)):
            error = DiskFull(f"no room for what others wrote: {self._path.parent}")
            await tell(self._context, "replication", TakeFailed(take.token, error))
            return
        have: dict[str, int] = {}
        refused = ""
        self._takes.append((take, have, refused))
        self.count += 1 + len(take.bodies)
        slices = range(0, len(take.bodies), SLICE_ENTRIES) or range(1)
        for start in slices:
            end = start + SLICE_ENTRIES
            last = end >= len(take.bodies)
            try:
                taken = self._journal.take(
                    take.bodies[start:end], take.floor, take.have if last else {}
                )
            except ProtocolError as error:
                refused = error.message
                if start == 0:
                    self._takes.pop()
                    await tell(self._context, "replication", TakeFailed(take.token, error))
                    return
                break
            self._entries += taken.entries
            self._orders |= taken.orders
            self._flips += taken.flips
            have |= taken.have
            refused = taken.refused
            if refused:
                break
            if not last:
                await asyncio.sleep(0)
        self._takes[-1] = (take, have, refused)
        self._have |= have

    async def publish(self) -> None:
        """It is on the disk: tell everybody."""
        # What was taken is told before what was written: it may have caused it, and whoever gets
        # the one must have the other.
        for take, have, why in self._takes:
            await tell(self._context, "replication", Taken(take.token, have, why))
        replication = self._context.get("replication")
        if replication is not None:
            for start in range(0, len(self._bodies), SLICE_ENTRIES):
                await replication.cast(Written(self._bodies[start : start + SLICE_ENTRIES]))
        queue = self._context.find("queue")
        # With nothing to tell but flips and numbers there is one message all the same.
        more = bool(self._flips or self._have)
        for start in range(0, max(len(self._entries), more), SLICE_ENTRIES):
            part = self._entries[start : start + SLICE_ENTRIES]
            orders = {
                n.entry.task: self._orders[n.entry.task]
                for n in part
                if isinstance(n.entry, Submitted)
            }
            last = start + SLICE_ENTRIES >= len(self._entries)
            flips, have = (self._flips, self._have) if last else ([], {})
            await queue.cast(Committed(part, orders, flips, have))
        keeper = self._context.get("keeper")
        if keeper is not None and any(self._is_large_elsewhere(n) for n in self._entries):
            with suppress(Unavailable):  # a hint: it looks by itself now and then
                keeper.cast_nowait(OutputEnded())
        await self._tell_files()
        for append, refused, unknown, number in self._appends:
            specs = self._specs_for(append, refused) if append.want_specs else {}
            answer = Appended(append.token, refused, specs, number, unknown)
            await tell(self._context, append.sender, answer)

    async def _tell_files(self) -> None:
        """Tell the file store which blobs these entries refer to."""
        store = self._context.get("file_store")
        digests = tuple(_digests(self._entries))
        if store is not None and digests:
            with suppress(Unavailable):  # it asks for all when it begins anew
                store.cast_nowait(NewNeeds(digests))

    def _is_large_elsewhere(self, numbered: Numbered) -> bool:
        """Whether a run ended on another node whose output did not fit into its outcome."""
        entry = numbered.entry
        if not isinstance(entry, Finished) or numbered.origin == self._journal.node:
            return False
        return bool(entry.outcome.stdout.file or entry.outcome.stderr.file)

    def _specs_for(self, append: Append, refused: frozenset[AttemptKey]) -> dict[str, TaskSpec]:
        tasks = [entry.task for entry in append.entries if isinstance(entry, Started)]
        specs = self._reads.specs(tasks)
        missing = set(tasks) - set(specs) - {task for task, _ in refused}
        assert not missing, f"no spec of {sorted(missing)}"
        return specs

    async def _tell_failed(self, append: Append, error: LeoronicError) -> None:
        await tell(self._context, append.sender, AppendFailed(append.token, error))

    async def fail(self, error: DiskFull) -> None:
        """None of it is on the disk: tell those who wanted it."""
        for append, *_ in self._appends:
            await self._tell_failed(append, error)
        for take, _, _ in self._takes:
            await tell(self._context, "replication", TakeFailed(take.token, error))


def _digests(entries: list[Numbered]) -> dict[str, None]:
    found: dict[str, None] = {}
    for numbered in entries:
        entry = numbered.entry
        if type(entry) is Submitted and entry.spec.files:
            found |= {file.digest: None for file in entry.spec.files if file.digest}
        elif type(entry) is Finished and entry.outcome.outputs:
            found |= {file.digest: None for file in entry.outcome.outputs}
    return found


def _disk_full(path: Path) -> DiskFull:
    return DiskFull(f"no room for new tasks: make room on the disk of {path.parent}")
