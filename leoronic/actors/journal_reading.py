"""What the journal answers: only the disk has it, all of it committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from leoronic.actors.telling import tell
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.file_effects import LookNeeded, NeededTold
from leoronic.core.gates import search
from leoronic.core.queue_messages import (
    CommandsMatched,
    FetchSpecs,
    Loaded,
    LoadLive,
    Lookup,
    MatchCommands,
    SpecsFetched,
)
from leoronic.core.replication_messages import LoadVector, PageRead, ReadPage, VectorLoaded
from leoronic.journal.database import trust
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads
from leoronic.runtime.actor import NO_REPLY, ActorContext

SLICE_ROWS = 1000
SCAN_SLICE_S = 0.02

Ask = Callable[[Reads], Any]
"""A question to the disk, as a call: a function of `Reads`; its result is the answer."""


class _Scan:
    """A search through live commands, a slice for each message."""

    def __init__(self, sender: str, regex: str) -> None:
        self.sender = sender
        self.regex = regex
        self.after = 0
        self.found: list[str] = []


class Reading:
    """For the actor of `context`, which owns `journal`, in the file `path`."""

    def __init__(self, context: ActorContext, path: Path, journal: Journal, reads: Reads) -> None:
        self._context = context
        self._path = path
        self._journal = journal
        self._reads = reads

    async def answer(self, message: Any) -> Any:
        """Answer what is asked of what is committed."""
        match message:
            case ReadPage(token, have, after, bytes_max):
                page = self._reads.entries(have, after, bytes_max)
                await tell(self._context, "replication", PageRead(token, *page))
            case Lookup(sender, token, refs, keys, left):
                await tell(self._context, sender, self._reads.look_up(token, refs, keys, left))
            case LookNeeded(sender, after, limit):
                found = tuple(self._reads.needed_page(after, limit))
                last = len(found) < limit
                await tell(self._context, sender, NeededTold(after, found, last))
            case FetchSpecs(sender, tasks):
                await tell(self._context, sender, SpecsFetched(self._reads.specs(tasks)))
            case MatchCommands(sender, regex):
                self._context.send_now(_Scan(sender, regex))
            case _Scan():
                await self._scan(message)
            case _:
                return message(self._reads)  # a question: `Ask`
        return NO_REPLY

    async def _scan(self, scan: _Scan) -> None:
        rows = self._reads.commands(scan.after, SLICE_ROWS)
        if rows:
            loop = asyncio.get_running_loop()
            until = loop.time() + SCAN_SLICE_S
            for order, task, spec in rows:
                if search(scan.regex, spec):
                    scan.found.append(task)
                scan.after = order
                if loop.time() > until:
                    break  # long commands: the rest of the rows is read again
            self._context.send_now(scan)
        else:
            await tell(self._context, scan.sender, CommandsMatched(scan.regex, scan.found))

    async def load(self, message: LoadLive | LoadOpen | LoadVector) -> None:
        """Answer, between two commits, whoever starts and builds on what is committed."""
        node = self._journal.node
        if isinstance(message, LoadVector):
            have, floor = self._reads.vectors()
            await tell(self._context, message.sender, VectorLoaded(node, have, floor, message.life))
            return
        if isinstance(message, LoadOpen):
            of = message.node or node
            attempts = self._reads.open_attempts(of)
            answer = Open(attempts, self._reads.tags(of), message.life, self._journal.number)
            await tell(self._context, message.sender, answer)
            return
        live = self._reads.live()
        while part := list(islice(live, SLICE_ROWS)):
            await tell(self._context, message.sender, Loaded(part, life=message.life))
            await asyncio.sleep(0)
        trust(self._path)
        await tell(
            self._context,
            message.sender,
            Loaded(
                [],
                last=True,
                node=node,
                number=self._journal.number,
                finals=self._reads.ended(),
                life=message.life,
                have=self._journal.vector(),
            ),
        )
