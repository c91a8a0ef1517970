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
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from leoronic.actors.keeper_messages import OutputEnded
from leoronic.actors.room import Room
from leoronic.core.entries import Finished, Numbered, Started, Submitted
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.gates import search
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    CommandsMatched,
    Committed,
    FetchSpecs,
    Flip,
    Loaded,
    LoadLive,
    Lookup,
    MatchCommands,
    SpecsFetched,
)
from leoronic.core.replication_messages import (
    Body,
    LoadVector,
    PageRead,
    ReadPage,
    Take,
    TakeFailed,
    Taken,
    VectorLoaded,
    Written,
)
from leoronic.core.run import AttemptKey
from leoronic.core.spec import TaskSpec
from leoronic.errors import DiskFull, LeoronicError, ProtocolError, Unavailable
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
# A start whose task is not here yet: the task is on its way, or nobody has it.
UNKNOWN_S = 1.0
KEPT_BACK_MAX = 1024
# So soon after a commit there is another, most likely: for it waits, so long, what is patient.
BUSY_S = 0.01
PATIENCE_S = 0.004
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


class _Scan:
    """A search through live commands, a slice for each message."""

    def __init__(self, sender: str, regex: str) -> None:
        self.sender = sender
        self.regex = regex
        self.after = 0
        self.found: list[str] = []


class _Overdue(NamedTuple):
    """An append was kept back long enough."""

    append: Append


class _Hurry:
    """What was patient has waited long enough."""


class _Done(NamedTuple):
    """An append of the cycle, and what is to be told of it: see `Appended`."""

    append: Append
    refused: frozenset[AttemptKey] = frozenset()
    unknown: frozenset[AttemptKey] = frozenset()
    number: int = 0


class _Cycle:
    """What one commit brings, and who is to be told."""

    def __init__(self) -> None:
        self.appends: list[_Done] = []
        self.takes: list[tuple[Take, dict[str, int], str]] = []
        self.entries: list[Numbered] = []
        self.bodies: list[Body] = []
        self.orders: dict[str, int] = {}
        self.flips: list[Flip] = []
        self.have: dict[str, int] = {}
        self.count = 0


