"""The journal actor: group commit, and the answers that only the disk can give.

Entries that arrive while a commit is under way share the next one: no timer, so an idle node
commits at once and a busy one in big batches. Rows are written on the loop, in slices; only the
commit, which waits for the disk with the interpreter released, runs on a thread. (Writing rows on
a thread makes it fight for the interpreter at every row.)
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from leoronic.core.entries import Entry, Numbered, Submitted, encode
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.gates import search
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    CommandsMatched,
    Committed,
    FetchSpecs,
    Loaded,
    LoadLive,
    Lookup,
    MatchCommands,
    SpecsFetched,
)
from leoronic.core.run import AttemptKey
from leoronic.errors import DiskFull, LeoronicError
from leoronic.journal.database import (
    connect_reader,
    means_damage,
    open_database,
    suspect,
    trust,
)
from leoronic.journal.journal import Journal, as_disk_full
from leoronic.journal.reads import Reads
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import Call

SLICE_ENTRIES = 1000
SCAN_SLICE_S = 0.02
HOPS = 4
BATCH_ENTRIES_MAX = 100_000
# Submissions stop while there is still room for the outcomes of what runs.
RESERVE_BYTES = 16 * 1024 * 1024
RESERVE_BYTES_MIN = 256 * 1024
# With more than this, nobody counts what a submission takes.
PLENTY_BYTES = 1024 * 1024 * 1024
# A submission is written to the log, from there to the table of entries, and to that of tasks.
COPIES = 3


class Trim(NamedTuple):
    """Asked: forget up to `tasks_max` tasks that ended before `before`. Answer: how many."""

    before: float
    tasks_max: int


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


class _Scan:
    """A search through live commands, a slice for each message."""

    def __init__(self, sender: str, regex: str) -> None:
        self.sender = sender
        self.regex = regex
        self.after = 0
        self.found: list[str] = []


class JournalActor(Actor):
    """Owns the database `path`. `on_node` is told the node's id once it is open."""

    # What is open, by path: a life that crashed leaves its connection, maybe in mid-commit, and
    # two connections must never write at once.
    _open: ClassVar[dict[Path, _Handles]] = {}

    def __init__(self, path: Path, *, first_start: bool, on_node: Callable[[str], None]) -> None:
        self._path = path
        self._first_start = first_start
        self._on_node = on_node
        self._waiting: deque[Append] = deque()
        self._boundary: deque[LoadLive | LoadOpen | tuple[Trim, Call]] = deque()
        self._cycle: asyncio.Task[None] | None = None
        self._full = False
        self._room = 0

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
            case Append():
                self._waiting.append(message)
                self._wake()
            case Lookup(sender, token, refs):
                await self._tell(sender, self._reads.look_up(token, refs))
            case FetchSpecs(sender, tasks):
                await self._tell(sender, SpecsFetched(self._reads.specs(tasks)))
            case MatchCommands(sender, regex):
                self.context.send_now(_Scan(sender, regex))
            case _Scan():
                await self._scan(message)
            case LoadLive(sender) | LoadOpen(sender):
                # What an earlier life of the sender wanted is void: it was told so.
                self._waiting = deque(a for a in self._waiting if a.sender != sender)
                self._boundary.append(message)
                self._wake()
            case Trim():
                assert self.context.request is not None, "it is asked, not told"
                self._boundary.append((message, self.context.request))
                self._wake()
            case _:
                return message(self._reads)  # a question: `Ask`
        return NO_REPLY

    async def _tell(self, to: str, message: object) -> None:
        await self.context.find(to).cast(message)

    # ---- writing ----

    def _wake(self) -> None:
        if self._cycle is None or self._cycle.done():
            self._cycle = self.context.spawn(self._run(), "commits")

    async def _run(self) -> None:
        with self._watching():
            await self._work()

    async def _work(self) -> None:
        while self._waiting or self._boundary:
            if self._waiting:
                # An end frees room for a start: give that start the few hops it needs to get
                # here, so that both share one commit.
                for _ in range(HOPS):
                    await asyncio.sleep(0)
                await self._commit_waiting()
            # Between two commits what is on disk and what was told of it are the same.
            while self._boundary:
                await self._load(self._boundary.popleft())

    async def _commit_waiting(self) -> None:
        self._check_room()
        batch: list[tuple[Append, frozenset[AttemptKey]]] = []
        written: list[Numbered] = []
        try:
            while self._waiting and len(written) < BATCH_ENTRIES_MAX:
                append = self._waiting.popleft()
                batch.append((append, frozenset()))
                if isinstance(append.entries[0], Submitted) and not self._takes(append):
                    batch.pop()
                    await self._fail(append, _disk_full(self._path))
                    continue
                refused = await self._write(append.entries, written)
                batch[-1] = (append, refused)
            if not batch:
                return  # all were refused for want of room
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.commit)
        except (DiskFull, sqlite3.OperationalError) as error:
            self._journal.rollback()
            failure = as_disk_full(error) if isinstance(error, sqlite3.OperationalError) else error
            if not isinstance(failure, LeoronicError):
                raise
            self._note_full(True)
            for append, _ in batch:
                await self._fail(append, failure)
            return
        await self._publish(batch, written)

    async def _write(self, entries: list[Entry], written: list[Numbered]) -> frozenset[AttemptKey]:
        """Write one append in slices, so that the loop goes on meanwhile."""
        refused: frozenset[AttemptKey] = frozenset()
        remaining = iter(entries)
        while part := list(islice(remaining, SLICE_ENTRIES)):
            result = self._journal.write(part)
            written += result.entries
            refused |= result.refused
            if len(part) == SLICE_ENTRIES:
                await asyncio.sleep(0)
        return refused

    async def _publish(
        self, batch: list[tuple[Append, frozenset[AttemptKey]]], written: list[Numbered]
    ) -> None:
        queue = self.context.find("queue")
        for start in range(0, len(written), SLICE_ENTRIES):
            await queue.cast(Committed(written[start : start + SLICE_ENTRIES]))
        for append, refused in batch:
            specs = {}
            if append.want_specs:
                for entry in append.entries:
                    task = entry.task  # type: ignore[union-attr]
                    spec = self._reads.spec(task)
                    assert spec is not None, f"no spec of {task}"
                    specs[task] = spec
            await self._tell(append.sender, Appended(append.token, refused, specs))

    async def _fail(self, append: Append, error: LeoronicError) -> None:
        await self._tell(append.sender, AppendFailed(append.token, error))

    def _check_room(self) -> None:
        """See how much submissions may take: what they leave is for the outcomes of what runs.

        What is in the write-ahead log takes as much again when it is moved to the database.
        """
        usage = os.statvfs(self._path.parent)
        total = usage.f_blocks * usage.f_frsize
        reserve = max(min(RESERVE_BYTES, total // 20), RESERVE_BYTES_MIN)
        log = self._path.with_name(self._path.name + "-wal").stat().st_size
        self._room = usage.f_bavail * usage.f_frsize - reserve - log
        self._note_full(self._room < 0)

    def _takes(self, append: Append) -> bool:
        """Whether there is room for a submission; if so, it is taken."""
        if self._full or self._room > PLENTY_BYTES:
            return not self._full
        size = COPIES * sum(len(encode(entry)) for entry in append.entries)
        if size > self._room:
            return False
        self._room -= size
        return True

    def _note_full(self, full: bool) -> None:
        if full != self._full:
            self._full = full
            if full:
                self.context.log.error("disk full", path=str(self._path.parent))
            else:
                self.context.log.info("room on the disk again")

    # ---- reading ----

    async def _scan(self, scan: _Scan) -> None:
        rows = self._reads.commands(scan.after, SLICE_ENTRIES)
        if rows:
            loop = asyncio.get_running_loop()
            until = loop.time() + SCAN_SLICE_S
            for order, task, spec in rows:
                if search(scan.regex, spec):
                    scan.found.append(task)
                scan.after = order
                if loop.time() > until:
                    break  # long commands: the rest of the rows is read again
            self.context.send_now(scan)
        else:
            await self._tell(scan.sender, CommandsMatched(scan.regex, scan.found))

    async def _load(self, message: LoadLive | LoadOpen | tuple[Trim, Call]) -> None:
        node = self._journal.node
        if isinstance(message, tuple):
            await self._trim(*message)
            return
        if isinstance(message, LoadOpen):
            attempts = self._reads.open_attempts(node)
            answer = Open(attempts, self._reads.tags(node), message.life)
            await self._tell(message.sender, answer)
            return
        live = self._reads.live()
        while part := list(islice(live, SLICE_ENTRIES)):
            await self._tell(message.sender, Loaded(part, life=message.life))
            await asyncio.sleep(0)
        trust(self._path)
        await self._tell(
            message.sender,
            Loaded(
                [],
                last=True,
                node=node,
                number=self._journal.number,
                finals=self._reads.ended(),
                life=message.life,
            ),
        )

    async def _trim(self, trim: Trim, request: Call) -> None:
        try:
            count = self._journal.trim(trim.before, trim.tasks_max)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.commit)
        except (DiskFull, sqlite3.OperationalError) as error:
            # Forgetting takes room as well, until the log is moved to the database.
            self._journal.rollback()
            failure = as_disk_full(error) if isinstance(error, sqlite3.OperationalError) else error
            if not isinstance(failure, LeoronicError):
                raise
            self.context.fail(request, failure)
            return
        self.context.reply(request, count)


Ask = Callable[[Reads], Any]
"""A question to the disk, as a call: a function of `Reads`; its result is the answer."""


def _disk_full(path: Path) -> DiskFull:
    return DiskFull(f"no room for new tasks: make room on the disk of {path.parent}")
