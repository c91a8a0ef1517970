"""The journal actor: group commit, and the answers that only the disk can give.

Entries that arrive while a commit is under way share the next one: no timer, so an idle node
commits at once and a busy one in big batches. (What a busy node takes from others waits for its own
next commit, if that comes soon and nobody waits for it.) Rows are written on the loop, in slices;
only the commit, which waits for the disk with the interpreter released, runs on a thread. (Writing
rows on a thread makes it fight for the interpreter at every row.)
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from leoronic.actors.journal_arrivals import Arrivals, Hurry, Overdue
from leoronic.actors.journal_commit import Commit
from leoronic.actors.journal_reading import Reading
from leoronic.actors.room import Room
from leoronic.core.executor_messages import LoadOpen
from leoronic.core.queue_messages import Append, LoadLive
from leoronic.core.replication_messages import LoadVector, Take
from leoronic.errors import DiskFull
from leoronic.journal.database import connect_reader, means_damage, open_database, suspect
from leoronic.journal.journal import Journal, as_disk_full
from leoronic.journal.reads import Reads
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import Call

HOPS = 4
BATCH_ENTRIES_MAX = 100_000


class Trim(NamedTuple):
    """Asked: forget up to `tasks_max` tasks that ended before `before`. Answer: how many.

    `stable` is the version vector that all nodes hold; with None nothing may be forgotten.
    """

    before: float
    tasks_max: int
    stable: dict[str, int] | None


class _Handles(NamedTuple):
    """What one life of the actor has open."""

    journal: Journal
    reader: sqlite3.Connection
    thread: ThreadPoolExecutor

    def close(self) -> None:
        """Wait for a commit under way, and close. What was not committed is forgotten."""
        self.thread.shutdown()
        self.journal.rollback()
        self.reader.close()
        self.journal.connection.close()


class JournalActor(Actor):
    """Owns the database `path`. `on_node` is told the node's id once it is open."""

    # What is open, by path: a life that crashed leaves its connection, maybe in mid-commit, and
    # two connections must never write at once.
    _open: ClassVar[dict[Path, _Handles]] = {}

    def __init__(self, path: Path, *, first_start: bool, on_node: Callable[[str], None]) -> None:
        self._path = path
        self._first_start = first_start
        self._on_node = on_node
        self._boundary: deque[LoadLive | LoadOpen | LoadVector | tuple[Trim, Call]] = deque()
        self._cycle: asyncio.Task[None] | None = None

    async def started(self) -> None:
        """Open the database; a damaged one is set aside, and that is told."""
        left = self._open.pop(self._path, None)
        if left is not None:
            await asyncio.to_thread(left.close)
        opened = open_database(self._path, first_start=self._first_start)
        if opened.story:
            self.context.log.error("database replaced", why=opened.story, node=opened.node)
            sys.stderr.flush()
        self._first_start = False
        self._journal = Journal(opened.connection, opened.node)
        self._reader = connect_reader(self._path)
        self._reads = Reads(self._reader)
        self._thread = ThreadPoolExecutor(1, "journal")
        self._room = Room(self._path, self.context.log)
        self._reading = Reading(self.context, self._path, self._journal, self._reads)
        self._arrivals = Arrivals(self.context, self._journal.knows)
        self._open[self._path] = _Handles(self._journal, self._reader, self._thread)
        self._on_node(opened.node)

    async def stopping(self) -> None:
        """Finish what is being written, then close."""
        while self._cycle is not None and not self._cycle.done():
            await asyncio.wait([self._cycle])
        self._open.pop(self._path).close()

    async def handle(self, message: Any) -> Any:
        """Take appends, and answer what is asked of the disk."""
        with self._watching():
            return await self._handle(message)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """A database that fails as it should not is checked whole when it is opened again."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError) or means_damage(error):
                suspect(self._path)
            raise

    async def _handle(self, message: Any) -> Any:
        match message:
            case Append() | Take():
                self._arrivals.add(message)
                self._wake()
            case Hurry():
                self._arrivals.hurry()
                self._wake()
            case Overdue(append):
                self._arrivals.overdue(append)
                self._wake()
            case LoadLive() | LoadOpen() | LoadVector():
                if not (isinstance(message, LoadOpen) and message.node):
                    self._arrivals.drop(message.sender)
                self._boundary.append(message)
                self._wake()
            case Trim():
                assert self.context.request is not None, "it is asked, not told"
                self._boundary.append((message, self.context.request))
                self._wake()
            case _:
                return await self._reading.answer(message)
        return NO_REPLY

    # ---- writing ----

    def _has_work(self) -> bool:
        return bool(self._boundary) or self._arrivals.are_due

    def _wake(self) -> None:
        if not self._has_work():
            return
        if self._cycle is None or self._cycle.done():
            self._cycle = self.context.spawn(self._run(), "commits")

    async def _run(self) -> None:
        with self._watching():
            await self._work()

    async def _work(self) -> None:
        while self._has_work():
            if len(self._arrivals):
                # An end frees room for a start: give that start the few hops it needs to get
                # here, so that both share one commit.
                for _ in range(HOPS):
                    await asyncio.sleep(0)
                await self._commit_waiting()
            # Between two commits what is on disk and what was told of it are the same.
            while self._boundary:
                message = self._boundary.popleft()
                if isinstance(message, tuple):
                    await self._trim(*message)
                else:
                    await self._reading.load(message)

    async def _commit_waiting(self) -> None:
        self._room.check()
        made = Commit(self.context, self._path, self._journal, self._reads, self._room)
        try:
            await self._fill(made)
            if self._journal.connection.in_transaction:
                await self._commit()
        except DiskFull as error:
            await made.fail(error)
            return
        await made.publish()
        if made.has_taken:
            self._arrivals.let_in()

    async def _fill(self, made: Commit) -> None:
        """Write what waits, in order of arrival, up to a bounded amount."""
        with self._writes():
            while made.count < BATCH_ENTRIES_MAX:
                message = self._arrivals.next()
                if message is None:
                    break
                if isinstance(message, Take):
                    await made.take(message)
                else:
                    await made.append(message)

    async def _commit(self) -> None:
        with self._writes():
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._journal.commit)
            self._arrivals.note_commit()

    @contextmanager
    def _writes(self) -> Iterator[None]:
        """Whatever goes wrong, the open transaction is forgotten; a full disk is a `DiskFull`."""
        try:
            yield
        except (DiskFull, sqlite3.OperationalError) as error:
            self._journal.rollback()
            failure = as_disk_full(error) if isinstance(error, sqlite3.OperationalError) else error
            if not isinstance(failure, DiskFull):
                raise
            self._room.note_full(True)
            raise failure from error

    async def _trim(self, trim: Trim, request: Call) -> None:
        try:
            with self._writes():
                count = self._journal.trim(trim.before, trim.tasks_max, trim.stable)
            await self._commit()
        except DiskFull as error:
            # Forgetting takes room as well, until the log is moved to the database.
            self.context.fail(request, error)
            return
        self.context.reply(request, count)