class JournalActor(Actor):
    """Owns the database `path`. `on_node` is told the node's id once it is open."""

    # What is open, by path: a life that crashed leaves its connection, maybe in mid-commit, and
    # two connections must never write at once.
    _open: ClassVar[dict[Path, _Handles]] = {}

    def __init__(self, path: Path, *, first_start: bool, on_node: Callable[[str], None]) -> None:
        self._path = path
        self._first_start = first_start
        self._on_node = on_node
        self._waiting: deque[Append | Take] = deque()
        self._kept_back: list[Append] = []
        self._late: dict[int, bool] = {}  # of appends kept back, by id(): whether long enough
        self._boundary: deque[LoadLive | LoadOpen | LoadVector | tuple[Trim, Call]] = deque()
        self._cycle: asyncio.Task[None] | None = None
        self._committed_at = 0.0  # by the loop's clock
        self._patient_until = 0.0

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
                self._waiting.append(message)
                if isinstance(message, Take) and message.patient:
                    self._be_patient()
                self._wake()
            case _Hurry():
                self._patient_until = 0.0
                self._wake()
            case _Overdue(append):
                if id(append) in self._late:
                    self._late[id(append)] = True
                    self._let_in()
            case LoadLive() | LoadOpen() | LoadVector():
                self._drop(message.sender)
                self._boundary.append(message)
                self._wake()
            case Trim():
                assert self.context.request is not None, "it is asked, not told"
                self._boundary.append((message, self.context.request))
                self._wake()
            case _:
                return await self._read(message)
        return NO_REPLY

    async def _read(self, message: Any) -> Any:
        """Answer what is asked of what is committed."""
        match message:
            case ReadPage(token, have, after, bytes_max):
                page = self._reads.entries(have, after, bytes_max)
                await self._tell("replication", PageRead(token, *page))
            case Lookup(sender, token, refs):
                await self._tell(sender, self._reads.look_up(token, refs))
            case FetchSpecs(sender, tasks):
                await self._tell(sender, SpecsFetched(self._reads.specs(tasks)))
            case MatchCommands(sender, regex):
                self.context.send_now(_Scan(sender, regex))
            case _Scan():
                await self._scan(message)
            case _:
                return message(self._reads)  # a question: `Ask`
        return NO_REPLY

    def _drop(self, sender: str) -> None:
        """What an earlier life of the sender wanted is void: it was told so."""
        appends = [a for a in (*self._waiting, *self._kept_back) if isinstance(a, Append)]
        for append in [a for a in appends if a.sender == sender]:
            self._late.pop(id(append), None)
        self._waiting = deque(a for a in self._waiting if isinstance(a, Take) or a.sender != sender)
        self._kept_back = [a for a in self._kept_back if a.sender != sender]

    async def _tell(self, to: str, message: object) -> None:
        """Told to an actor of this node, which may not have one of that name."""
        ref = self.context.get(to)
        if ref is not None:
            await ref.cast(message)

    # ---- writing ----

    def _be_patient(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._committed_at + BUSY_S:
            self._patient_until = now + PATIENCE_S
            self.context.send_after(PATIENCE_S, _Hurry())

    def _has_work(self) -> bool:
        if len(self._waiting) != 1 or self._boundary:
            return bool(self._waiting or self._boundary)
        [message] = self._waiting
        patient = isinstance(message, Take) and message.patient
        return not patient or asyncio.get_running_loop().time() >= self._patient_until

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
        self._room.check()
        cycle = _Cycle()
        try:
            await self._fill(cycle)
            if self._journal.connection.in_transaction:
                await self._commit()
        except DiskFull as error:
            for append, *_ in cycle.appends:
                await self._fail(append, error)
            for take, _, _ in cycle.takes:
                await self._tell("replication", TakeFailed(take.token, error))
            return
        await self._publish(cycle)
        if cycle.takes:
            self._let_in()

    async def _fill(self, cycle: _Cycle) -> None:
        """Write what waits, in order of arrival, up to a bounded amount."""
        with self._writes():
            while self._waiting and cycle.count < BATCH_ENTRIES_MAX:
                message = self._waiting.popleft()
                if isinstance(message, Take):
                    await self._take(message, cycle)
                elif not self._keep_back(message):
                    await self._append(message, cycle)

    async def _commit(self) -> None:
        with self._writes():
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._journal.commit)
            self._committed_at = loop.time()

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

    async def _append(self, append: Append, cycle: _Cycle) -> None:
        """Write one append in slices, so that the loop goes on meanwhile."""
        if isinstance(append.entries[0], Submitted) and not self._room.takes(append.entries):
            await self._fail(append, _disk_full(self._path))
            return
        cycle.appends.append(_Done(append))
        refused: frozenset[AttemptKey] = frozenset()
        unknown: frozenset[AttemptKey] = frozenset()
        cycle.count += len(append.entries)
        before = self._journal.number
        remaining = iter(append.entries)
        while part := list(islice(remaining, SLICE_ENTRIES)):
            result = self._journal.write(part)
            cycle.entries += result.entries
            cycle.orders |= result.orders
            cycle.flips += result.flips
            refused |= result.refused
            unknown |= result.unknown
            if self.context.get("replication") is not None:
                cycle.bodies += result.bodies
            if len(part) == SLICE_ENTRIES:
                await asyncio.sleep(0)
        number = self._journal.number
        if number > before:
            cycle.have[self._journal.node] = number
        cycle.appends[-1] = _Done(append, refused | unknown, unknown, number)

    def _keep_back(self, append: Append) -> bool:
        """Whether it has to wait for a task that is not here yet."""
        late = self._late.get(id(append))
        known = late or all(
            self._journal.knows(entry.task)
            for entry in append.entries
            if isinstance(entry, Started)
        )
        if known or (late is None and len(self._late) >= KEPT_BACK_MAX):
            self._late.pop(id(append), None)
            return False
        if late is None:
            self._late[id(append)] = False
            self.context.send_after(UNKNOWN_S, _Overdue(append))
        self._kept_back.append(append)
        return True

    def _let_in(self) -> None:
        """Try again what was kept back; it goes first, as it came first."""
        if self._kept_back:
            self._waiting.extendleft(reversed(self._kept_back))
            self._kept_back = []
            self._wake()

    async def _take(self, take: Take, cycle: _Cycle) -> None:
        """Write what others wrote, in slices; what comes before a fault in it is taken."""
        if not self._room.has(sum(len(body.text) for body in take.bodies)):
            error = DiskFull(f"no room for what others wrote: {self._path.parent}")
            await self._tell("replication", TakeFailed(take.token, error))
            return
        have: dict[str, int] = {}
        refused = ""
        cycle.takes.append((take, have, refused))
        cycle.count += 1 + len(take.bodies)
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
                    cycle.takes.pop()
                    await self._tell("replication", TakeFailed(take.token, error))
                    return
                break
            cycle.entries += taken.entries
            cycle.orders |= taken.orders
            cycle.flips += taken.flips
            have |= taken.have
            refused = taken.refused
            if refused:
                break
            if not last:
                await asyncio.sleep(0)
        cycle.takes[-1] = (take, have, refused)
        cycle.have |= have

    async def _publish(self, cycle: _Cycle) -> None:
        # What was taken is told before what was written: it may have caused it, and whoever gets
        # the one must have the other.
        for take, have, why in cycle.takes:
            await self._tell("replication", Taken(take.token, have, why))
        replication = self.context.get("replication")
        if replication is not None:
            for start in range(0, len(cycle.bodies), SLICE_ENTRIES):
                await replication.cast(Written(cycle.bodies[start : start + SLICE_ENTRIES]))
        queue = self.context.find("queue")
        # With nothing to tell but flips and numbers there is one message all the same.
        more = bool(cycle.flips or cycle.have)
        for start in range(0, max(len(cycle.entries), more), SLICE_ENTRIES):
            part = cycle.entries[start : start + SLICE_ENTRIES]
            orders = {
                n.entry.task: cycle.orders[n.entry.task]
                for n in part
                if isinstance(n.entry, Submitted)
            }
            last = start + SLICE_ENTRIES >= len(cycle.entries)
            flips, have = (cycle.flips, cycle.have) if last else ([], {})
            await queue.cast(Committed(part, orders, flips, have))
        keeper = self.context.get("keeper")
        if keeper is not None and any(self._is_large_elsewhere(n) for n in cycle.entries):
            with suppress(Unavailable):  # a hint: it looks by itself now and then
                keeper.cast_nowait(OutputEnded())
        for append, refused, unknown, number in cycle.appends:
            specs = self._specs_for(append, refused) if append.want_specs else {}
            answer = Appended(append.token, refused, specs, number, unknown)
            await self._tell(append.sender, answer)

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

    async def _fail(self, append: Append, error: LeoronicError) -> None:
        await self._tell(append.sender, AppendFailed(append.token, error))

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

    async def _load(self, message: LoadLive | LoadOpen | LoadVector | tuple[Trim, Call]) -> None:
        node = self._journal.node
        if isinstance(message, LoadVector):
            have, floor = self._reads.vectors()
            await self._tell(message.sender, VectorLoaded(node, have, floor, message.life))
            return
        if isinstance(message, tuple):
            await self._trim(*message)
            return
        if isinstance(message, LoadOpen):
            attempts = self._reads.open_attempts(node)
            tags = self._reads.tags(node)
            answer = Open(attempts, tags, message.life, self._journal.number)
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
                have=self._journal.vector(),
            ),
        )

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


Ask = Callable[[Reads], Any]
"""A question to the disk, as a call: a function of `Reads`; its result is the answer."""


def _disk_full(path: Path) -> DiskFull:
    return DiskFull(f"no room for new tasks: make room on the disk of {path.parent}")
