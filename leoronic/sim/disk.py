"""The journal's host: the real journal code on a real SQLite in memory, and a disk that fails.

It does what `actors/journal.py` does: group commit, `Committed` to the queue before `Appended` to
the sender, loads only between two commits, questions answered from what is committed. What is
written becomes visible and durable together, at one moment of the commit.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from itertools import islice

from leoronic.core.entries import Numbered, Submitted
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
from leoronic.errors import DiskFull
from leoronic.journal.database import create
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads
from leoronic.sim.hosts import Mailbox, Node

# Small, so that small worlds need several.
SLICE_ENTRIES = 16

_Batch = list[tuple[Append, frozenset[AttemptKey]]]


class Disk:
    """What outlives the core: the database. `commit_s` is the most a commit takes.

    `full`: 0, 1 (kept free for outcomes: submissions are refused) or 2 (nothing can be written).
    Without `fsync` a power loss takes back what was committed since the last accidental sync.
    """

    def __init__(self, node_id: str, *, fsync: bool = True) -> None:
        self.node_id = node_id
        self.fsync = fsync
        self.full = 0
        self.commit_s = 0.001
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        create(self._connection, node_id)
        self._synced = b""
        if not fsync:
            self.sync()

    def open(self) -> tuple[Journal, Reads]:
        """The database, as a core that starts finds it."""
        journal = Journal(self._connection, self.node_id)
        return journal, Reads(self._connection)

    def sync(self) -> None:
        """What was committed is on the platter now."""
        self._synced = self._connection.serialize()

    def lose_power(self) -> None:
        """Only what was synced is still there."""
        if not self.fsync:
            self._connection.deserialize(self._synced)

    def close(self) -> None:
        """The end of this world."""
        self._connection.close()


class _Scan:
    def __init__(self, message: MatchCommands) -> None:
        self.message = message
        self.after = 0
        self.found: list[str] = []


class JournalHost(Mailbox):
    """One life of the journal actor. `committed` is told of all that is on disk now."""

    def __init__(self, node: Node, disk: Disk, committed: Callable[[list[Numbered]], None]) -> None:
        super().__init__(node, "journal")
        self._disk = disk
        self.journal, self.reads = disk.open()
        self._committed = committed
        self._waiting: deque[Append] = deque()
        self._boundary: deque[LoadLive | LoadOpen] = deque()
        self._writing: list[Append] | None = None
        self._cycle = False

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the disk."""
        return not self._cycle and not len(self)

    def take(self, message: object) -> None:
        """Take appends, and answer what is asked of the disk."""
        match message:
            case Append():
                self._waiting.append(message)
                self._wake()
            case Lookup(sender, token, refs):
                self.node.send(sender, self.reads.look_up(token, refs))
            case FetchSpecs(sender, tasks):
                self.node.send(sender, SpecsFetched(self.reads.specs(tasks)))
            case MatchCommands():
                self.deliver(_Scan(message))
            case _Scan():
                self._scan(message)
            case LoadLive(sender) | LoadOpen(sender):
                self._waiting = deque(a for a in self._waiting if a.sender != sender)
                self._boundary.append(message)
                self._wake()

    def stop(self, in_order: bool) -> None:
        """A commit under way may or may not have reached the disk."""
        super().stop(in_order)
        writing, self._writing = self._writing, None
        if writing is not None and self._disk.full < 2 and self.node.chance.random() < 0.5:
            self._write(writing)

    def _scan(self, scan: _Scan) -> None:
        rows = self.reads.commands(scan.after, SLICE_ENTRIES)
        scan.found += [task for _, task, spec in rows if search(scan.message.regex, spec)]
        if rows:
            scan.after = rows[-1][0]
            self.deliver(scan)
        else:
            answer = CommandsMatched(scan.message.regex, scan.found)
            self.node.send(scan.message.sender, answer)

    # ---- the cycle of commits; each step is a turn of its own ----

    def _wake(self) -> None:
        if not self._cycle:
            self._cycle = True
            self._soon(self._begin)

    def _soon(self, step: Callable[[], None], at_most_s: float | None = None) -> None:
        delay_s = self.node.chance.random() * (self.node.turn_s if at_most_s is None else at_most_s)
        self.node.clock.after(delay_s, lambda: self.node.when_awake(lambda: self._run(step)))

    def _run(self, step: Callable[[], None]) -> None:
        if self.alive:
            step()

    def _begin(self) -> None:
        self._load_all()
        if not self._waiting:
            self._cycle = False
            return
        batch: list[Append] = []
        while self._waiting:
            append = self._waiting.popleft()
            if self._disk.full and isinstance(append.entries[0], Submitted):
                self._fail(append)
            else:
                batch.append(append)
        self._writing = batch
        self._soon(self._reach_disk, self._disk.commit_s)

    def _reach_disk(self) -> None:
        writing, self._writing = self._writing, None
        assert writing is not None
        if self._disk.full == 2 and writing:
            for append in writing:
                self.journal.write(append.entries)
            self.journal.rollback()
            for append in writing:
                self._fail(append)
            self._soon(self._begin)
            return
        batch, written = self._write(writing)
        self._soon(lambda: self._publish(batch, written))

    def _write(self, appends: list[Append]) -> tuple[_Batch, list[Numbered]]:
        batch: _Batch = []
        written: list[Numbered] = []
        for append in appends:
            result = self.journal.write(append.entries)
            written += result.entries
            batch.append((append, result.refused))
        if batch:
            self.journal.commit()
            if not self._disk.fsync and self.node.chance.random() < 0.05:
                self._disk.sync()
            self._committed(written)
        return batch, written

    def _publish(self, batch: _Batch, written: list[Numbered]) -> None:
        for start in range(0, len(written), SLICE_ENTRIES):
            self.node.send("queue", Committed(written[start : start + SLICE_ENTRIES]))
        for append, refused in batch:
            specs = {}
            if append.want_specs:
                for entry in append.entries:
                    task = entry.task  # type: ignore[union-attr]
                    spec = self.reads.spec(task)
                    assert spec is not None, f"no spec of {task}"
                    specs[task] = spec
            self.node.send(append.sender, Appended(append.token, refused, specs))
        self._begin()

    def _fail(self, append: Append) -> None:
        self.node.send(append.sender, AppendFailed(append.token, DiskFull("the disk is full")))

    def _load_all(self) -> None:
        while self._boundary:
            message = self._boundary.popleft()
            if isinstance(message, LoadOpen):
                node = self._disk.node_id
                attempts, tags = self.reads.open_attempts(node), self.reads.tags(node)
                answer = Open(attempts, tags, message.life)
                self.node.send(message.sender, answer)
            else:
                for loaded in load_live(self.journal, self.reads, message.life):
                    self.node.send(message.sender, loaded)


def load_live(journal: Journal, reads: Reads, life: int) -> list[Loaded]:
    """The answer to `LoadLive`, in slices."""
    answers: list[Loaded] = []
    live = reads.live()
    while part := list(islice(live, SLICE_ENTRIES)):
        answers.append(Loaded(part, life=life))
    finals = reads.ended()
    last = Loaded([], True, journal.node, journal.number, finals, life)
    return [*answers, last]
